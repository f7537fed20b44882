"""Compiles the graph for Kubeflow Pipelines 2 (open source) and Vertex, with TFX's KubeflowV2DagRunner.

What TFX makes does not yet run on the open-source back end; here it is made to:

* a RuntimeParameter's default is dropped by TFX, and put back;
* artifact types are told by title: the open-source driver knows no schema beside it;
* paths under the root and numbers inside a JSON text are filled in when a task starts ("{{$.inputs.parameters[...]}}");
* components without a driver look into the root themselves (graph.create_pipeline, has_drivers), and what looks there
  or changes something there is never answered from the cache;
* our entry point (pipeline/deploy/run_task.py) is the command of every task;
* the volume that holds the root is mounted into every pod, by a second YAML document.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import tempfile
from collections.abc import Collection, Mapping
from typing import Any

from components.editions import OWN, OWN_FILES, get_edition
from components.errors import InputError
from pipeline import digests, run_local
from pipeline.deploy import run_task
from pipeline.digests import Source
from pipeline.settings import Settings
from trainer_modules import hyperparameters

KUBEFLOW, VERTEX = "kubeflow", "vertex"
SCHEMES = {KUBEFLOW: ("s3://", "minio://", "gs://"), VERTEX: ("gs://",)}
"""Of the pipeline root, by target."""
DEFAULT_PIPELINE_ROOT = "minio://mlpipeline/v2/artifacts"
"""Kubeflow Pipelines' own, in the object store that it is installed with."""
MOUNT_PATH = "/mnt/movierec"
"""Where the volume that holds the root is mounted."""
DEFAULT_CLAIM = "movierec"
"""Name of the PersistentVolumeClaim."""
COMMAND = ["python", "-m", "pipeline.deploy.run_task"]
NEVER_CACHED = (
    "MovieLensExampleGen", "PinnedSchema", "DistributionCheck", "AnomalyGate", "InfraValidation", "AtomicPush",
    "RetrievalWarmStart", "RankingWarmStart", "RetrievalLastBlessed", "RankingLastBlessed",
)  # fmt: skip
"""They look into the root, or change it; Kubeflow's cache sees parameters alone. Also a refusal must be tried again."""

