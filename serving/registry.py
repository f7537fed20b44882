"""The models of a server: which there are, which version a request means, and how that changes while it runs."""

from __future__ import annotations

import contextlib
import pathlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import grpc

from serving import model_config
from serving.batching import Batcher
from serving.metrics import Metrics
from serving.model_config import ModelConfig
from serving.protocol import State
from serving.saved_model import RequestError, invalid_argument
from serving.servables import Leased, Servable, VersionStatus, not_found
from serving.versions import NEWEST


class ModelRegistry:
    """Models, their watchers and their labels."""

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        served_root: pathlib.Path,
        poll_interval_s: float = 1.0,
        allow_labels_for_unavailable: bool = False,
        batcher: Batcher | None = None,
        warm_up: bool = True,
    ) -> None:
        """
        Args:
          configs: what is served from the start.
          served_root: later base paths must lie under it.
          poll_interval_s: between two looks at a base path.
          allow_labels_for_unavailable: whether a new label may point to a version that is not loaded (yet).
          batcher: puts the requests of all models together; None: each is computed alone.
          warm_up: whether versions are warmed up.

        Raises:
          RequestError: a label at start-up, when nothing is loaded, without `allow_labels_for_unavailable`.
        """
        self.metrics = Metrics()
        """Of this server's requests and loads."""
        self._served_root = served_root
        self._poll_interval_s = poll_interval_s
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._batcher = batcher
        self._warm_up = warm_up
        self._configuring = threading.Lock()
        self._served: frozenset[str] = frozenset(config.name for config in configs)
        self._labels: dict[tuple[str, str], int] = {}
        self._servables: dict[str, Servable] = {}
        self._labels = self._checked_labels(configs)
        for config in configs:
            self._servables[config.name] = self._servable(config)

    def start(self) -> None:
        """Begins to load; returns before anything is loaded."""
        for servable in self._servables.values():
            servable.start()

    def stop(self) -> None:
        """Unloads everything. Call it after the last request was answered."""
        for servable in self._servables.values():
            servable.stop()

    @contextlib.contextmanager
    def lease(self, model_spec: Any) -> Iterator[Leased]:
        """The version that a ModelSpec means: by number, by label, or else the newest.

        Raises:
          RequestError: with TensorFlow Serving's code and message.
        """
        name = model_spec.name
        if not name:
            raise invalid_argument("ModelSpec has no name specified.")
        version = self.version_of(model_spec)
        servable = self._servables.get(name)
        if servable is None:
            raise not_found(name, version)
        with servable.lease(version) as leased:
            yield leased

    def version_of(self, model_spec: Any) -> int | None:
        """The version that a ModelSpec names, by number or by label; None for the newest.

        Raises:
          RequestError: INVALID_ARGUMENT, there is no such label.
        """
        if model_spec.HasField("version_label"):
            version = self._labels.get((model_spec.name, model_spec.version_label))
            if version is None:
                raise invalid_argument(f"Unrecognized servable version label: {model_spec.version_label}")
            return version
        return model_spec.version.value if model_spec.HasField("version") else None

    def counted(self, name: str, api: str, entrypoint: str) -> contextlib.AbstractContextManager[None]:
        """Counts a request for a model in the metrics; one for a model never served is not counted."""
        if name not in self._servables:
            return contextlib.nullcontext()
        return self.metrics.request(name, api, entrypoint)

    def statuses(self, name: str) -> list[VersionStatus]:
        """Every version of a model seen since the start, the newest first; none of a model never served."""
        servable = self._servables.get(name)
        return servable.statuses() if servable else []

    def reload(self, config: Any) -> None:
        """Replaces models, policies and labels by those of a ModelServerConfig.

        Labels are checked and moved first, against what is loaded now; where one is refused nothing changes. Known
        models change after this returns, new ones are waited for.

        Raises:
          RequestError: with TensorFlow Serving's code and message; PERMISSION_DENIED for a base path elsewhere.
        """
        configs = [model_config.under(self._served_root, entry) for entry in model_config.of_proto(config)]
        with self._configuring:
            self._labels = self._checked_labels(configs)
            new = []
            for entry in configs:
                if entry.name not in self._served:
                    new.append(entry.name)
                servable = self._servables.get(entry.name)
                if servable is None:
                    servable = self._servable(entry)
                    servable.start()
                    self._servables = {**self._servables, entry.name: servable}  # readers take no lock
                else:
                    servable.configure(entry.base_path, entry.policy)
            names = frozenset(entry.name for entry in configs)
            for name in self._served - names:
                self._servables[name].configure(None, NEWEST)
            self._served = names
            self._await(new)

    def _servable(self, config: ModelConfig) -> Servable:
        return Servable(
            config.name, config.base_path, self._poll_interval_s, config.policy, self.metrics, self._batcher,
            self._warm_up,
        )  # fmt: skip

    def _checked_labels(self, configs: Sequence[ModelConfig]) -> dict[tuple[str, str], int]:
        labels = {}
        for config in configs:
            available = {
                status.version for status in self.statuses(config.name) if status.state is State.AVAILABLE
            }
            for label, version in config.labels.items():
                known = self._labels.get((config.name, label), version)
                allowed = self._allow_labels_for_unavailable and known == version
                if version not in available and not allowed:
                    raise RequestError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {config.name},"
                        " which is not currently available for inference",
                    )
                labels[config.name, label] = version
        return labels

    def _await(self, names: Sequence[str]) -> None:
        """Until each model has an AVAILABLE version, or has tried in vain."""
        failed = []
        for name in names:
            servable = self._servables[name]
            servable.wait_polled()
            statuses = servable.statuses()
            if not any(status.state is State.AVAILABLE for status in statuses):
                reason = f" version: {statuses[0].version}}} due to error: {statuses[0].message}" if statuses else "}"
                failed.append(f"{{{{name: {name}{reason}}}, ")
        if failed:
            raise RequestError(
                grpc.StatusCode.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{''.join(failed)}}}"
            )
