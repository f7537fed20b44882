"""What a shared root remembers of earlier runs, for runners without drivers, who could ask ML Metadata.

    accepted/7-3f2a.../       what DistributionCheck left of data that the gate let pass
    blessed/ranking/3/        a model that was pushed: its SavedModel, its fit rows, and what a training may start from

Both appear whole, by one rename, or not at all.
"""

from __future__ import annotations

import pathlib
import shutil

from components import file_trees
from components.durable_files import locked

_NUM_ACCEPTED = 3
"""Data sets kept: the newest, the one before it, and one to spare."""
_DIGEST_LENGTH = 16


def keep_accepted(folder: pathlib.Path, uri: str, data_digest: str) -> None:
    """Remembers data that passed.

    Args:
      folder: ROOT/accepted; made where it is missing.
      uri: DistributionCheck's output.
      data_digest: tells one data from another.
    """
    with locked(folder):
        known = _by_number(folder)
        name = data_digest[:_DIGEST_LENGTH]
        if known and known[-1].name.partition("-")[2] == name:
            return
        number = 1 + (_number(known[-1]) if known else 0)
        _put(uri, folder / f"{number}-{name}")
        for old in known[: -_NUM_ACCEPTED + 1]:
            shutil.rmtree(old)


def last_accepted(folder: pathlib.Path, data_digest: str) -> str:
    """Where the newest other data's statistics lie; "" where there are none."""
    others = [
        path for path in _by_number(folder) if path.name.partition("-")[2] != data_digest[:_DIGEST_LENGTH]
    ]
    return str(others[-1]) if others else ""


def keep_blessed(
    folder: pathlib.Path, model_uri: str, parts: tuple[str, ...], version: int, keep_versions: int
) -> None:
    """Remembers a model that was pushed.

    Args:
      folder: ROOT/blessed/MODEL.
      model_uri: the artifact.
      parts: folders of it that are kept, where it has them.
      version: that it was pushed under; one that is remembered already stays.
      keep_versions: versions kept, the newest.
    """
    with locked(folder):
        if not (folder / str(version)).is_dir():
            staged = _empty(folder / f".{version}")
            for part in parts:
                if (pathlib.Path(model_uri) / part).is_dir():
                    file_trees.copy(f"{model_uri}/{part}", str(staged / part))
            staged.rename(folder / str(version))
        for old in _by_number(folder)[:-keep_versions]:
            shutil.rmtree(old)


def blessed(folder: pathlib.Path) -> list[pathlib.Path]:
    """The remembered models, oldest first; a folder's name is the version."""
    return _by_number(folder)


def _put(source: str, target: pathlib.Path) -> None:
    staged = target.with_name(f".{target.name}")
    shutil.rmtree(staged, ignore_errors=True)
    file_trees.copy(source, str(staged))
    staged.rename(target)


def _empty(path: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def _by_number(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), key=_number) if folder.is_dir() else []


def _number(path: pathlib.Path) -> int:
    return int(path.name.partition("-")[0])