_INPUT = re.compile(r"{{\$\.inputs\.parameters\['(\w+)'\]}}")
_TITLE = re.compile(r"^title: (\S+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Target:
    """Where the compiled pipeline is to run."""

    name: str
    """KUBEFLOW or VERTEX."""
    image: str
    """Of every pod."""
    pipeline_root: str = ""
    """Where artifacts are kept: a folder of a bucket; "": Kubeflow's own."""
    claim: str = DEFAULT_CLAIM
    """The PersistentVolumeClaim mounted at MOUNT_PATH; "": none is mounted."""
    num_train_workers: int = 1
    """Pods that train a model together, by a TFJob where there are several."""

    def __post_init__(self) -> None:
        known = SCHEMES[self.name]
        if not self.where.startswith(known):
            told = f"--pipeline-root is {self.pipeline_root!r}" if self.pipeline_root else "there is no default"
            raise InputError(
                f"{self.name} keeps artifacts in a bucket: {told}; give one that begins with {' or '.join(known)}"
            )
        if self.num_train_workers > 1 and self.name != KUBEFLOW:
            raise InputError(f"--train-workers {self.num_train_workers}: {self.name} knows no TFJob; leave it out")
        if self.num_train_workers > 1 and not self.claim:
            raise InputError("--claim '': the pods of a TFJob meet on the volume of the root; name its claim")

    @property
    def where(self) -> str:
        """The pipeline root, the default filled in."""
        return (self.pipeline_root or ("" if self.name == VERTEX else DEFAULT_PIPELINE_ROOT)).rstrip("/")

    @property
    def root(self) -> str:
        """The default of the parameter `root`. Vertex mounts buckets at /gcs."""
        return self.where.replace("gs://", "/gcs/") + "/root" if self.name == VERTEX else MOUNT_PATH


def parameters(settings: Settings, root: str) -> dict[str, str | int | float]:
    """The values of the runtime parameters for these settings.

    Those of a data set belong together: stars, schema environment and gates go with it.

    Args:
      settings: of the run.
      root: the shared folder as a pod sees it.
    """
    # Files of one's own are read from spans, and those know their range; here it is the settings'.
    edition = None if settings.dataset == OWN_FILES else get_edition(settings.dataset)
    low, high = edition.rating_range if edition else settings.rating_range or (0.5, 5.0)
    # Imported here: it takes TFX.
    from pipeline import graph

    return {
        "root": root,
        "dataset": settings.dataset,
        "data_dir": str(settings.data_dir or ""),
        "environment": edition.environment if edition else OWN,
        "rating_min": float(low),
        "rating_max": float(high),
        "seed": settings.seed,
        "max_bad_share": settings.max_bad_share,
        "limits": json.dumps(dataclasses.asdict(settings.limits), sort_keys=True),
        "keep_versions": settings.keep_versions,
        **{f"{name}_gates": graph.gates(settings, name) for name in settings.models},
    }


def trained_together(settings: Settings, target: Target) -> tuple[str, ...]:
    """The models that several pods train.

    Raises:
      InputError: several are asked for, and no model's family can be trained so.
    """
    if target.num_train_workers == 1:
        return ()
    able = hyperparameters.TRAINED_TOGETHER
    found = tuple(name for name in settings.models if getattr(settings, name).family == able[name])
    if not found:
        chosen = ", ".join(f"{name} {getattr(settings, name).family}" for name in settings.models)
        raise InputError(
            f"--train-workers {target.num_train_workers}: {chosen} is trained by one pod; several can train "
            + " and ".join(f"{name} {able[name]} (--{name} {able[name]})" for name in settings.models)
        )
    return found


def compile_to(settings: Settings, target: Target, output: pathlib.Path) -> dict[str, str | int | float]:
    """Writes the pipeline as YAML.

    Args:
      settings: of the run; `data_dir` as a pod sees it.
      target: where it is to run.
      output: the file.

    Returns:
      The runtime parameters and their defaults.

    Raises:
      InputError: kfp is not installed, the file cannot be written, or several pods are to train what they cannot.
    """
    require_kfp()
    if output.suffix not in (".yaml", ".yml"):
        raise InputError(f"--output {output}: the pipeline is YAML; give a name that ends in .yaml")
    if settings.serving_logs:
        raise InputError("--serving-log: a pod cannot see this machine's files; leave it out")
    import yaml

    values = parameters(settings, target.root)
    documents = [_spec(settings, target, values)]
    if target.name == KUBEFLOW and target.claim:
        documents.append(_platform(documents[0], target.claim))
    text = "".join(f"# {name}: {value}\n" for name, value in values.items())
    try:
        output.write_text(
            f"# movierec, compiled for {target.name}. Parameters and their defaults:\n{text}"
            + yaml.safe_dump_all(documents, sort_keys=True, width=120)
        )
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror}; give a file that can be written") from error
    return values


def read(path: pathlib.Path) -> dict[str, Any]:
    """The PipelineSpec of a compiled pipeline.

    Raises:
      InputError: the file holds none.
    """
    import yaml

    try:
        spec = next(yaml.safe_load_all(path.read_text()), None)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no compiled pipeline ({error}); `movierec compile` makes one") from error
    if not isinstance(spec, dict) or "deploymentSpec" not in spec:
        raise InputError(f"{path} is no compiled pipeline; `movierec compile` makes one")
    return spec


def require_kfp() -> None:
    """Raises InputError, naming the extra, where kfp is not installed."""
    import importlib.util

    if importlib.util.find_spec("kfp") is None:
        raise InputError("Kubeflow needs the package kfp, which is not installed: pip install 'movierec[kubeflow]'")


def _spec(settings: Settings, target: Target, values: Mapping[str, Any]) -> dict[str, Any]:
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as runner

    from pipeline import graph

    # Absolute, so that it stays what it is; the slash goes below.
    rooted = dataclasses.replace(settings, root=pathlib.Path("/" + _input("root")))
    source = Source(
        path=values["data_dir"],
        digest="",
        environment=values["environment"],
        layout="",
        rating_range=(values["rating_min"], values["rating_max"]),
    )
    beam_arguments = [*run_local.BEAM_ARGUMENTS[:-1], f"--sdk_container_image={target.image}"]
    pipeline = graph.create_pipeline(rooted, source, digests.of_code(), beam_arguments, has_drivers=False)
    pipeline.pipeline_info.pipeline_root = target.where
    for component in pipeline.components:
        _bind(component, values)
    config = runner.KubeflowV2DagRunnerConfig(
        default_image=target.image, default_commands=COMMAND, use_pipeline_spec_2_1=True
    )
    with tempfile.TemporaryDirectory() as folder:
        job = runner.KubeflowV2DagRunner(config, output_dir=folder).run(pipeline, write_out=False)
    trainers = [f"{name.capitalize()}Trainer" for name in trained_together(settings, target)]
    return _finished(job["pipelineSpec"], target, values, trainers)


