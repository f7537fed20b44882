"""Candidates in a fresh server process: are they answered from, rightly, in time, within memory? And with what warm?"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import re
import tempfile
import time
from collections.abc import Mapping

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from components import file_trees, serving_checks
from components.evaluation_data import UserStates
from serving import conversation, server, warm_up
from serving.client import RecommenderClient, ServingError
from serving.conversation import Ask
from trainer_modules import contract

_LOG = logging.getLogger("movierec.infra_validation")
_ENDS_WITHIN_S = 2.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server may take."""

    start_timeout_s: float = server.START_TIMEOUT_S
    """To load all models."""
    first_answer_s: float = 60.0
    """For each answer when it is asked for the first time: a signature's first ones are slow."""
    answer_s: float = 5.0
    """For each answer to one user when it is asked for again; twice, where it comes too late at first."""
    memory_mib: int = 4096
    """The most resident memory of the server with all models. Not looked at in a container."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of it."""

    reason: str
    """Why the models must not be served; "" where they may."""
    asked: Mapping[str, list[Ask]] = dataclasses.field(default_factory=dict)
    """Model -> every request it answered."""
    memory_mib: int = 0
    """The server's peak; 0: not known."""


def validate(
    saved_models: Mapping[str, str],
    states: UserStates,
    star_range: serving_checks.StarRange,
    limits: Limits,
) -> Verdict:
    """Serves models and asks them.

    Args:
      saved_models: model name, of contract.SERVED -> its SavedModel.
      states: real users.
      star_range: fewest and most stars an answer may hold.
      limits: of the server.
    """
    with tempfile.TemporaryDirectory(prefix="movierec-infra-") as folder:
        for name, path in saved_models.items():
            file_trees.copy(path, f"{folder}/{name}/1")
        base_paths = {name: pathlib.Path(folder, name) for name in saved_models}
        try:
            running = server.start(base_paths, address="127.0.0.1:0", timeout_s=limits.start_timeout_s)
        except server.ServerError as error:
            return Verdict(str(error))
        try:
            asked = _ask_everything(running.address, saved_models, states, star_range, limits)
            memory_mib = 0 if running.kind == server.CONTAINER else peak_memory_mib(running.pid)
        except serving_checks.RefusedError as error:
            return Verdict(f"{error}{_last_words(running) if 'UNAVAILABLE' in str(error) else ''}")
        finally:
            running.stop(timeout_s=1.0)
    if memory_mib > limits.memory_mib:
        return Verdict(f"the server needed {memory_mib} MiB of memory, where {limits.memory_mib} MiB are allowed")
    _LOG.info(
        "%d requests answered, at most %d MiB, served by %s", sum(map(len, asked.values())), memory_mib,
        running.description,
    )  # fmt: skip
    return Verdict("", asked, memory_mib)


def write_warm_up(asked: Mapping[str, list[Ask]], folder: str) -> None:
    """Writes requests as servers read them at load, FOLDER/MODEL/assets.extra/tf_serving_warmup_requests.

    Args:
      asked: model -> at most warm_up.MAX_RECORDS requests, all of which it answers: one that fails, fails the load.
      folder: that is laid over the models' folders when they are pushed.
    """
    for model, requests in asked.items():
        assert len(requests) <= warm_up.MAX_RECORDS, f"{len(requests)} requests to warm {model} up"
        file = f"{folder}/{model}/{warm_up.FILE}"
        tf.io.gfile.makedirs(file.rpartition("/")[0])
        with tf.io.TFRecordWriter(file) as writer:
            for request in requests:
                log = prediction_log_pb2.PredictionLog()
                message = conversation.predict_request(request, label="")  # the same bytes, another class
                log.predict_log.request.ParseFromString(message.SerializeToString())
                writer.write(log.SerializeToString(deterministic=True))  # the same models have the same warm-up


def peak_memory_mib(pid: int) -> int:
    """The most resident memory that a process of this machine has had so far; 0 where Linux does not tell."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    peak_kib = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(peak_kib[1]) // 1024 if peak_kib else 0


def _ask_everything(
    address: str,
    models: Mapping[str, str],
    states: UserStates,
    star_range: serving_checks.StarRange,
    limits: Limits,
) -> dict[str, list[Ask]]:
    """Every request that was answered, by model.

    Raises:
      RefusedError: the first answer that must not be served, or that came too late.
    """
    asked: dict[str, list[Ask]] = {name: [] for name in contract.SERVED if name in models}
    with RecommenderClient(address, timeout_s=limits.first_answer_s) as client:

        def predict(model: str, signature: str, inputs: serving_checks.Arrays) -> serving_checks.Arrays:
            answer = client.predict(model, signature, inputs).outputs
            asked[model].append(Ask(model, signature, inputs))
            return answer

        for name in asked:
            serving_checks.check(name, predict, states, star_range)
    with RecommenderClient(address, timeout_s=limits.answer_s, num_retries=0) as client:
        for ask in (ask for requests in asked.values() for ask in requests):
            if len(next(iter(ask.inputs.values()))) > 1:  # type: ignore[arg-type]
                continue
            try:
                _ask_again(client, ask)
            except ServingError as error:
                raise serving_checks.RefusedError(
                    f"{ask.model}/{ask.signature}, one user, asked again: no answer within {limits.answer_s:g} s"
                    f" ({error.code})"
                ) from error
    return asked


def _ask_again(client: RecommenderClient, ask: Ask) -> None:
    """Asks once more where the answer comes too late: a machine that stands still once is not the model's fault."""
    try:
        client.predict(*ask)
    except ServingError as error:
        if error.code != "DEADLINE_EXCEEDED":
            raise
        client.predict(*ask)


def _last_words(running: server.RunningServer) -> str:
    """What a server said that ended under a request; "" of one that goes on."""
    deadline = time.monotonic() + _ENDS_WITHIN_S
    while not running.ended():
        if time.monotonic() > deadline:
            return ""
        time.sleep(0.05)
    return f"; the server process has ended. The last it said:\n{running.log_tail()}"
