"""In which order the files are run, and that pytest's options are nobody else's."""

import sys

_FIRST = ("e2e", "trainer_modules")
"""Folders of long files."""


def pytest_collection_modifyitems(items):
    """Long files first, so that no worker of `make test` is left alone with one; within a file nothing moves."""
    place = {folder: number for number, folder in enumerate(_FIRST)}
    items.sort(key=lambda item: place.get(item.path.parent.name, len(_FIRST)))


def pytest_sessionstart():
    """A Beam executor of TFX reads its process's command line and takes `-v -n 0` for a verbosity of "-n"."""
    del sys.argv[1:]
