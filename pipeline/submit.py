"""Uploads a compiled pipeline to Kubeflow Pipelines and runs it there, once or on a schedule."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import logging
import pathlib
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

from components.errors import InputError
from pipeline import run_kubeflow

_DONE = ("SUCCEEDED", "FAILED", "CANCELED")
_CONNECT_TIMEOUT_S = 10.0


class SubmitError(RuntimeError):
    """Kubeflow did not do what it was asked for."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of Kubeflow."""

    host: str
    """Address of the API, http://... or https://..."""
    pipeline_path: pathlib.Path
    """What `movierec compile` wrote."""
    name: str = "movierec"
    """Of the pipeline there; each submission adds a version to it."""
    version: str = ""
    """Name of the version; "": the time."""
    namespace: str = ""
    """The user's, in a Kubeflow of many users; "": it has none."""
    experiment: str = "movierec"
    """Made where it is missing."""
    schedule: str = ""
    """Cron, five fields, or six with seconds first; "": run once, now."""
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Those that are not to have their defaults."""
    token_path: pathlib.Path | None = None
    """A file with a bearer token; None: none is sent."""


@dataclasses.dataclass(frozen=True)
class Submitted:
    """What Kubeflow made."""

    id: str
    """Of the run, or of the recurring run."""
    version: str
    recurring: bool


class Submitter:
    """A connection to one Kubeflow."""

    def __init__(self, request: Request):
        """Connects.

        Raises:
          InputError: kfp is missing, or what was given cannot be used.
          SubmitError: nobody answers there, or refuses to.
        """
        run_kubeflow.require_kfp()
        self._request = request
        self._spec = run_kubeflow.read(request.pipeline_path)
        self._parameters = _typed(self._spec, request.parameters)
        self._cron = _cron(request.schedule) if request.schedule else ""
        _reach(request.host)
        # Importing kfp's client takes a second or two.
        with _errors(request), _quiet():
            import kfp.client

            token = request.token_path.read_text().strip() if request.token_path else None
            self._client = kfp.client.Client(
                host=request.host, namespace=request.namespace or "kubeflow", existing_token=token
            )

    def submit(self) -> Submitted:
        """Uploads a new version and has it run.

        Raises:
          InputError: the version's name is taken.
          SubmitError: Kubeflow refuses.
        """
        request, client = self._request, self._client
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S")
        version = request.version or now
        with _errors(request, version), _quiet():
            pipeline_id = client.get_pipeline_id(request.name)
            if pipeline_id is None:
                made = client.upload_pipeline(
                    str(request.pipeline_path), request.name, namespace=request.namespace or None
                )
                pipeline_id = made.pipeline_id
            uploaded = client.upload_pipeline_version(
                str(request.pipeline_path), f"{request.name} {version}", pipeline_id=pipeline_id
            )
            experiment = client.create_experiment(request.experiment, namespace=request.namespace or None)
            what = {
                "experiment_id": experiment.experiment_id,
                "job_name": f"{request.name} {version}",
                "params": self._parameters,
                "pipeline_id": pipeline_id,
                "version_id": uploaded.pipeline_version_id,
            }
            if self._cron:
                # Runs share a root, so one at a time; a missed day needs no catching up: the next reads its data.
                made = client.create_recurring_run(
                    **what, cron_expression=self._cron, max_concurrency=1, no_catchup=True
                )
                return Submitted(made.recurring_run_id, version, recurring=True)
            return Submitted(client.run_pipeline(**what).run_id, version, recurring=False)

    def watch(self, run_id: str, interval_s: float = 10.0) -> Iterator[tuple[str, str]]:
        """Yields (task, state) whenever a task's state has changed; at last ("", the run's state).

        Raises:
          SubmitError: Kubeflow does not answer any more.
        """
        known: dict[str, str] = {}
        while True:
            with _errors(self._request), _quiet():
                run = self._client.get_run(run_id)
            details = run.run_details.task_details if run.run_details else None
            for task in details or ():
                name, state = task.display_name, task.state or "PENDING"
                if name and name in self._spec["root"]["dag"]["tasks"] and known.get(name) != state:
                    known[name] = state
                    yield name, state
            if run.state in _DONE:
                yield "", run.state
                return
            time.sleep(interval_s)


def _typed(spec: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The parameters as numbers where they are numbers.

    Raises:
      InputError: there is no such parameter, or no number was given for one.
    """
    defined = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    kinds = {"NUMBER_INTEGER": int, "NUMBER_DOUBLE": float}
    typed: dict[str, Any] = {}
    for name, value in given.items():
        if name not in defined:
            raise InputError(f"--set {name}: the pipeline has no such parameter; it has {', '.join(sorted(defined))}")
        kind = defined[name]["parameterType"]
        try:
            typed[name] = kinds.get(kind, str)(value)
        except ValueError:
            raise InputError(f"--set {name}={value}: {kind.lower().replace('_', ' ')} is wanted") from None
    return typed


def _cron(schedule: str) -> str:
    """Kubeflow's cron begins with seconds."""
    fields = schedule.split()
    if len(fields) not in (5, 6):
        raise InputError(
            f"--schedule {schedule!r} has {len(fields)} fields; cron has five: minute, hour, day, month, day of the"
            ' week, such as "0 3 * * *" for every day at 03:00'
        )
    return " ".join(fields if len(fields) == 6 else ["0", *fields])


def _reach(host: str) -> None:
    """Raises SubmitError at once where nobody answers: kfp's client would try for half a minute."""
    if not host.startswith(("http://", "https://")):
        raise InputError(f"--host {host}: give an address that begins with http:// or https://")
    try:
        urllib3.PoolManager().request(
            "GET", f"{host.rstrip('/')}/apis/v2beta1/healthz", timeout=_CONNECT_TIMEOUT_S, retries=False
        )
    except urllib3.exceptions.HTTPError as error:
        raise SubmitError(
            f"no Kubeflow Pipelines answers at {host} ({type(error).__name__}): is it running, and its port forwarded?"
            " kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888"
        ) from error


@contextlib.contextmanager
def _errors(request: Request, version: str = "") -> Iterator[None]:
    """Makes messages of what kfp raises."""
    import kfp_server_api

    try:
        yield
    except kfp_server_api.ApiException as error:
        body = str(error.body or error.reason or "")
        if error.status in (401, 403):
            raise SubmitError(
                f"{request.host} refuses ({error.status}): {body[:300]}\nGive a token it accepts: --token-file FILE"
            ) from error
        if error.status == 409 or "already exist" in body.lower():
            raise InputError(
                f"{request.host} has a version {version!r} of pipeline {request.name!r} already; give another"
                " --version-name, or none: it is the time then"
            ) from error
        raise SubmitError(f"{request.host} answers {error.status}: {body[:500]}") from error
    except urllib3.exceptions.HTTPError as error:
        raise SubmitError(f"{request.host} does not answer ({type(error).__name__})") from error
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """kfp prints links to a user interface that may not be there, and warns of nothing new."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("kfp").setLevel(logging.ERROR)
        yield