def _bind(component: Any, values: Mapping[str, Any]) -> None:
    """Makes runtime parameters of the execution properties that are such."""
    from tfx.orchestration.data_types import RuntimeParameter

    names = {name: name for name in values} | {"input_path": "data_dir"}
    model = next((name for name in ("retrieval", "ranking") if component.id.lower().startswith(name)), "")
    names["gates"] = f"{model}_gates"
    for prop, value in component.exec_properties.items():
        name = names.get(prop, "")
        if prop == "custom_config":
            # TFX takes a Trainer's settings as one JSON text.
            config = json.loads(value)
            low, high = _input("rating_min"), _input("rating_max")
            value = json.dumps({**config, "seed": "<seed>", "rating_range": "<range>"}, sort_keys=True)
            value = value.replace('"<seed>"', _input("seed")).replace('"<range>"', f"[{low}, {high}]")
            component.exec_properties[prop] = value
        elif name in values and prop != "root":
            component.exec_properties[prop] = RuntimeParameter(name, type(values[name]), values[name])


def _finished(
    spec: dict[str, Any], target: Target, values: Mapping[str, Any], together: Collection[str]
) -> dict[str, Any]:
    """What TFX leaves undone; together: the Trainers that are to have a TFJob."""
    spec["defaultPipelineRoot"] = target.where
    root_inputs = spec["root"].setdefault("inputDefinitions", {}).setdefault("parameters", {})
    for name, value in values.items():
        kind = {str: "STRING", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE"}[type(value)]
        root_inputs[name] = {"parameterType": kind, "defaultValue": value}
    for name, task in spec["root"]["dag"]["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        task["cachingOptions"] = {} if name in NEVER_CACHED else {"enableCache": True}
        _fill_in(task.get("inputs", {}).get("parameters", {}), component, root_inputs)
        for side in ("inputDefinitions", "outputDefinitions"):
            for artifact in component.get(side, {}).get("artifacts", {}).values():
                _tell_type_by_title(artifact)
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        if name in together:
            # A TFJob's pods see the root alone, so its Trainer is told where that is.
            _give(task["inputs"]["parameters"], component, "root", root_inputs)
            told = {
                run_task.WORKERS_VARIABLE: str(target.num_train_workers), run_task.IMAGE_VARIABLE: target.image,
                run_task.CLAIM_VARIABLE: target.claim,
            }  # fmt: skip
            container["env"] = [{"name": variable, "value": value} for variable, value in told.items()]
        place = container["args"].index("--json_serialized_inputs_spec_args") + 1
        container["args"][place] = json.dumps(component.get("inputDefinitions", {}), sort_keys=True)
    return spec


def _fill_in(inputs: dict[str, Any], component: dict[str, Any], root_inputs: Mapping[str, Any]) -> None:
    """Gives a task the parameters that its constants speak of."""
    spoken_of = set()
    for given in inputs.values():
        constant = given.get("runtimeValue", {}).get("constant")
        if isinstance(constant, str) and _INPUT.search(constant):
            given["runtimeValue"]["constant"] = constant.replace("/" + _input("root"), _input("root"))
            spoken_of |= set(_INPUT.findall(constant))
    for name in spoken_of:
        _give(inputs, component, name, root_inputs)


def _give(inputs: dict[str, Any], component: dict[str, Any], name: str, root_inputs: Mapping[str, Any]) -> None:
    """Makes a parameter of the run an input of a task."""
    inputs[name] = {"componentInputParameter": name}
    component["inputDefinitions"]["parameters"][name] = {"parameterType": root_inputs[name]["parameterType"]}


def _tell_type_by_title(artifact: dict[str, Any]) -> None:
    schema = artifact["artifactType"].pop("instanceSchema", None)
    if schema:
        found = _TITLE.search(schema)
        assert found, schema
        artifact["artifactType"] = {"schemaTitle": found[1], "schemaVersion": "0.0.1"}


def _platform(spec: Mapping[str, Any], claim: str) -> dict[str, Any]:
    """Mounts the volume that holds the root."""
    executors = {
        label: {"pvcMount": [{"constant": claim, "mountPath": MOUNT_PATH}]}
        for label in spec["deploymentSpec"]["executors"]
    }
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def _input(name: str) -> str:
    return "{{$.inputs.parameters['" + name + "']}}"
