"""Which server this machine has: TensorFlow Serving's binary, else its image, else the embedded one."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable

_LOG = logging.getLogger("movierec.serving")

AUTO = "auto"
BINARY = "tensorflow_model_server"
CONTAINER = "container"
EMBEDDED = "embedded"
KINDS = (BINARY, CONTAINER, EMBEDDED)
"""In the order of preference."""

IMAGE = "docker.io/tensorflow/serving:2.16.1"
DESCRIPTIONS = {
    BINARY: "TensorFlow Serving (tensorflow_model_server)",
    CONTAINER: f"TensorFlow Serving in a container ({IMAGE})",
    EMBEDDED: "the embedded server (Python; TensorFlow Serving's gRPC protocol, but not TensorFlow Serving)",
}

_ENGINES = ("docker", "podman")
_ENGINE_TIMEOUT_S = 5.0
_PULL_TIMEOUT_S = 600.0


class ServerError(Exception):
    """A server could not be found, could not be started, or did not get ready."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which server, and why not another."""

    kind: str
    executable: str
    """Path of the binary, of the container engine, or of this Python."""
    reasons: tuple[str, ...]
    """One readable line for each that was passed over."""


def choose(kind: str = AUTO, pull: bool = True) -> Choice:
    """The first of KINDS that this machine has, or the one asked for.

    Args:
      kind: AUTO or one of KINDS.
      pull: whether a container engine that lacks the image may pull it; else it counts as not there.

    Raises:
      ServerError: the one asked for is not there.
      ValueError: no such kind.
    """
    if kind not in (AUTO, *KINDS):
        raise ValueError(f"{kind!r} is no kind of server; choose one of {', '.join((AUTO, *KINDS))}")
    finders: dict[str, Callable[[list[str]], str | None]] = {
        BINARY: _find_binary,
        CONTAINER: lambda reasons: _find_engine(reasons, pull),
        EMBEDDED: lambda reasons: sys.executable,
    }
    reasons: list[str] = []
    for candidate in KINDS if kind == AUTO else (kind,):
        executable = finders[candidate](reasons)
        if executable:
            return Choice(candidate, executable, tuple(reasons))
    raise ServerError(f"no {kind} here: {'; '.join(reasons)}")


def _find_binary(reasons: list[str]) -> str | None:
    path = shutil.which(BINARY)
    if path is None:
        reasons.append(f"{BINARY} is not on PATH")
    return path


def _find_engine(reasons: list[str], pull: bool) -> str | None:
    for engine in _ENGINES:
        path = shutil.which(engine)
        if path is None:
            reasons.append(f"{engine} is not on PATH")
            continue
        problem = run(path, "info", timeout_s=_ENGINE_TIMEOUT_S)
        if problem:
            reasons.append(f"{engine} is installed but does not work: {problem}")
            continue
        if run(path, "image", "inspect", IMAGE, timeout_s=_ENGINE_TIMEOUT_S):
            if not pull:
                reasons.append(f"{engine} does not have {IMAGE} yet; `movierec serve` would try to pull it")
                continue
            _LOG.info("%s pulls %s; this is done once", engine, IMAGE)
            problem = run(path, "pull", IMAGE, timeout_s=_PULL_TIMEOUT_S)
            if problem:
                reasons.append(f"{engine} cannot pull {IMAGE}: {problem}")
                continue
        return path
    return None


def run(*command: str, timeout_s: float) -> str:
    """Runs a command to its end; "" where it succeeded, else what it said last."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout_s:g} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"
