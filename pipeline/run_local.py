"""Runs the graph in this process with TFX's LocalDagRunner."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
import pathlib
import shutil
import time
from typing import TextIO

from components import model_store
from components.errors import InputError
from pipeline import digests, learning_curves, progress, root, sources, tuning
from pipeline.lineage import ComponentRun, Lineage
from pipeline.settings import Settings

BEAM_ARGUMENTS = [
    # One in-memory process is the fastest at this size. Named in full: a plain DirectRunner may first try to fetch
    # another runner.
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--direct_running_mode=in_memory",
    # Nothing reads it here, but without it TFX packs itself up for remote workers: 8 s for every Beam stage.
    "--sdk_container_image=unused",
]

STATISTICS_PAGE = "statistics.html"
_CHECK = "DistributionCheck"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    root_path: pathlib.Path
    blessed: bool
    """Whether every model was blessed and passed infra validation."""
    pushed_version: str | None
    """The version that holds these models; None when not blessed."""
    new: bool
    """Whether that version was pushed by this run."""
    log_path: pathlib.Path
    elapsed_s: float


class RunFailedError(RuntimeError):
    """A component failed for a reason that is not the input's."""


def run(settings: Settings) -> Outcome:
    """Runs the whole pipeline, or what of it the cache cannot answer.

    Raises:
      InputError: bad data or settings; nothing was pushed.
      RunFailedError: a component failed; nothing was pushed, and running again resumes.
    """
    began_s = time.monotonic()
    with root.claimed(settings) as root_path:
        log_path = root_path / "logs" / f"{datetime.datetime.now():%Y%m%dT%H%M%S}-{os.getpid()}.log"
        with progress.logged_to(log_path) as screen:
            data = "SYNTHETIC sample data" if settings.synthetic else settings.dataset
            print(f"movierec: {data}, split {settings.split}, root {root_path}", file=screen)
            print(f"    full log: {log_path}", file=screen)
            # A push that was killed is completed or undone before anything else looks at the models.
            model_store.recover(root.models_path(root_path))
            try:
                _run_graph(settings, screen, log_path)
            finally:
                _keep_statistics_page(root_path)
            if found := tuning.keep_found(root_path):
                print(f"    what the search found: --hyperparameters {found}", file=screen)
            learning_curves.draw(Lineage(root_path).components(), root_path / "report" / learning_curves.FILE)
    return _outcome(root_path, log_path, time.monotonic() - began_s)


def _run_graph(settings: Settings, screen: TextIO, log_path: pathlib.Path) -> None:
    source = sources.of_run(settings, screen)
    if source.spans:
        print(f"    spans {', '.join(map(str, source.spans))} of {source.path}", file=screen)
    print("    importing TFX ...", file=screen)
    # These two imports cost most of a cached run.
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    from pipeline import graph

    code, accepted = digests.of_code(), settings.root_path / graph.ACCEPTED_SCHEMA_FILE
    if accepted.is_file():
        code = dataclasses.replace(code, schema=digests.files_digest([accepted], code.schema))
    pipeline = graph.create_pipeline(settings, source, code, BEAM_ARGUMENTS)
    steps = progress.Steps(screen, len(pipeline.components), lambda component: _summary(settings.root_path, component))
    try:
        with steps.following():
            LocalDagRunner().run(pipeline)
    except InputError:
        raise
    except Exception as error:
        cause = _input_error(error)
        if cause is not None:
            raise cause from error
        logging.getLogger().exception("the run failed")
        raise RunFailedError(
            f"{steps.current or 'the pipeline'} failed: {type(error).__name__}: {error}\nThe full log is {log_path};"
            " nothing was pushed; `movierec run` again resumes from what is done"
        ) from error


def _keep_statistics_page(root_path: pathlib.Path) -> None:
    """Into the report folder, also of data that were refused."""
    if not (root_path / "metadata.sqlite").is_file():
        return
    checks = [run.output("anomalies") for run in Lineage(root_path).components() if run.component == _CHECK]
    for found in filter(None, checks):
        page = pathlib.Path(found.uri) / STATISTICS_PAGE
        if page.is_file():
            (root_path / "report").mkdir(exist_ok=True)
            shutil.copyfile(page, root_path / "report" / STATISTICS_PAGE)


