"""Copies of whole folders."""

from __future__ import annotations

import os
import shutil

from tfx.utils import io_utils


def copy(source: str, target: str) -> None:
    """Copies a folder, by hard links where both lie on one file system; either may be remote.

    Args:
      source: the folder.
      target: its copy, which does not exist yet. Its files are not to be written to: they may be the source's.
    """
    if "://" in source or "://" in target:
        io_utils.copy_dir(source, target)
        return
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
