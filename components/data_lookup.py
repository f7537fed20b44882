"""Where the ratings lie, looked up by the task that reads them: for a runner whose root is on another machine.

The local runner looks before it makes the graph, and tells the components what it found.
"""

from __future__ import annotations

import dataclasses
import pathlib

from components import source_files, spans
from components.editions import OWN_FILES, Edition, get_edition
from components.errors import InputError


@dataclasses.dataclass(frozen=True)
class Found:
    """What there is to read."""

    path: pathlib.Path
    """Folder or zip of the edition's files, or the folder of the spans."""
    edition: Edition
    spans: tuple[int, ...]
    """Numbers of those that are read, oldest first; empty: the edition's files."""
    digest: str
    """sha256 of the content."""


def find(root: pathlib.Path, dataset: str, data_dir: str, fold: str, num_last_spans: int) -> Found:
    """The root's spans where it has any, else the data set's files.

    Args:
      root: the shared folder; what is downloaded is kept in its .cache.
      dataset: name of the edition.
      data_dir: a folder or zip of the edition; "": the cache, else a download.
      fold: that the split reads, or "".
      num_last_spans: how many of the newest spans are read; 0: all.

    Raises:
      InputError: there is nothing to read, or a fold of spans is asked for.
    """
    ingested = spans.listed(root / "spans")
    if ingested is None:
        if dataset == OWN_FILES:
            raise InputError(
                f"dataset {OWN_FILES} is read from spans here, and {root} has none: `movierec ingest FILE... --root"
                f" {root}` makes them, where that folder is mounted"
            )
        edition = get_edition(dataset).with_fold(fold)
        path = source_files.locate(edition, pathlib.Path(data_dir) if data_dir else None, root / ".cache")
        return Found(path, edition, (), source_files.content_digest(path, edition))
    if fold:
        raise InputError(f"{root} has spans, and fold {fold} divides the published ratings and no others")
    numbers = ingested.newest(num_last_spans or None)
    return Found(root / "spans", ingested.edition, tuple(numbers), spans.content_digest(root / "spans", numbers))
