"""Versions of one model on disk and in memory: those wanted are served, and no request falls between two of them.

A version is a directory in the model's base path whose name is a number. Every poll takes those that the policy wants
(the newest, by default): they are loaded beside what is in service, take over, and only then the others go, once their
last request is answered.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import threading
from collections.abc import Collection, Iterator

import grpc

from serving.batching import Batcher
from serving.metrics import Metrics
from serving.protocol import State
from serving.saved_model import LoadedModel, RequestError, status_of
from serving.versions import NEWEST, VersionPolicy, versions_on_disk
from serving.warm_up import warm_up

_LOG = logging.getLogger("movierec.serving")
_Config = tuple[pathlib.Path | None, VersionPolicy]


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """What GetModelStatus says of one version."""

    version: int
    state: State
    code: grpc.StatusCode
    """OK, or why it could not be loaded."""
    message: str


@dataclasses.dataclass
class _Version:
    """One version from the moment it was seen. Its model is there while AVAILABLE or UNLOADING."""

    version: int
    path: pathlib.Path
    state: State = State.START
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    model: LoadedModel | None = None
    num_requests: int = 0
    """Under way now: the model is closed when it is UNLOADING and this is 0."""
    files: frozenset[tuple[str, int, int]] = frozenset()
    """What lay in the directory when loading began: a version that failed is tried again when this has changed."""


@dataclasses.dataclass(frozen=True)
class Leased:
    """A loaded version that stays loaded while it is leased."""

    version: int
    model: LoadedModel


class Servable:
    """One model's versions, watched by a thread of its own, so that a slow load delays no other model."""

    def __init__(
        self,
        name: str,
        base_path: pathlib.Path,
        poll_interval_s: float = 1.0,
        policy: VersionPolicy = NEWEST,
        metrics: Metrics | None = None,
        batcher: Batcher | None = None,
        warm_up: bool = True,
    ) -> None:
        self.name = name
        self._batcher = batcher
        self._warm_up = warm_up
        self._metrics = metrics or Metrics()
        self._config: _Config = base_path, policy
        self._poll_interval_s = poll_interval_s
        self._versions: dict[int, _Version] = {}
        self._unloading: list[_Version] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._polled = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watch-{name}", daemon=True)

    def start(self) -> None:
        """Begins to watch; returns before anything is loaded."""
        self._thread.start()

    def stop(self) -> None:
        """Unloads everything. Call it after the last request was answered."""
        self._stopped.set()
        self._wake.set()
        self._thread.join()
        self._keep_only(())
        self._close_idle()

    def configure(self, base_path: pathlib.Path | None, policy: VersionPolicy) -> None:
        """Watches another base path (None: no longer any, everything is unloaded) or wants other versions.

        Returns before anything is loaded or unloaded.
        """
        with self._lock:
            self._polled.clear()
            self._config = base_path, policy
        self._wake.set()

    def wait_polled(self) -> None:
        """Until what was on disk when the configuration was given has been loaded, or could not be."""
        self._polled.wait()

    @contextlib.contextmanager
    def lease(self, version: int | None) -> Iterator[Leased]:
        """The given version, or the newest for None.

        Raises:
          RequestError: NOT_FOUND, that version is not loaded.
        """
        with self._lock:
            leased = self._find(version)
            leased.num_requests += 1
        try:
            assert leased.model is not None
            yield Leased(leased.version, leased.model)
        finally:
            with self._lock:
                leased.num_requests -= 1

    def statuses(self) -> list[VersionStatus]:
        """Every version seen since the start, the newest first."""
        with self._lock:
            return [
                VersionStatus(seen.version, seen.state, seen.code, seen.message)
                for _, seen in sorted(self._versions.items(), reverse=True)
            ]

    def _find(self, version: int | None) -> _Version:
        available = {number: seen for number, seen in self._versions.items() if seen.state is State.AVAILABLE}
        number = max(available, default=None) if version is None else version
        if number is None or number not in available:
            raise not_found(self.name, version)
        return available[number]

    def _watch(self) -> None:
        fault = ""
        while not self._stopped.is_set():
            self._wake.clear()
            config = self._config
            try:
                self._poll(config)
                fault = ""
            except Exception as error:  # the disk's fault or ours: it must not end the watch
                if repr(error) != fault:  # said once, not every second
                    fault = repr(error)
                    _LOG.exception("%s: cannot look for versions in %s; trying on", self.name, config[0])
            with self._lock:
                if config is self._config:
                    self._polled.set()
            self._wake.wait(self._poll_interval_s)
        self._polled.set()

    def _poll(self, config: _Config) -> None:
        base_path, policy = config
        self._close_idle()
        on_disk = {} if base_path is None else versions_on_disk(base_path)
        if on_disk is None:
            return  # the base path is gone, perhaps for a moment: keep serving
        wanted = policy.wanted(on_disk)
        for version in wanted:
            if self._should_load(version, on_disk[version]):
                self._load(version, on_disk[version])
        if not wanted or any(self._versions[version].state is State.AVAILABLE for version in wanted):
            self._keep_only(wanted, config)

    def _should_load(self, version: int, path: pathlib.Path) -> bool:
        seen = self._versions.get(version)
        if seen is None or seen.state is State.UNLOADING:
            return True
        if seen.state is State.END:
            return seen.code is grpc.StatusCode.OK or seen.files != _files(path)
        return False

    def _load(self, version: int, path: pathlib.Path) -> None:
        loading = _Version(version, path, State.LOADING, files=_files(path))
        with self._lock:
            self._versions[version] = loading
        try:
            with self._metrics.load(str(path)):
                model = self._loaded(path)
        except Exception as error:  # whatever is wrong with a model is that model's, never the server's, end
            code, message = status_of(error)
            with self._lock:
                loading.state, loading.code, loading.message = State.END, code, message
            _LOG.error("%s version %d could not be loaded from %s: %s", self.name, version, path, message)
            return
        with self._lock:
            loading.state, loading.model = State.AVAILABLE, model
        _LOG.info("%s version %d is served", self.name, version)

    def _loaded(self, path: pathlib.Path) -> LoadedModel:
        """Loaded, and warmed up where that is wanted."""
        model = LoadedModel(path, self._batcher)
        if not self._warm_up:
            return model
        try:
            with self._metrics.warm_up(str(path)):
                warm_up(model, path)
        except BaseException:
            model.close()
            raise
        return model

    def _keep_only(self, versions: Collection[int], config: _Config | None = None) -> None:
        """Ends the others, unless there is another config by now, which may want them; None: whatever it is."""
        with self._lock:
            if config is not None and config is not self._config:
                return
            for seen in self._versions.values():
                if seen.state is State.AVAILABLE and seen.version not in versions:
                    seen.state = State.UNLOADING
                    self._unloading.append(seen)
        self._close_idle()

    def _close_idle(self) -> None:
        with self._lock:
            idle = [seen for seen in self._unloading if seen.num_requests == 0]
            self._unloading = [seen for seen in self._unloading if seen.num_requests > 0]
        for seen in idle:  # nobody can lease it any more: no lock needed
            assert seen.model is not None
            seen.model.close()
            with self._lock:
                seen.state, seen.model = State.END, None
            _LOG.info("%s version %d is no longer served", self.name, seen.version)


def not_found(name: str, version: int | None) -> RequestError:
    """TensorFlow Serving's answer for a model or version that is not loaded."""
    wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")


def _files(path: pathlib.Path) -> frozenset[tuple[str, int, int]]:
    found = set()
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # moved away meanwhile
            status = file.stat()
            found.add((str(file), status.st_size, status.st_mtime_ns))
    return frozenset(found)
