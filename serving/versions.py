"""Which directories under a model's base path are versions of it."""

from __future__ import annotations

import pathlib

_MAX_VERSION = 2**63 - 1


def versions_on_disk(base_path: pathlib.Path) -> dict[int, pathlib.Path] | None:
    """Version -> its directory, as TensorFlow Serving sees them.

    A version is a directory whose name is a number ("0008" is version 8); everything else is left aside.
    None: the base path is not there.
    """
    try:
        children = sorted(base_path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return {int(child.name): child for child in children if _is_version(child)}


def _is_version(path: pathlib.Path) -> bool:
    name = path.name
    return name.isascii() and name.isdigit() and int(name) <= _MAX_VERSION and path.is_dir()
