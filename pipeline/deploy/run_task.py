"""The entry point of every task: what Kubeflow's launcher hands over, made into what TFX expects, and back.

The open-source launcher copies artifacts between the object store and local folders, but tells the task their
addresses in the store; and its driver forgets the types of inputs. So types are filled in from the component's own
definition, s3://BUCKET/KEY becomes /s3/BUCKET/KEY (minio and gs likewise), where the launcher puts it; then
TFX's own kubeflow_v2_run_executor runs, and in what it leaves the addresses are turned back.

    python -m pipeline.deploy.run_task --executor_class_path CLASS --json_serialized_invocation_args '{{$}}'
        --json_serialized_inputs_spec_args SPEC [Beam's arguments]

Beam starts its workers from the same image with arguments of its own; those go to Beam's own boot program.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import resource
import sys
import tempfile
import time
from typing import Any

from pipeline.deploy import late_imports
from pipeline.deploy.addresses import PREFIX_VARIABLE, artifacts_of, local_path, remote_address

WORKERS_VARIABLE, IMAGE_VARIABLE = "MOVIEREC_TRAIN_WORKERS", "MOVIEREC_IMAGE"
CLAIM_VARIABLE = "MOVIEREC_CLAIM"
"""Environment of a Trainer's pod: how many pods are to train together, their image, and the root's volume claim."""
BEAM_BOOT = "/opt/apache/beam/boot"
"""In the image: what Beam starts a worker by."""


def main(arguments: list[str]) -> None:
    """Runs the task.

    Raises:
      ValueError: an input's type is neither told nor defined.
    """
    began_s = time.monotonic()
    if any(argument.startswith(("--provision_endpoint", "--worker_pool")) for argument in arguments):
        os.execv(BEAM_BOOT, [BEAM_BOOT, *arguments])
    # Before anything of TFX or Kubeflow is imported: kfp's own client and compiler are not needed here.
    os.environ.setdefault("_KFP_RUNTIME", "true")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    told, _ = _parser().parse_known_args(arguments)
    prefix = os.environ.get(PREFIX_VARIABLE, "")
    defined = json.loads(told.json_serialized_inputs_spec_args or "{}")
    invocation = json.loads(told.json_serialized_invocation_args)
    num_workers = int(os.environ.get(WORKERS_VARIABLE, "1"))
    if num_workers > 1:
        from pipeline.deploy import tfjob

        tfjob.run(arguments, invocation, num_workers, os.environ[IMAGE_VARIABLE], os.environ[CLAIM_VARIABLE], prefix)
        return
    invocation = localised(invocation, defined, prefix)
    if not is_first(os.environ.get("TF_CONFIG", "")):
        invocation["outputs"]["outputFile"] = f"{tempfile.mkdtemp()}/output_metadata.json"  # the first one's counts
    for artifact in artifacts_of(invocation["outputs"]):
        pathlib.Path(artifact["uri"]).parent.mkdir(parents=True, exist_ok=True)
    place = arguments.index("--json_serialized_invocation_args") + 1
    arguments = [*arguments[:place], json.dumps(invocation), *arguments[place + 1 :]]

    late_imports.prepare()
    importlib.import_module(told.executor_class_path.rpartition(".")[0])
    late_imports.leave_out_the_evaluator()
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    imported_s, imported_cpu_s = time.monotonic(), time.process_time()
    kubeflow_v2_run_executor.main(kubeflow_v2_run_executor._parse_flags(arguments))
    output_path = pathlib.Path(invocation["outputs"]["outputFile"])
    if output_path.is_file():
        output_path.write_text(json.dumps(remote(json.loads(output_path.read_text()), prefix)))
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"movierec: {told.executor_class_path} took {time.monotonic() - began_s:.1f} s, {imported_s - began_s:.1f} of"
        f" them imports; CPU {time.process_time():.1f} s, {imported_cpu_s:.1f} of them imports;"
        f" peak memory {memory_mib} MiB",
        flush=True,
    )


def is_first(tf_config: str) -> bool:
    """Whether of pods that do one task together this is the one whose outputs count."""
    task = json.loads(tf_config or "{}").get("task", {})
    return task.get("type", "worker") in ("chief", "worker") and int(task.get("index", 0)) == 0


def localised(invocation: dict[str, Any], defined: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """An ExecutorInput as TFX wants it.

    Args:
      invocation: the launcher's ExecutorInput, as JSON has it.
      defined: the component's inputDefinitions.
      prefix: before the launcher's folders; usually "".

    Raises:
      ValueError: an input's type is neither told nor defined.
    """
    inputs = invocation.setdefault("inputs", {})
    outputs = invocation.setdefault("outputs", {})
    for name, given in inputs.get("artifacts", {}).items():
        for artifact in given.get("artifacts", []):
            kind = artifact.get("type") or defined.get("artifacts", {}).get(name, {}).get("artifactType")
            if not kind:
                raise ValueError(f"The launcher tells no type of the input {name!r}, and the component defines none.")
            artifact["type"] = kind
    for artifact in (*artifacts_of(inputs), *artifacts_of(outputs)):
        artifact["uri"] = local_path(artifact["uri"], prefix)
    return invocation


def remote(output: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """An ExecutorOutput as the launcher wants it: by the addresses that it knows."""
    for artifact in artifacts_of(output):
        artifact["uri"] = remote_address(artifact["uri"], prefix)
        # What an executor notes of addresses (a blessing: of which model) is true elsewhere, too.
        noted = artifact.get("metadata", {})
        artifact["metadata"] = {
            key: remote_address(value, prefix) if isinstance(value, str) else value for key, value in noted.items()
        }
    return output


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pipeline.deploy.run_task", description="Runs one task of the pipeline.")
    parser.add_argument("--executor_class_path", required=True, help="Dotted path of the executor.")
    parser.add_argument("--json_serialized_invocation_args", required=True, help="ExecutorInput, as JSON.")
    parser.add_argument("--json_serialized_inputs_spec_args", help="The component's inputDefinitions, as JSON.")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
