"""Runs a compiled pipeline as Kubeflow's driver and launcher would, task by task, without containers or a cluster.

A simulation, told from their source (backend/src/v2 of Kubeflow Pipelines), of what a task can see and leave:

* a task starts when all it depends on have succeeded, and its condition, if it has one, holds;
* its ExecutorInput has the parameters of run, constants and components' defaults; artifacts by their address in the
  object store, without a type, with their metadata flat; a fresh address for every output;
* "{{$}}" and "{{$.inputs.parameters['x']}}" in its command are filled in, and the command is a process of its own;
* before it, its inputs, and they alone, are copied from the store into the task's own folder; after it, its outputs
  back, and what its output file says is laid over what the driver knew.

Not simulated: images, volumes, the cache, loops and nested graphs.
"""

from __future__ import annotations

import concurrent.futures as futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from components import file_trees
from components.durable_files import write_json
from pipeline import kfp_condition
from pipeline.deploy import addresses

SUCCEEDED, FAILED, SKIPPED, RESUMED = "succeeded", "failed", "skipped", "resumed"

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """How a task ended."""

    name: str
    state: str
    """SUCCEEDED, FAILED, SKIPPED: its condition did not hold or what it depends on did not succeed; or RESUMED: an
    earlier attempt had done it."""
    wall_s: float
    cpu_s: float
    outputs: Json
    """Key -> artifact: name, uri, metadata."""
    log_path: pathlib.Path


