"""Starts a server for the models and waits until it answers. Says which server that is. Imports no TensorFlow."""

from __future__ import annotations

import errno
import logging
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from serving import commands, finder
from serving.client import DEFAULT_ADDRESS, RecommenderClient, ServingError
from serving.commands import DEFAULTS, Options
from serving.finder import AUTO, BINARY, CONTAINER, EMBEDDED, KINDS, Choice, ServerError
from serving.loopback import exposure
from serving.protocol import State
from serving.versions import versions_on_disk

__all__ = [
    "AUTO", "BINARY", "CONTAINER", "DEFAULTS", "EMBEDDED", "KINDS",
    "START_TIMEOUT_S", "Options", "RunningServer", "ServerError", "start", "wait_until_available",
]  # fmt: skip

START_TIMEOUT_S = 300.0
"""As long as TFX's own InfraValidator waits. The sample's models take 15 s of CPU, and a busy machine may give a tenth
of its time."""

_LOG = logging.getLogger("movierec.serving")
_NUM_LOG_LINES = 15
_LOOK_AGAIN_S = 0.05


class RunningServer:
    """A server process that answers for every model. End it with `stop`, or use it as a context manager."""

    def __init__(
        self,
        choice: Choice,
        address: str,
        process: subprocess.Popen[bytes],
        folder: pathlib.Path,
        log_path: pathlib.Path,
    ) -> None:
        self.kind = choice.kind
        """BINARY, CONTAINER or EMBEDDED."""
        self.description = finder.DESCRIPTIONS[choice.kind]
        """What serves, in words for a person."""
        self.reasons = choice.reasons
        """Why it is not a kind that comes before: one line each."""
        self.address = address
        """host:port."""
        self.exposure = ""
        """What it lacks where others than this machine can reach it."""
        self.pid = process.pid
        """Of the server; of the engine's client where it is a container."""
        self.log_path = log_path
        self._executable = choice.executable
        self._process = process
        self._folder = folder

    def wait(self) -> int:
        """Waits until the server ends by itself; its exit status."""
        return self._process.wait()

    def ended(self) -> bool:
        """True once the process is gone."""
        return self._process.poll() is not None

    def stop(self, timeout_s: float = 15.0) -> None:
        """Asks the server to end, waits for it, and kills it after `timeout_s`. A second call does nothing."""
        if self.kind == CONTAINER and not self.ended():  # a signal would not get past the image's shell
            finder.run(self._executable, "rm", "--force", self._folder.name, timeout_s=timeout_s)
        if not self.ended():
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def log_tail(self) -> str:
        """The last lines that the server said."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-_NUM_LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (nothing)"

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(
    models: Mapping[str, pathlib.Path],
    address: str = DEFAULT_ADDRESS,
    kind: str = AUTO,
    timeout_s: float = START_TIMEOUT_S,
    log_path: pathlib.Path | None = None,
    rest_port: int = 0,
    options: Options = DEFAULTS,
) -> RunningServer:
    """Starts a server and waits until each model has an AVAILABLE version.

    Args:
      models: name -> base path, the folder that holds the version directories.
      address: host:port to listen at; port 0 takes a free one (`RunningServer.address` says which).
        tensorflow_model_server cannot be told a host: it listens on every interface of the machine.
      kind: AUTO takes the first of KINDS that is here; or one of them, and no other.
      timeout_s: for the server to start and load. Pulling the image is not counted.
      log_path: file for what the server says; by default one that goes when the server is stopped.
      rest_port: port of REST, on the same host; 0: no REST.
      options: what else it is started with.

    Raises:
      ServerError: nothing to serve, the address is taken, that kind of server does not do what `options` ask, the
        server died, could not load a model or was too slow.
      ValueError: the address is not host:port, or there is no such kind.
    """
    for name, base_path in models.items():
        if not versions_on_disk(base_path):
            raise ServerError(
                f"no version of the {name} model is in {base_path} (a version is a folder whose name is a number):"
                " run `movierec run` first, or give the root of a finished run"
            )
    host, port = _host_and_port(address)
    choice = finder.choose(kind)
    commands.check(choice.kind, options)
    for reason in choice.reasons:
        _LOG.info("%s", reason)
    if rest_port:
        _check_free("0.0.0.0" if choice.kind == BINARY else host, rest_port)
    if port:
        _check_free("0.0.0.0" if choice.kind == BINARY else host, port)
    elif choice.kind != EMBEDDED:
        port = _free_port(host)

    wanted = commands.versions_of_config(options.models_config_path) if options.models_config_path else {}
    folder = pathlib.Path(tempfile.mkdtemp(prefix="movierec-serving-"))
    log_path = log_path or folder / "server.log"
    deadline = time.monotonic() + timeout_s
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            commands.command(
                choice, {name: path.resolve() for name, path in models.items()}, host, port, rest_port, folder, options
            ),
            stdin=subprocess.PIPE,  # the embedded server ends when this does: with us, however we end
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
        )
    server = RunningServer(choice, f"{host}:{port}", process, folder, log_path)
    server.exposure = exposure(f"0.0.0.0:{port}" if choice.kind == BINARY else address, options.tls_files)
    try:
        if choice.kind == EMBEDDED:
            server.address = _written_address(folder / "address", server.ended, deadline)
        asked = f"unix:{folder / commands.SOCKET}" if options.tls_files else server.address
        wait_until_available(asked, models, deadline - time.monotonic(), server.ended, wanted)
    except ServerError as error:
        message = f"{server.description}: {error}. The last it said:\n{server.log_tail()}"
        server.stop()
        raise ServerError(message) from error
    except BaseException:
        server.stop()
        raise
    _LOG.info("%s answers at %s (process %d)", server.description, server.address, server.pid)
    return server


def wait_until_available(
    address: str,
    models: Iterable[str],
    timeout_s: float = START_TIMEOUT_S,
    ended: Callable[[], bool] = lambda: False,
    wanted: Mapping[str, Collection[int]] | None = None,
) -> None:
    """Waits until the server at `address` has an AVAILABLE version of every model.

    Args:
      ended: True once the server cannot answer any more.
      wanted: model -> versions that must all be AVAILABLE.

    Raises:
      ServerError: it ended, could not load a model, or `timeout_s` went by.
    """
    deadline = time.monotonic() + timeout_s
    waiting = dict.fromkeys(models, "not asked")
    with RecommenderClient(address, timeout_s=2.0) as client:
        while True:
            for model in list(waiting):
                waiting[model] = _why_not_available(client, model, (wanted or {}).get(model, ()))
                if not waiting[model]:
                    del waiting[model]
            if ended():  # looked at after the answers: they may have come from another server at that address
                raise ServerError("it ended before it was ready")
            if not waiting:
                return
            if time.monotonic() > deadline:
                reasons = "; ".join(f"{model}: {reason}" for model, reason in waiting.items())
                raise ServerError(f"it was not ready within {timeout_s:.0f} s ({reasons})")
            time.sleep(_LOOK_AGAIN_S)


def _why_not_available(client: RecommenderClient, model: str, wanted: Collection[int]) -> str:
    """"" once the wanted versions of the model, or else any, are AVAILABLE."""
    try:
        versions = client.versions(model)
    except ServingError as error:
        return f"{error.code} {error.message}"
    waiting = {*wanted} - {version.version for version in versions if version.state is State.AVAILABLE}
    if not waiting and any(version.state is State.AVAILABLE for version in versions):
        return ""
    looked_at = [version for version in versions if version.version in waiting or not wanted]
    if not looked_at:
        return f"version {min(waiting)} has not been seen"
    newest = looked_at[0]
    if newest.state is State.END and newest.error:
        raise ServerError(f"{model} version {newest.version} could not be loaded: {newest.error}")
    return f"version {newest.version} is {newest.state.name}"


def _written_address(path: pathlib.Path, ended: Callable[[], bool], deadline: float) -> str:
    """What the embedded server wrote once it listened: only it knows which free port it took."""
    while not path.exists():
        if ended():
            raise ServerError("it ended before it listened")
        if time.monotonic() > deadline:
            raise ServerError("it did not begin to listen in time")
        time.sleep(_LOOK_AGAIN_S)
    return path.read_text()


def _environment() -> dict[str, str]:
    """Ours, and a Python started with it finds our packages where we did, installed or not."""
    ours = str(pathlib.Path(__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))}


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"the address {address!r} is not host:port, like {DEFAULT_ADDRESS}")
    return host, int(port)


def _check_free(host: str, port: int) -> None:
    try:
        _bind(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServerError(
                f"{host}:{port} is in use, perhaps by a server started before: stop that one, or choose another"
                f" with --address {host}:{port + 1}"
            ) from error
        raise ServerError(f"nothing can listen at {host}:{port}: {error.strerror}") from error


def _free_port(host: str) -> int:
    return _bind(host, 0)


def _bind(host: str, port: int) -> int:
    """Binds for a moment; the port that was bound."""
    family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left behind is free
        probe.bind(address)
        return int(probe.getsockname()[1])
