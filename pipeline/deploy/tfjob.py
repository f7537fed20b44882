"""Has a Trainer's task done by several pods: copies its inputs to the shared root, makes a TFJob, brings back what
the chief left. A TFJob's pods cannot see the folders that Kubeflow's launcher fills in the Trainer's own pod.
"""

from __future__ import annotations

import copy
import json
import pathlib
import shutil
import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from pipeline.deploy import addresses

MANIFEST = pathlib.Path(__file__).with_name("tfjob.yaml")
_GROUP, _VERSION, _PLURAL = "kubeflow.org", "v1", "tfjobs"
_POLL_S = 10.0
_NAMESPACE_FILE = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Jobs(Protocol):
    """The part of Kubernetes that is needed: kubernetes.client.CustomObjectsApi has it."""

    def create_namespaced_custom_object(
        self, group: str, version: str, namespace: str, plural: str, body: dict[str, Any]
    ) -> Any:
        """Makes a job."""

    def get_namespaced_custom_object(self, group: str, version: str, namespace: str, plural: str, name: str) -> Any:
        """The job, with its status."""


def run(
    arguments: Sequence[str], invocation: dict[str, Any], workers: int, image: str, claim: str, prefix: str = "",
    jobs: Jobs | None = None, poll_s: float = _POLL_S,
) -> None:
    """Runs a task in so many pods, and returns when it has succeeded.

    Args:
      arguments: the task's, as run_task was called.
      invocation: its ExecutorInput, as the launcher made it; its parameter `root` is the shared folder.
      workers: how many pods.
      image: of the pods.
      claim: the PersistentVolumeClaim of the root.
      prefix: before the launcher's folders.
      jobs: Kubernetes; None: the cluster that this pod is in.
      poll_s: between two looks at the job.

    Raises:
      RuntimeError: the job failed.
    """
    name = f"movierec-train-{uuid.uuid4().hex[:12]}"
    shared = pathlib.Path(invocation["inputs"]["parameterValues"]["root"]) / "tfjobs" / name
    shared.mkdir(parents=True)
    try:
        for artifact in addresses.artifacts_of(invocation["inputs"]):
            _copy(artifact["uri"], prefix, str(shared))
        there = copy.deepcopy(invocation)
        output_file = invocation["outputs"]["outputFile"]
        there["outputs"]["outputFile"] = f"{shared}{output_file.removeprefix(prefix)}"
        place = list(arguments).index("--json_serialized_invocation_args") + 1
        told = [*arguments[:place], json.dumps(there), *arguments[place + 1 :]]
        _wait(jobs or _cluster(), _manifest(name, image, claim, workers, told, shared), poll_s)
        for artifact in addresses.artifacts_of(invocation["outputs"]):
            _copy(artifact["uri"], str(shared), prefix)
        left = pathlib.Path(there["outputs"]["outputFile"])
        pathlib.Path(output_file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(left, output_file)
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def _manifest(
    name: str, image: str, claim: str, workers: int, arguments: list[str], shared: pathlib.Path
) -> dict[str, Any]:
    import yaml

    manifest: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    manifest["metadata"]["name"] = name
    replicas = manifest["spec"]["tfReplicaSpecs"]["Worker"]
    replicas["replicas"] = workers
    pod = replicas["template"]["spec"]
    [volume], [container] = pod["volumes"], pod["containers"]
    volume["persistentVolumeClaim"]["claimName"] = claim
    container["image"] = image
    container["args"] = arguments
    container["env"] = [{"name": addresses.PREFIX_VARIABLE, "value": str(shared)}]
    return manifest


def _wait(jobs: Jobs, manifest: dict[str, Any], poll_s: float) -> None:
    namespace = _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.is_file() else "default"
    name = manifest["metadata"]["name"]
    jobs.create_namespaced_custom_object(_GROUP, _VERSION, namespace, _PLURAL, manifest)
    while True:
        job = jobs.get_namespaced_custom_object(_GROUP, _VERSION, namespace, _PLURAL, name)
        conditions = job.get("status", {}).get("conditions") or []
        state = {one["type"]: one.get("message", "") for one in conditions if one["status"] == "True"}
        if "Succeeded" in state:
            return
        if "Failed" in state:
            raise RuntimeError(
                f"TFJob {name} failed: {state['Failed']}; its pods are kept:"
                f" kubectl logs -n {namespace} -l training.kubeflow.org/job-name={name}"
            )
        time.sleep(poll_s)


def _cluster() -> Jobs:
    import kubernetes

    kubernetes.config.load_incluster_config()
    return kubernetes.client.CustomObjectsApi()


def _copy(address: str, source_prefix: str, target_prefix: str) -> None:
    source, target = (pathlib.Path(addresses.local_path(address, prefix)) for prefix in (source_prefix, target_prefix))
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