class Run:
    """One run of a compiled pipeline in a folder."""

    def __init__(self, spec: Json, folder: pathlib.Path, parameters: Mapping[str, Any], num_parallel: int = 2):
        """Prepares; what an earlier attempt in this folder did with the same spec and parameters is kept.

        Args:
          spec: the PipelineSpec, as YAML has it.
          folder: of the run; made where it is missing.
          parameters: of the run; the others have their defaults.
          num_parallel: tasks at a time.

        Raises:
          ValueError: a parameter that the pipeline does not have.
        """
        self._spec = spec
        self._folder = folder
        self._num_parallel = num_parallel
        self.tasks: Mapping[str, Json] = spec["root"]["dag"]["tasks"]
        defined = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        unknown = set(parameters) - set(defined)
        if unknown:
            raise ValueError(f"the pipeline has no parameter {', '.join(sorted(unknown))}; it has {', '.join(defined)}")
        self._parameters = {name: one.get("defaultValue") for name, one in defined.items()} | dict(parameters)
        self._store = folder / "object_store"
        self._digest = hashlib.sha256(json.dumps([spec, self._parameters], sort_keys=True).encode()).hexdigest()

    def execute(self, on_end: Callable[[Task], None]) -> dict[str, Task]:
        """Runs what can run, several at a time, and tells of every task as it ends.

        Returns:
          Name -> task, in the order in which they ended.
        """
        ended: dict[str, Task] = {}
        waiting = dict(self.tasks)
        running: dict[futures.Future[Task], str] = {}
        with futures.ThreadPoolExecutor(self._num_parallel) as pool:
            while waiting or running:
                for name in [name for name, task in waiting.items() if _needs(task) <= set(ended)]:
                    running[pool.submit(self._run, name, waiting.pop(name), dict(ended))] = name
                done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
                for one in done:
                    ended[running.pop(one)] = one.result()
                    on_end(one.result())
        return ended

    def stored(self, address: str) -> pathlib.Path:
        """Where an artifact lies in what stands for the object store."""
        return pathlib.Path(addresses.local_path(address, str(self._store)))

    def _run(self, name: str, task: Json, ended: Mapping[str, Task]) -> Task:
        folder = self._folder / "tasks" / name
        result_path = folder / "result.json"
        log_path = folder / "log.txt"
        if result_path.is_file():
            known = json.loads(result_path.read_text())
            if known["digest"] == self._digest:
                return Task(name, RESUMED, 0.0, 0.0, known["outputs"], log_path)
        # Of the results that outputs hang on none may be older than they are.
        if not all(ended[needed].state in (SUCCEEDED, RESUMED) for needed in _needs(task)):
            return Task(name, SKIPPED, 0.0, 0.0, {}, log_path)
        component = self._spec["components"][task["componentRef"]["name"]]
        inputs = self._inputs(task, component, ended)
        condition = task.get("triggerPolicy", {}).get("condition")
        if condition and not kfp_condition.holds(condition, inputs):
            return Task(name, SKIPPED, 0.0, 0.0, {}, log_path)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        invocation = {"inputs": inputs, "outputs": self._outputs(name, component, folder)}
        return self._launch(name, invocation, component, folder, log_path, result_path)

    def _inputs(self, task: Json, component: Json, ended: Mapping[str, Task]) -> Json:
        """The driver's part: resolves what a task is given."""
        values: Json = {}
        for name, given in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in given:
                values[name] = self._parameters[given["componentInputParameter"]]
            else:
                values[name] = given["runtimeValue"]["constant"]
        for name, defined in component.get("inputDefinitions", {}).get("parameters", {}).items():
            if name not in values and "defaultValue" in defined:
                values[name] = defined["defaultValue"]
        artifacts = {}
        for name, given in task.get("inputs", {}).get("artifacts", {}).items():
            origin = given["taskOutputArtifact"]
            artifacts[name] = {"artifacts": [ended[origin["producerTask"]].outputs[origin["outputArtifactKey"]]]}
        return {"parameterValues": values, "artifacts": artifacts}

    def _outputs(self, name: str, component: Json, folder: pathlib.Path) -> Json:
        """Fresh addresses under the pipeline root."""
        base = f"{self._spec['defaultPipelineRoot']}/{self._spec['pipelineInfo']['name']}/{self._folder.name}"
        address = f"{base}/{name}/{uuid.uuid4()}"
        artifacts = {
            key: {"artifacts": [{"name": key, "uri": f"{address}/{key}", "type": one["artifactType"], "metadata": {}}]}
            for key, one in component.get("outputDefinitions", {}).get("artifacts", {}).items()
        }
        task_folder = addresses.local_path(address, str(folder / "pod"))
        return {"artifacts": artifacts, "outputFile": f"{task_folder}/output_metadata.json"}

    def _launch(
        self, name: str, invocation: Json, component: Json, folder: pathlib.Path, log_path: pathlib.Path,
        result_path: pathlib.Path,
    ) -> Task:
        """The launcher's part: copies in, runs, copies out."""
        container = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        pod, working_directory = folder / "pod", folder / "work"
        working_directory.mkdir()
        (folder / "executor_input.json").write_text(json.dumps(invocation, indent=1))
        for artifact in addresses.artifacts_of(invocation["inputs"]):
            self._copy(artifact["uri"], self._store, pod)
        for artifact in addresses.artifacts_of(invocation["outputs"]):
            pathlib.Path(addresses.local_path(artifact["uri"], str(pod))).parent.mkdir(parents=True, exist_ok=True)
        command = [_filled(part, invocation) for part in (*container["command"], *container.get("args", ()))]
        environment = {
            **os.environ,
            addresses.PREFIX_VARIABLE: str(pod),
            # "python" is this one, as it is the image's own there.
            "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        began_s = time.monotonic()
        with log_path.open("w") as log:
            process = subprocess.Popen(
                command, cwd=working_directory, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s, cpu_s = time.monotonic() - began_s, _cpu_s(used)
        if process.returncode:
            return Task(name, FAILED, wall_s, cpu_s, {}, log_path)
        outputs = self._collected(invocation["outputs"], pod)
        shutil.rmtree(pod)
        write_json(result_path, {"digest": self._digest, "outputs": outputs})
        return Task(name, SUCCEEDED, wall_s, cpu_s, outputs, log_path)

    def _collected(self, provisioned: Json, pod: pathlib.Path) -> Json:
        """What the output file says, over what the driver knew; without types, as ML Metadata gives it back there."""
        path = pathlib.Path(provisioned["outputFile"])
        told = json.loads(path.read_text()).get("artifacts", {}) if path.is_file() else {}
        outputs = {}
        for key, one in provisioned["artifacts"].items():
            [artifact] = one["artifacts"]
            [more] = told.get(key, {}).get("artifacts") or [{}]
            address = more.get("uri") or artifact["uri"]
            self._copy(address, pod, self._store)
            metadata = {**artifact["metadata"], **more.get("metadata", {}), "display_name": key}
            outputs[key] = {"name": uuid.uuid4().hex, "uri": address, "metadata": metadata}
        return outputs

    def _copy(self, address: str, source: pathlib.Path, target: pathlib.Path) -> None:
        """An artifact's files, from one's folders to the other's; nothing where there are none."""
        there, here = (pathlib.Path(addresses.local_path(address, str(folder))) for folder in (source, target))
        if there.is_dir() and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            file_trees.copy(str(there), str(here))


def _needs(task: Json) -> set[str]:
    artifacts = task.get("inputs", {}).get("artifacts", {}).values()
    return {one["taskOutputArtifact"]["producerTask"] for one in artifacts} | set(task.get("dependentTasks", ()))


def _filled(part: str, invocation: Json) -> str:
    part = part.replace("{{$}}", json.dumps(invocation))
    values = invocation["inputs"]["parameterValues"]

    def value(found: re.Match[str]) -> str:
        given = values[found[1]]
        if isinstance(given, float) and given.is_integer():
            given = int(given)  # as Go writes it
        return str(given)

    return re.sub(r"{{\$\.inputs\.parameters\['([^']+)'\]}}", value, part)


def _cpu_s(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime
