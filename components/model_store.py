"""The folder a model server watches: all models of a run pushed under one version number, or none.

    DESTINATION/
      ranking/3/ ...        what servers watch: a folder appears here complete, by one rename, or not at all
      retrieval/3/ ...      (both/3/ ... too, where one call is to do)
      versions.json         the greatest version ever used, and which models each version has and where they came from
      .staging-4/ ...       a push under way: the same file system, outside the watched folders
      .journal.json         that push, once staging is complete: whoever finds it completes the push
      .removing-ranking-1/  an old version, renamed away before it is deleted
      .lock                 held while anything changes; the system drops it when its holder is killed

A run without retrieval pushes ranking alone. Local paths only, and no TensorFlow or TFX: a killed push must be cheap
to try in a test.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from components.durable_files import HALF_WRITTEN, locked, sync, sync_tree, write_json
from trainer_modules import contract

VERSIONS_FILE = "versions.json"
MADE_OF = "made_of"
"""In the record of a version that was made of another without training: the other's content_digest. Whoever would push
that content finds it held: what was added to it is not to be lost."""
_JOURNAL_FILE = ".journal.json"
_STAGING = ".staging-"
_REMOVING = ".removing-"
_SAVED_MODEL_FILE = "saved_model.pb"
_CHUNK_BYTES = 1 << 20

_LOG = logging.getLogger("movierec.push")

_Path = str | os.PathLike[str]
Source = _Path | Sequence[_Path]
"""A folder; or several, each laid over the ones before: a SavedModel, and files that it is pushed with."""


@dataclasses.dataclass(frozen=True)
class Push:
    """What a push came to."""

    version: int
    """The version that holds the content."""
    pushed: bool
    """False: the newest version held that content already, and nothing was written."""
    record: dict[str, Any]
    """What versions.json says of the version."""


def push(
    destination: str | os.PathLike[str],
    sources: Mapping[str, Source],
    keep_versions: int,
    origin: Mapping[str, Any],
) -> Push:
    """Pushes the models as one new version, unless the newest version holds the same content.

    Args:
      destination: folder above the models' own folders; made where it is missing.
      sources: model name -> its SavedModel, and what is laid over it; contract.MODELS, with contract.BOTH or
        without, or ranking alone.
      keep_versions: versions to keep, the new one included; at least 1. Older ones that this store wrote are removed.
      origin: JSON-able facts of where the models come from, kept with the version.

    Raises:
      ValueError: other models than these or than the newest version has, a folder without a SavedModel, or
        keep_versions below 1.
    """
    if set(sources) not in ({*contract.SERVED}, {*contract.MODELS}, {contract.RANKING}):
        pair = " and ".join(contract.MODELS)
        raise ValueError(f"asked to push {sorted(sources)}, but {pair} are pushed together, or ranking alone")
    if keep_versions < 1:
        raise ValueError(f"keep_versions is {keep_versions}, but the version that is served must stay: give at least 1")
    names = [name for name in contract.SERVED if name in sources]
    for name in names:
        if _SAVED_MODEL_FILE not in _files(sources[name]):
            raise ValueError(f"{sources[name]} holds no {_SAVED_MODEL_FILE}, so there is no {name} model to push")
    root = pathlib.Path(destination)
    with locked(root):
        _recover(root)
        digest = content_digest(sources)
        held = _holding(root, digest)
        if held:
            return held
        before = newest_models(root) or tuple(names)
        if ({*before} ^ {*names}) - {contract.BOTH}:
            asked, has = " and ".join(names), " and ".join(before)
            raise ValueError(f"asked to push {asked} to {root}, whose versions have {has}")
        version = 1 + max([_versions(root)["greatest"], *_numbers(root)])
        record = {
            **origin,
            "models": names,
            "digest": digest,
            "pushed_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        }
        staging = root / f"{_STAGING}{version}"
        for name in names:
            _copy_durably(sources[name], staging / name)
        sync(staging)
        # From here on the push is decided: a crash is rolled forward.
        write_json(root / _JOURNAL_FILE, {"version": version, "record": record})
        _complete(root)
        _prune(root, keep_versions)
        return Push(version, True, record)


def recover(destination: str | os.PathLike[str]) -> int | None:
    """Completes or undoes a push that was killed; does nothing where none was. May be called at any time.

    Returns:
      The version that was completed, or None.
    """
    root = pathlib.Path(destination)
    if not root.is_dir():
        return None
    with locked(root):
        return _recover(root)


def holding(destination: str | os.PathLike[str], sources: Mapping[str, Source]) -> Push | None:
    """The newest version, if it holds this content. Only looks; `sources` as in `push`."""
    return _holding(pathlib.Path(destination), content_digest(sources))


def newest(destination: str | os.PathLike[str]) -> int | None:
    """The newest version, if it is whole, or None."""
    return _newest_complete(pathlib.Path(destination))


def newest_models(destination: str | os.PathLike[str]) -> tuple[str, ...]:
    """The models that a server of this folder has: those of the newest version, ranking first; () where none is."""
    root = pathlib.Path(destination)
    return _models_of(root, max(_numbers(root))) if _numbers(root) else ()


def read_versions(destination: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Version -> what was pushed under it: models, digest, pushed_at and the origin; removed versions included."""
    return _versions(pathlib.Path(destination))["versions"]


