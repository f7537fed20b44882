"""Is this machine fit to run movierec? Each check says what was seen and what to do."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import pathlib
import re
import shutil
import socket
import sys

MIN_DISK_GB = 2.0
MIN_MEMORY_GB = 4.0


@dataclasses.dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    ok: bool
    seen: str
    advice: str = ""
    """What to do when it is not ok, or what would be better."""


def run(address: str) -> list[Check]:
    """Runs every check; imports nothing heavy.

    Args:
      address: host:port that `movierec serve` would listen on.
    """
    return [_python(), _packages(), _keras(), _memory(), _disk(), _port(address), _server()]


def _python() -> Check:
    seen = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info[:2] == (3, 10), seen, "TFX 1.16 needs Python 3.10: make setup")


def _packages() -> Check:
    """Everything the distribution asks for, at a version it allows."""
    from packaging.requirements import Requirement

    wrong = []
    for line in importlib.metadata.requires("movierec") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version}, want {requirement.specifier}")
    return Check("packages", not wrong, "; ".join(wrong) or "as pinned", "make setup")


def _keras() -> Check:
    """tf-keras in place of Keras 3 is set by our packages; another setting in the environment would be lost."""
    import os

    from trainer_modules.legacy_keras import VARIABLE

    value = os.environ.get(VARIABLE, "")
    return Check("keras", value == "1", f"{VARIABLE}={value}", "tensorflow-recommenders needs tf-keras 2")


def _memory() -> Check:
    total = re.search(r"MemTotal:\s+(\d+)", _read("/proc/meminfo"))
    if total is None:
        return Check("memory", True, "unknown on this system", f"a run on ml-100k takes about {MIN_MEMORY_GB:.0f} GB")
    size_gb = int(total[1]) / 1e6
    return Check("memory", size_gb >= MIN_MEMORY_GB, f"{size_gb:.1f} GB", f"at least {MIN_MEMORY_GB:.0f} GB")


def _disk() -> Check:
    free_gb = shutil.disk_usage(".").free / 1e9
    return Check("disk", free_gb >= MIN_DISK_GB, f"{free_gb:.1f} GB free here", f"free at least {MIN_DISK_GB:.0f} GB")


def _port(address: str) -> Check:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            return Check("port", False, f"{address}: {error.strerror}", "movierec serve --address takes another port")
    return Check("port", True, f"{address} is free")


def _server() -> Check:
    from serving import finder

    choice = finder.choose(pull=False)
    passed_over = f" ({'; '.join(choice.reasons)})" if choice.reasons else ""
    return Check("server", True, f"movierec serve would start {finder.DESCRIPTIONS[choice.kind]}{passed_over}")


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""
