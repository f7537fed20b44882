"""Compiles the graph for Kubeflow and runs what was compiled in the simulation of Kubeflow's launcher.

In the root: kubeflow/pipeline.yaml, and a folder for every run with its tasks' logs and their object store.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import time
from typing import Any

from components import model_store
from components.errors import InputError
from pipeline import root, run_kubeflow
from pipeline.kfp_simulation import FAILED, Run, Task
from pipeline.run_local import Outcome, RunFailedError
from pipeline.settings import Settings

BUCKET = "s3://movierec/pipeline-root"
_UNFINISHED = "running"
"""In a run's folder for as long as it has not ended well."""
_INPUT_ERROR = re.compile(r"^components\.errors\.InputError: (.*)", re.MULTILINE | re.DOTALL)
_LOG_LINES = 15


@dataclasses.dataclass(frozen=True)
class SimulatedRun:
    """How a run ended."""

    outcome: Outcome
    metrics: dict[str, Any]
    """Model -> its metrics.json."""


def run(settings: Settings) -> SimulatedRun:
    """Runs the whole pipeline; a run that failed is taken up where it stopped, unless code or settings changed.

    Raises:
      InputError: bad data or settings; nothing was pushed.
      RunFailedError: a task failed; nothing was pushed.
    """
    began_s = time.monotonic()
    with root.claimed(settings) as root_path:
        folder = root_path / "kubeflow"
        folder.mkdir(exist_ok=True)
        data = "SYNTHETIC sample data" if settings.synthetic else settings.dataset
        print(f"movierec: {data}, split {settings.split}, root {root_path}")
        print("    a SIMULATION of Kubeflow's driver and launcher: processes of this machine, no cluster")
        target = run_kubeflow.Target(run_kubeflow.KUBEFLOW, "localhost/movierec:simulated", BUCKET)
        path = folder / "pipeline.yaml"
        here = dataclasses.replace(settings, data_dir=settings.data_dir and settings.data_dir.absolute())
        run_kubeflow.compile_to(here, target, path)
        run_folder = _run_folder(folder)
        model_store.recover(root.models_path(root_path))
        simulated = Run(run_kubeflow.read(path), run_folder, {"root": str(root_path)})
        steps = _Steps(len(simulated.tasks))
        tasks = simulated.execute(steps.ended)
        failed = [task for task in tasks.values() if task.state == FAILED]
        if failed:
            raise _error(failed, run_folder)
        (run_folder / _UNFINISHED).unlink()
        pushed = tasks["AtomicPush"].outputs["pushed_model"]["metadata"]
        version = pushed.get("pushed_version")
        outcome = Outcome(
            root_path, bool(version), version, bool(pushed.get("pushed")), run_folder / "tasks",
            time.monotonic() - began_s,
        )  # fmt: skip
        return SimulatedRun(outcome, {model: _metrics(simulated, tasks, model) for model in settings.models})


class _Steps:
    """Prints a line for every task that ends."""

    def __init__(self, num_tasks: int):
        self._num_tasks, self._num_ended = num_tasks, 0

    def ended(self, task: Task) -> None:
        self._num_ended += 1
        used = f"{task.wall_s:6.1f} s, CPU {task.cpu_s:5.1f} s" if task.wall_s else ""
        print(f"[{self._num_ended:2}/{self._num_tasks}] {task.name:<21} {task.state:<9} {used}".rstrip(), flush=True)


def _run_folder(folder: pathlib.Path) -> pathlib.Path:
    """The last run's if it did not end well, else a new one."""
    runs = sorted(folder.glob("run-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    if runs and (runs[-1] / _UNFINISHED).exists():
        return runs[-1]
    path = folder / f"run-{len(runs) + 1}"
    path.mkdir()
    (path / _UNFINISHED).touch()
    return path


def _error(failed: list[Task], folder: pathlib.Path) -> Exception:
    task = failed[0]
    log = task.log_path.read_text(errors="replace")
    found = _INPUT_ERROR.search(log)
    if found:
        return InputError(found[1].strip())
    last = "\n".join(log.splitlines()[-_LOG_LINES:])
    return RunFailedError(
        f"{task.name} failed:\n{last}\nIts log is {task.log_path}; nothing was pushed; the same command again resumes"
        f" from what is done in {folder}"
    )


def _metrics(simulated: Run, tasks: dict[str, Task], model: str) -> dict[str, Any]:
    evaluation = tasks[f"{model.capitalize()}Evaluation"].outputs["evaluation"]
    found: dict[str, Any] = json.loads((simulated.stored(evaluation["uri"]) / "metrics.json").read_text())
    return found
