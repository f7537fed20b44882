"""Which directories under a model's base path are versions of it, and which of those are served."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable

_MAX_VERSION = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk are served; by default the newest alone."""

    num_latest: int | None = 1
    """That many of the newest; None: all of them."""
    specific: frozenset[int] | None = None
    """If given: these, as far as they are there, and no others."""

    def wanted(self, on_disk: Iterable[int]) -> list[int]:
        """The versions to serve, the newest first."""
        newest_first = sorted(on_disk, reverse=True)
        if self.specific is not None:
            return [version for version in newest_first if version in self.specific]
        return newest_first[: self.num_latest]


NEWEST = VersionPolicy()


def versions_on_disk(base_path: pathlib.Path) -> dict[int, pathlib.Path] | None:
    """Version -> its directory, as TensorFlow Serving sees them.

    A version is a directory whose name is a number ("0008" is version 8); everything else is left aside.
    None: the base path is not there.
    """
    try:
        children = sorted(base_path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = {int(child.name): child for child in children if _is_version(child)}
    return found if base_path.is_dir() else None  # renamed away meanwhile: what was found says nothing


def _is_version(path: pathlib.Path) -> bool:
    name = path.name
    return name.isascii() and name.isdigit() and int(name) <= _MAX_VERSION and path.is_dir()