def _input_error(error: BaseException | None) -> InputError | None:
    """The input's fault behind an error that Beam or TFX wrapped, if it is one."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _summary(root_path: pathlib.Path, component: str) -> str:
    run = next((run for run in Lineage(root_path).components() if run.component == component), None)
    if run is None:
        return ""
    said = _WHAT_CAME_OUT.get(component, _first_output)(run)
    return f"from the cache. {said}" if run.state == "cached" else said


def _first_output(run: ComponentRun) -> str:
    return next((f"{key} in {artifacts[0].uri}" for key, artifacts in sorted(run.outputs.items())), "")


def _ingested(run: ComponentRun) -> str:
    examples = run.output("examples")
    found = examples.properties if examples else {}
    return (
        f"{found.get('num_rows', 0):,} of {found.get('num_rows_in', 0):,} ratings;"
        f" {found.get('num_duplicates', 0)} duplicates dropped, {found.get('num_rejected', 0)} set aside"
    )


def _compared(run: ComponentRun) -> str:
    found = run.output("anomalies")
    told = found.properties if found else {}
    if not told.get("num_comparisons"):
        return "nothing to compare with yet"
    return (
        f"{told['num_comparisons']} comparisons, {told['num_breaches']} beyond their limits,"
        f" {told['num_accepted']} of them accepted"
    )


def _trained(run: ComponentRun) -> str:
    model = run.output("model")
    return f"model {model.id} in {model.uri}" if model else ""


def _baseline(run: ComponentRun) -> str:
    model = run.output("model")
    known = model is not None and (pathlib.Path(model.uri) / "Format-Serving").is_dir()
    return "compares with the last blessed model" if known else "no earlier blessed model"


def _warm_start(run: ComponentRun) -> str:
    found = json.loads(run.properties.get("baseline") or "{}")
    cold = "nothing blessed to continue from: a cold start"
    return f"from version {found['version'] or '(never pushed)'}" if found else cold


def _blessed(run: ComponentRun) -> str:
    blessing = run.output("blessing")
    return "blessed" if blessing is not None and blessing.properties.get("blessed") else "NOT blessed"


def _pushed(run: ComponentRun) -> str:
    pushed = run.output("pushed_model")
    version = pushed.properties.get("pushed_version") if pushed else None
    if pushed is None or not version:
        return "nothing pushed"
    return f"version {version}" if pushed.properties.get("pushed") else f"nothing new: version {version} holds it"


_WHAT_CAME_OUT = {
    "MovieLensExampleGen": _ingested,
    _CHECK: _compared,
    "AnomalyGate": lambda run: "no anomalies",
    **dict.fromkeys(tuning.TUNERS, tuning.summary),
    "RetrievalTrainer": _trained,
    "RankingTrainer": _trained,
    "OneCall": _trained,
    "RetrievalWarmStart": _warm_start,
    "RankingWarmStart": _warm_start,
    "RetrievalLastBlessed": _baseline,
    "RankingLastBlessed": _baseline,
    "RetrievalEvaluation": _blessed,
    "RankingEvaluation": _blessed,
    "InfraValidation": _blessed,
    "AtomicPush": _pushed,
}


def _outcome(root_path: pathlib.Path, log_path: pathlib.Path, elapsed_s: float) -> Outcome:
    push = next(run for run in Lineage(root_path).components() if run.component == "AtomicPush")
    artifact = push.output("pushed_model")
    version = artifact.properties.get("pushed_version") if artifact else None
    return Outcome(
        root_path=root_path,
        blessed=bool(version),
        pushed_version=str(version) if version else None,
        new=bool(artifact and artifact.properties.get("pushed")) and push.state != "cached",
        log_path=log_path,
        elapsed_s=elapsed_s,
    )
