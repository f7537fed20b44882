"""Moves the labels `stable` and `canary` between versions, on any server that speaks TensorFlow Serving's protocol.

A label may only point to a version that is AVAILABLE. So a move has two steps: first the server is told to hold the
versions that labels point to and the new one, and all are waited for; then the label moves, in both models with one
request. Where stable was is kept loaded under a third label, `previous`, so that a rollback needs no loading.

From the first move on the server holds labelled versions alone: a pushed version is loaded once it is promoted.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import grpc
from google.protobuf import text_format

from serving import protocol
from serving.calls import Channel
from serving.client import RecommenderClient, ServingError
from serving.protocol import State
from trainer_modules import contract

STABLE = "stable"
CANARY = "canary"
PREVIOUS = "previous"
_LABELS = (STABLE, CANARY, PREVIOUS)
_LOOK_AGAIN_S = 0.05
_SEEN_WITHIN_S = 10.0  # servers look at their base paths every second
_TIMEOUT_S = 60.0

Labels = dict[str, dict[str, int]]
"""Model -> label -> version."""
Versions = dict[str, set[int]]
"""Model -> versions."""


class PromotionError(Exception):
    """A move that would leave a label without a loaded version, or for which a version could not be loaded."""


@dataclasses.dataclass(frozen=True)
class Moved:
    """The labels of every model after a move."""

    labels: Labels
    config: str
    """The models.config that the server now follows, as text: what it should be started with next time."""


def served_models(address: str, credentials: grpc.ChannelCredentials | None = None) -> tuple[str, ...]:
    """Which of contract.SERVED a server has: a reload that left one out would unload it.

    Raises:
      PromotionError: none of them.
      ServingError: the server does not answer.
    """
    found = []
    with RecommenderClient(address, _TIMEOUT_S, credentials=credentials) as client:
        for model in contract.SERVED:
            try:
                client.versions(model)
            except ServingError as error:
                if error.code != "NOT_FOUND":
                    raise
            else:
                found.append(model)
    if not found:
        raise PromotionError(f"{address} serves none of {', '.join(contract.SERVED)}: is it a server of these models?")
    return tuple(found)


def promote(
    address: str,
    base_paths: Mapping[str, str],
    version: int,
    label: str = STABLE,
    timeout_s: float = 300.0,
    credentials: grpc.ChannelCredentials | None = None,
) -> Moved:
    """Points a label of every model to a version, which is loaded first.

    Args:
      address: host:port of the server.
      base_paths: model -> its base path, absolute, as the server sees it. All models of the server: any other is
        unloaded.
      version: to point to.
      label: STABLE or CANARY.
      timeout_s: for the version to be loaded.
      credentials: for TLS; None: the connection is not encrypted.

    Raises:
      PromotionError: it could not be loaded; the labels are where they were.
      ServingError: the server does not answer or refuses.
    """
    if label not in (STABLE, CANARY):
        raise ValueError(f"{label!r} is no label to move; {STABLE} and {CANARY} are")
    with _Server(address, base_paths, credentials) as server:
        labels, served = server.labels(), server.available()
        labelled: Versions = {model: set(pointed.values()) for model, pointed in labels.items()}
        # Before the first label what is served goes on until the label is set.
        held = {model: {version, *(labelled[model] or served[model])} for model in base_paths}
        server.reload(held, labels)
        try:
            server.wait_available(held, timeout_s)
        except PromotionError:
            server.reload({model: served[model] if labelled[model] else set() for model in base_paths}, labels)
            raise
        return server.move({model: _with(labels[model], label, version) for model in base_paths})


def rollback(
    address: str, base_paths: Mapping[str, str], credentials: grpc.ChannelCredentials | None = None
) -> Moved:
    """Points stable of every model back to where it was before; a second rollback undoes the first.

    Raises:
      PromotionError: that is not known, or not loaded any more.
      ServingError: the server does not answer or refuses.
    """
    with _Server(address, base_paths, credentials) as server:
        labels = server.labels()
        for model, pointed in labels.items():
            if PREVIOUS not in pointed:
                raise PromotionError(
                    f"{model} at {address} has no loaded version that {STABLE} pointed to before: name the version"
                    " yourself with `movierec promote VERSION`"
                )
        return server.move({model: _with(pointed, STABLE, pointed[PREVIOUS]) for model, pointed in labels.items()})


def _with(labels: Mapping[str, int], label: str, version: int) -> dict[str, int]:
    """The labels after one has moved; PREVIOUS is where STABLE was."""
    moved = {**labels, label: version}
    if label == STABLE and labels.get(STABLE, version) != version:
        moved[PREVIOUS] = labels[STABLE]
    return moved


class _Server:
    """What a server holds, and how to change it."""

    def __init__(
        self, address: str, base_paths: Mapping[str, str], credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self._address = address
        self._base_paths = base_paths
        self._client = RecommenderClient(address, _TIMEOUT_S, credentials=credentials)
        self._channel = Channel(address, _TIMEOUT_S, num_retries=3, credentials=credentials)
        self._metadata = self._channel.method(
            protocol.GET_MODEL_METADATA, protocol.GetModelMetadataRequest, protocol.GetModelMetadataResponse
        )
        self._reload = self._channel.method(
            protocol.RELOAD_CONFIG, protocol.ReloadConfigRequest, protocol.ReloadConfigResponse
        )

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._client.close()

    def available(self) -> Versions:
        """The loaded versions of each model."""
        return {
            model: {seen.version for seen in self._client.versions(model) if seen.state is State.AVAILABLE}
            for model in self._base_paths
        }

    def labels(self) -> Labels:
        """The labels that point to a loaded version."""
        return {
            model: {label: version for label in _LABELS if (version := self._version_of(model, label)) is not None}
            for model in self._base_paths
        }

    def _version_of(self, model: str, label: str) -> int | None:
        request = protocol.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        request.model_spec.version_label = label
        try:
            response = self._metadata(request, f"the label {label} of {model}")
        except ServingError as error:
            if error.code in ("INVALID_ARGUMENT", "NOT_FOUND"):  # no such label; or its version is not loaded
                return None
            raise
        return int(response.model_spec.version.value)

    def reload(self, held: Mapping[str, set[int]], labels: Labels) -> str:
        """Has each model hold these versions (none: the newest one) under these labels; the models.config."""
        request = protocol.ReloadConfigRequest()
        for model, base_path in self._base_paths.items():
            entry = request.config.model_config_list.config.add(name=model, base_path=base_path)
            entry.model_platform = "tensorflow"
            entry.model_version_policy.specific.versions.extend(sorted(held[model]))
            if not held[model]:
                entry.ClearField("model_version_policy")
            for label, version in labels[model].items():
                entry.version_labels[label] = version
        response = self._reload(request, "the new config")
        if response.status.error_code:
            raise ServingError(
                "the new config", self._address, str(response.status.error_code), response.status.error_message
            )
        return text_format.MessageToString(request.config)

    def move(self, labels: Labels) -> Moved:
        """Sets the labels, and has each model hold what they point to."""
        return Moved(labels, self.reload({model: set(pointed.values()) for model, pointed in labels.items()}, labels))

    def wait_available(self, versions: Mapping[str, set[int]], timeout_s: float) -> None:
        """Until all are AVAILABLE."""
        started = time.monotonic()
        while True:
            waited_s = time.monotonic() - started
            waiting = [reason for model in versions if (reason := self._why_not(model, versions[model], waited_s))]
            if not waiting:
                return
            if waited_s > timeout_s:
                raise PromotionError(f"not loaded within {timeout_s:g} s: {'; '.join(waiting)}; no label was moved")
            time.sleep(_LOOK_AGAIN_S)

    def _why_not(self, model: str, versions: set[int], waited_s: float) -> str:
        """"" where all of the versions are AVAILABLE."""
        seen = {status.version: status for status in self._client.versions(model)}
        for version in sorted(versions):
            status = seen.get(version)
            if status is None or (status.state is State.END and not status.error):  # the server has yet to look
                if waited_s > _SEEN_WITHIN_S:
                    raise PromotionError(
                        f"{self._address} finds no version {version} of {model} in {self._base_paths[model]};"
                        " no label was moved"
                    )
                return f"{model} version {version} has not been seen"
            if status.state is State.END:
                raise PromotionError(
                    f"{model} version {version} could not be loaded, and no label was moved: {status.error}"
                )
            if status.state is not State.AVAILABLE:
                return f"{model} version {version} is {status.state.name}"
        return ""
