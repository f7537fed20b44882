"""In which order the files are run."""

_FIRST = ("e2e", "trainer_modules")
"""Folders of long files."""


def pytest_collection_modifyitems(items):
    """Long files first, so that no worker of `make test` is left alone with one; within a file nothing moves."""
    place = {folder: number for number, folder in enumerate(_FIRST)}
    items.sort(key=lambda item: place.get(item.path.parent.name, len(_FIRST)))