def content_digest(sources: Mapping[str, Source]) -> str:
    """sha256 over the names and bytes of all files, in the order of the models' names."""
    digest = hashlib.sha256()
    for name in sorted(sources):
        for relative, path in sorted(_files(sources[name]).items()):
            digest.update(f"{name}/{relative}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
    return digest.hexdigest()


def _files(source: Source) -> dict[str, pathlib.Path]:
    """Relative name -> file."""
    folders = [source] if isinstance(source, str | os.PathLike) else source
    return {
        path.relative_to(folder).as_posix(): path
        for folder in map(pathlib.Path, folders)
        for path in folder.rglob("*")
        if path.is_file()
    }


def _recover(root: pathlib.Path) -> int | None:
    completed = None
    if (root / _JOURNAL_FILE).exists():
        completed = _complete(root)
        _LOG.info("completed the push of version %d, which had been cut off", completed)
    for path in root.iterdir():
        if path.name.startswith((_STAGING, _REMOVING)):
            shutil.rmtree(path)
        elif path.name.endswith(HALF_WRITTEN):
            path.unlink()
    return completed


def _complete(root: pathlib.Path) -> int:
    """Does what the journal says, from wherever it stands. Every step may already have been done."""
    journal = json.loads((root / _JOURNAL_FILE).read_text())
    version: int = journal["version"]
    staging = root / f"{_STAGING}{version}"
    for name in contract.SERVED:
        if (staging / name).is_dir():
            (root / name).mkdir(exist_ok=True)
            (staging / name).rename(root / name / str(version))
            sync(root / name)
    sync(root)
    versions = _versions(root)
    versions["greatest"] = max(versions["greatest"], version)
    versions["versions"][str(version)] = journal["record"]
    write_json(root / VERSIONS_FILE, versions)
    (root / _JOURNAL_FILE).unlink()
    if staging.is_dir():
        staging.rmdir()
    sync(root)
    return version


def _prune(root: pathlib.Path, keep_versions: int) -> None:
    """Removes what this store wrote and no longer keeps. A folder put there by hand is not ours to remove."""
    ours = _versions(root)["versions"]
    for version in sorted(map(int, ours), reverse=True)[keep_versions:]:
        for name in contract.SERVED:
            path = root / name / str(version)
            if path.is_dir():
                away = root / f"{_REMOVING}{name}-{version}"
                path.rename(away)
                shutil.rmtree(away)


def _newest_complete(root: pathlib.Path) -> int | None:
    """The newest version, if it is the same for all of its models."""
    newest = max(_numbers(root), default=None)
    if newest is None or any(max(_numbers(root, (name,)), default=None) != newest for name in _models_of(root, newest)):
        return None
    return newest


def _models_of(root: pathlib.Path, version: int) -> tuple[str, ...]:
    """Those that were pushed under the version; of one put there by hand nothing is known, so it needs both."""
    models = _versions(root)["versions"].get(str(version), {}).get("models", contract.MODELS)
    return tuple(name for name in contract.SERVED if name in models)


def _holding(root: pathlib.Path, digest: str) -> Push | None:
    version = _newest_complete(root)
    if version is None:
        return None
    record = _versions(root)["versions"].get(str(version), {})
    if digest not in (record.get(MADE_OF), version_digest(root, version)):
        return None
    return Push(version, False, record)


def version_digest(destination: str | os.PathLike[str], version: int) -> str:
    """content_digest of a version as it lies there."""
    root = pathlib.Path(destination)
    return content_digest({name: root / name / str(version) for name in _models_of(root, version)})


def _numbers(root: pathlib.Path, names: tuple[str, ...] = contract.SERVED) -> list[int]:
    """Version numbers as a server reads them: `0008` is 8."""
    return [
        int(path.name)
        for name in names
        if (root / name).is_dir()
        for path in (root / name).iterdir()
        if path.name.isdecimal()
    ]


def _versions(root: pathlib.Path) -> dict[str, Any]:
    path = root / VERSIONS_FILE
    return json.loads(path.read_text()) if path.exists() else {"greatest": 0, "versions": {}}


def _copy_durably(source: Source, target: pathlib.Path) -> None:
    """Copies files and makes the disk hold them before returning."""
    target.mkdir(parents=True)
    for relative, path in _files(source).items():
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / relative)
    sync_tree(target)
