"""The graph as it is compiled for Kubeflow and Vertex."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.errors import InputError
from pipeline import cli, run_kubeflow, settings
from pipeline.deploy import run_task

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "kubeflow_pipeline.yaml"
UV = pathlib.Path(__file__).parents[2] / ".uv" / "bin" / "uv"
IMAGE = "registry.example.org/movierec:1"
NEWER_KFP = "2.17.0"
SPLITS = {"sample": "leave_last_out", "ml-100k": "fold:u1"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiles a data set once: (path, defaults told, documents)."""
    known = {}

    def compile_(dataset, target="kubeflow", root="", **more):
        key = (dataset, target, root, *sorted(more))
        if key not in known:
            path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
            given = settings.load(dataset, split=SPLITS[dataset], **more)
            told = run_kubeflow.compile_to(given, run_kubeflow.Target(target, IMAGE, root), path)
            known[key] = path, told, list(yaml.safe_load_all(path.read_text()))
        return known[key]

    return compile_


def normalised(text):
    """Without what changes with every line of code."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", text)
    return re.sub(r"sdkVersion: .*", "sdkVersion: TFX", text)


def test_the_compiled_pipeline_is_the_golden_one(compiled):
    path, _, _ = compiled("sample", warm_start=True, one_call=True)
    found = normalised(path.read_text())
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text(), f"if the change is meant: UPDATE_GOLDEN=1 pytest {__file__}"


def test_it_is_what_the_protos_say_to_the_last_field(compiled):
    _, _, (spec, platform) = compiled("sample")
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())  # unknown fields are errors
    assert parsed.schema_version == "2.1.0"
    deployment = json_format.ParseDict(spec["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
    kinds = {executor.WhichOneof("spec") for executor in deployment.executors.values()}
    assert kinds == {"container"}, "the open-source driver knows no resolvers, and importers are not needed"
    for executor in deployment.executors.values():
        assert executor.container.image == IMAGE and list(executor.container.command) == run_kubeflow.COMMAND
        assert not executor.container.HasField("lifecycle"), "it has no driver hooks"
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    mounts = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(mounts) == set(spec["deploymentSpec"]["executors"])
    assert next(iter(mounts.values())) == {"pvcMount": [{"constant": "movierec", "mountPath": "/mnt/movierec"}]}


def test_the_defaults_of_parameters_are_there_and_are_told(compiled):
    _, told, (spec, _) = compiled("ml-100k")
    defined = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: one["defaultValue"] for name, one in defined.items()} == told
    assert told["dataset"] == "ml-100k" and told["root"] == "/mnt/movierec" and told["seed"] == 7
    assert (told["rating_min"], told["rating_max"], told["environment"]) == (1.0, 5.0, "demographics")
    gate = settings.load("ml-100k").ranking.gates["fold"]["rmse"]
    assert json.loads(told["ranking_gates"])["rmse"]["max"] == gate.max and "retrieval_gates" not in told
    used = {
        given["componentInputParameter"]
        for task in spec["root"]["dag"]["tasks"].values()
        for given in task["inputs"].get("parameters", {}).values()
        if "componentInputParameter" in given
    }
    assert used == set(told)


def test_every_placeholder_is_an_input_of_its_task(compiled):
    _, _, (spec, _) = compiled("sample")
    spoken_of = set()
    for name, task in spec["root"]["dag"]["tasks"].items():
        given = task["inputs"].get("parameters", {})
        inputs = spec["components"][name]["inputDefinitions"].get("parameters", {})
        assert set(given) == set(inputs), name
        for one in given.values():
            found = set(re.findall(r"parameters\['(\w+)'\]", str(one.get("runtimeValue", {}).get("constant", ""))))
            assert found <= set(given), name
            spoken_of |= found
    assert spoken_of == {"root", "seed", "rating_min", "rating_max"}
    config = spec["root"]["dag"]["tasks"]["RankingTrainer"]["inputs"]["parameters"]["custom_config"]
    text = re.sub(r"{{\$\.inputs\.parameters\['\w+'\]}}", "3", config["runtimeValue"]["constant"])
    assert json.loads(text)["seed"] == 3 and json.loads(text)["rating_range"] == [3, 3]


def test_what_looks_into_the_root_is_never_answered_from_the_cache(compiled):
    _, _, (spec, _) = compiled("sample", warm_start=True, one_call=True)
    cached = {name for name, task in spec["root"]["dag"]["tasks"].items() if task["cachingOptions"].get("enableCache")}
    assert set(spec["root"]["dag"]["tasks"]) - cached == set(run_kubeflow.NEVER_CACHED)
    for name, task in spec["root"]["dag"]["tasks"].items():
        assert name not in cached or "root" not in task["inputs"].get("parameters", {}), name


def test_trainers_alone_are_told_to_train_with_others(tmp_path):
    target = run_kubeflow.Target("kubeflow", IMAGE, claim="shared", num_train_workers=3)
    chosen = settings.load("sample", split="random", ranking_family="deep")
    run_kubeflow.compile_to(chosen, target, tmp_path / "p.yaml")
    spec = run_kubeflow.read(tmp_path / "p.yaml")
    told = {
        name: {one["name"]: one["value"] for one in executor["container"].get("env", ())}
        for name, executor in spec["deploymentSpec"]["executors"].items()
    }
    wanted = {
        run_task.WORKERS_VARIABLE: "3", run_task.IMAGE_VARIABLE: IMAGE, run_task.CLAIM_VARIABLE: "shared",
    }  # fmt: skip
    assert {name: env for name, env in told.items() if env} == {"RankingTrainer_executor": wanted}
    given = spec["root"]["dag"]["tasks"]["RankingTrainer"]["inputs"]["parameters"]
    assert given["root"] == {"componentInputParameter": "root"}
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())


def test_families_that_one_machine_trains_have_no_tfjob(tmp_path):
    target = run_kubeflow.Target("kubeflow", IMAGE, num_train_workers=2)
    both = settings.load("sample", split="leave_last_out", ranking_family="factorization_machine")
    assert run_kubeflow.trained_together(both, target) == ("retrieval",)
    ranking = settings.load("sample", split="random", ranking_family="factorization_machine")
    with pytest.raises(InputError, match=r"ranking factorization_machine is trained by one pod; .*--ranking deep"):
        run_kubeflow.compile_to(ranking, target, tmp_path / "p.yaml")
    assert not (tmp_path / "p.yaml").exists()


@pytest.mark.parametrize(
    "name, root, claim, message",
    [("vertex", "gs://b/p", "movierec", "vertex knows no TFJob"), ("kubeflow", "", "", "the volume of the root")],
)
def test_pods_that_train_together_need_an_operator_and_a_volume(name, root, claim, message):
    with pytest.raises(InputError, match=message):
        run_kubeflow.Target(name, IMAGE, root, claim, num_train_workers=2)


def test_types_are_told_by_title_wherever_one_is_told(compiled):
    path, _, _ = compiled("sample")
    text = path.read_text()
    assert "instanceSchema" not in text and text.count("schemaTitle") > 50


def test_vertex_needs_a_bucket_and_keeps_the_root_in_it(compiled):
    _, told, documents = compiled("sample", "vertex", "gs://bucket/movierec/")
    assert len(documents) == 1, "there are no volumes to mount"
    assert documents[0]["defaultPipelineRoot"] == "gs://bucket/movierec"
    assert told["root"] == "/gcs/bucket/movierec/root"


@pytest.mark.parametrize(
    "target, root, wanted",
    [
        ("vertex", "", "begins with gs://"),
        ("vertex", "s3://bucket", "begins with gs://"),
        ("kubeflow", "/mnt/artifacts", "begins with s3:// or minio:// or gs://"),
    ],
)
def test_a_pipeline_root_that_its_runner_cannot_reach_is_refused(target, root, wanted):
    with pytest.raises(InputError, match=wanted):
        run_kubeflow.Target(target, IMAGE, root)


def test_the_verb_and_its_errors(tmp_path, monkeypatch, capsys):
    def status(*arguments):
        monkeypatch.setattr(sys, "argv", ["movierec", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr()

    given = ("compile", "--target", "kubeflow", "--image", IMAGE, "--split", "random", "--output")
    code, said = status(*given, tmp_path / "p.yaml")
    assert code == 0 and f"artifacts under {run_kubeflow.DEFAULT_PIPELINE_ROOT}" in said.out and "seed" in said.out
    assert run_kubeflow.read(tmp_path / "p.yaml")["defaultPipelineRoot"] == run_kubeflow.DEFAULT_PIPELINE_ROOT
    for output, wanted in (("p.json", "ends in .yaml"), ("nowhere/p.yaml", "No such file")):
        code, said = status(*given, tmp_path / output)
        assert code == 2 and wanted in said.err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, said = status(*given, tmp_path / "p.yaml")
    assert code == 2 and "movierec[kubeflow]" in said.err


@pytest.mark.parametrize("text", ["", "a: [", "a: 1\n", "- 1\n"])
def test_a_file_that_is_no_pipeline_is_named(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InputError, match=r"p\.yaml is no compiled pipeline"):
        run_kubeflow.read(tmp_path / "p.yaml")


def as_pip_is_told():
    """Behind a mirror or a proxy pip is what people have configured: uv is told the same, as the set-up does."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    configured = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    mirror = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or configured
    return {"UV_SYSTEM_CERTS": "true", **os.environ, **({"UV_DEFAULT_INDEX": mirror} if mirror else {})}


def test_a_newer_kfp_loads_it(compiled, tmp_path):
    """In an environment of its own: it does not fit beside TFX."""
    path, told, _ = compiled("sample")
    python = tmp_path / "venv" / "bin" / "python"
    for command in (
        [UV, "venv", "-q", "--python", sys.executable, tmp_path / "venv"],
        [UV, "pip", "install", "-q", "--python", python, f"kfp=={NEWER_KFP}"],
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=as_pip_is_told())
        if done.returncode:
            pytest.skip(f"no environment with kfp {NEWER_KFP}: {done.stderr.strip()[-300:]}")
    script = (
        "import json, sys, kfp\n"
        "found = kfp.components.load_component_from_file(sys.argv[1])\n"
        "inputs = found.component_spec.inputs\n"
        "print(json.dumps([kfp.__version__, found.name, {name: one.default for name, one in inputs.items()},\n"
        "    list(found.platform_spec.platforms)]))"
    )
    done = subprocess.run([str(python), "-W", "ignore", "-c", script, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    version, name, defaults, platforms = json.loads(done.stdout)
    assert (version, name, defaults, platforms) == (NEWER_KFP, "movierec", told, ["kubernetes"])
