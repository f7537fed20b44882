"""Movies by title, from the catalog of a root's newest pushed version."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from components.errors import InputError
from pipeline import root as roots
from pipeline.lineage import Lineage
from trainer_modules import contract


def ids_of_titles(root: pathlib.Path | None, titles: Sequence[str]) -> list[str]:
    """The movie id of each title.

    Raises:
      InputError: no such title (near ones are named), or several movies share it (their ids are listed).
    """
    import difflib

    ids: dict[str, list[str]] = {}
    for movie_id, title in _movies(roots.find(root)):
        ids.setdefault(title, []).append(movie_id)
    found = []
    for title in titles:
        named = ids.get(title, [])
        if not named:
            part = title.casefold()
            near = [known for known in ids if part and part in known.casefold()][:3]
            near = near or difflib.get_close_matches(title, ids, n=3)
            said = f"; near are: {', '.join(near)}" if near else ': titles are written as in "Speed (1994)"'
            raise InputError(f"no movie is called {title!r}{said}")
        if len(named) > 1:
            raise InputError(f"{title!r} names {len(named)} movies: give one of the ids {', '.join(named)} instead")
        found.append(named[0])
    return found


def first_ids(root: pathlib.Path, count: int) -> list[str]:
    """The ids of the first movies of the catalog."""
    return [movie_id for movie_id, _ in _movies(root)[:count]]


def _movies(root: pathlib.Path) -> list[tuple[str, str]]:
    """Id and title, in catalog order."""
    from components import evaluation_data
    from trainer_modules import features as f

    pushed = Lineage(root).pushed()
    if not pushed:
        raise InputError("nothing has been pushed, so there is no catalog to look titles up in; `movierec run` first")
    catalog_uri = pushed[-1]["models"][contract.RANKING]["catalog_uri"]
    columns = evaluation_data.read(catalog_uri, f.ALL, (f.MOVIE_ID, f.MOVIE_TITLE))
    ids, titles = (columns[feature.name].tolist() for feature in (f.MOVIE_ID, f.MOVIE_TITLE))
    return [(movie_id.decode(), title.decode()) for movie_id, title in zip(ids, titles, strict=True)]
