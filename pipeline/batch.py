"""Answers for many users at once, from the pushed models, without a server.

Every answer is made from explicit state: `--as-of` says up to and including which split a user's rows count as known.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import numpy as np
import polars as pl
import rich.console
import rich.progress
import tensorflow as tf

from components import evaluation_data, explicit_state, model_store
from components.errors import InputError
from components.evaluation_data import Catalog, UserStates
from pipeline import root as roots
from pipeline.lineage import Lineage
from trainer_modules import contract, features

USERS_PER_CALL = 128
MOVIES_PER_ROW = 64
AS_OF = {"train": (features.TRAIN,), "eval": features.FIT_SPLITS, "all": features.SPLITS}


@dataclasses.dataclass(frozen=True)
class _Pushed:
    """The newest pushed version and the data it came from."""

    version: str
    models_path: pathlib.Path
    catalog: Catalog
    states: UserStates

    def signature(self, model: str, name: str) -> Any:
        """A callable signature of one of the two models, loaded when asked for."""
        loaded = tf.saved_model.load(str(self.models_path / model / self.version))
        function = loaded.signatures[name]
        function.keep = loaded  # a signature does not keep its model alive
        return function


def recommend_all(
    root: pathlib.Path | None, k: int, as_of: str, stage: str, exclude: Sequence[str], output_path: pathlib.Path
) -> None:
    """Writes user_id, rank, movie_id, score: the best k movies of every user with a state.

    Args:
      root: the root folder; None: the newest.
      k: movies per user.
      as_of: the last split that counts as known: train, eval or all.
      stage: retrieval or merged. Both give retrieval's order: no other merge has measured better yet.
      exclude: movie ids that nobody is shown.
      output_path: the CSV file; it appears whole or not at all.

    Raises:
      InputError: nothing was pushed, or ranking alone, or the file cannot be written.
    """
    _check_output(output_path)
    found = roots.find(root)
    roots.check_retrieves(found)
    pushed = _load(found, as_of)
    recommend = pushed.signature(contract.RETRIEVAL, contract.RECOMMEND_FOR_HISTORY)
    states = pushed.states
    with _written_whole(output_path) as file, _progress(len(states.user_id), "users") as advance:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["user_id", "rank", "movie_id", "score"])
        for users in _chunks(len(states.user_id), USERS_PER_CALL):
            answer = recommend(
                **explicit_state.query(states.user_id[users], states, users, contract.MAX_HISTORY),
                **{
                    contract.SEEN_MOVIE_ID: tf.constant(explicit_state.seen_movie_id(states, users)),
                    contract.EXCLUDE_MOVIE_ID: tf.constant([list(exclude)] * len(users), tf.string),
                    contract.K: tf.fill([len(users)], k),
                },
            )
            ids, scores = answer[contract.MOVIE_ID].numpy(), answer[contract.SCORE].numpy()
            for user, movie_ids, row_scores in zip(users, ids, scores, strict=True):
                user_id = states.user_id[user].decode()
                writer.writerows(
                    (user_id, place, movie_id.decode(), f"{score:.6g}")
                    for place, (movie_id, score) in enumerate(zip(movie_ids, row_scores, strict=True), start=1)
                    if movie_id
                )
            advance(len(users))


def rank_pairs(root: pathlib.Path | None, pairs_path: pathlib.Path, as_of: str, output_path: pathlib.Path) -> None:
    """Writes user_id, movie_id, stars for the pairs of a CSV file, in its order.

    Args:
      root: the root folder; None: the newest.
      pairs_path: a CSV file with the columns user_id and movie_id; others are passed over.
      as_of: the last split that counts as known: train, eval or all.
      output_path: the CSV file; it appears whole or not at all.

    Raises:
      InputError: the pairs cannot be read, nothing was pushed, or the file cannot be written.
    """
    _check_output(output_path)
    pairs = _read_pairs(pairs_path)
    pushed = _load(roots.find(root), as_of)
    rank = pushed.signature(contract.RANKING, contract.RANK_FOR_HISTORY)
    stars = np.zeros(len(pairs))
    rows = _rows_of_one_user(pairs["user_id"].to_numpy())
    user_ids, movie_ids = (np.array(pairs[name].cast(pl.Binary).to_list(), bytes) for name in ("user_id", "movie_id"))
    with _written_whole(output_path) as file, _progress(len(pairs), "pairs") as advance:
        for chunk in (rows[start : start + USERS_PER_CALL] for start in range(0, len(rows), USERS_PER_CALL)):
            asked = np.full((len(chunk), max(map(len, chunk))), b"", movie_ids.dtype)
            for number, row in enumerate(chunk):
                asked[number, : len(row)] = movie_ids[row]
            chunk_ids = np.array([user_ids[row[0]] for row in chunk])
            users = pushed.states.users(chunk_ids)
            query = explicit_state.query(chunk_ids, pushed.states, users, contract.MAX_HISTORY)
            answer = rank(**query, **{contract.MOVIE_ID: tf.constant(asked)})[contract.STARS].numpy()
            for number, row in enumerate(chunk):
                stars[row] = answer[number, : len(row)]
            advance(sum(map(len, chunk)))
        pairs.select("user_id", "movie_id").with_columns(stars=pl.Series(stars).round(4)).write_csv(file)
    unknown = int((pushed.catalog.positions(movie_ids) < 0).sum())
    if unknown:
        print(f"{unknown} of {len(pairs)} pairs name a movie that the catalog lacks; their stars know only the user")


def first_user(root: pathlib.Path) -> str:
    """The id of a user with a known past: the first one of the root's data."""
    states = _load(root, "all").states
    return states.user_id[int(np.argmax(np.diff(states.row_splits) > 0))].decode()


def _load(root: pathlib.Path, as_of: str) -> _Pushed:
    newest = model_store.newest(roots.models_path(root))
    versions = {entry["version"]: entry for entry in Lineage(root).pushed()}
    if newest is None or str(newest) not in versions:
        raise InputError(f"nothing has been pushed to {roots.models_path(root)}; `movierec run` trains and pushes")
    source = versions[str(newest)]["models"][contract.RANKING]  # retrieval, if any, is made of the same
    return _Pushed(
        version=str(newest),
        models_path=roots.models_path(root),
        catalog=evaluation_data.read_catalog(source["catalog_uri"]),
        states=evaluation_data.read_user_states(source["user_state_uri"], AS_OF[as_of]),
    )


def _read_pairs(path: pathlib.Path) -> pl.DataFrame:
    try:
        pairs = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"--pairs {path} cannot be read as CSV: {str(error).splitlines()[0]}") from error
    missing = [name for name in ("user_id", "movie_id") if name not in pairs.columns]
    if missing:
        raise InputError(f"--pairs {path} has the columns {pairs.columns}; {' and '.join(missing)} is missing")
    empty = pairs.with_row_index("row", 2).filter(pl.any_horizontal(pl.col("user_id", "movie_id").is_null()))
    if len(empty):
        # Not the line: a quoted value may hold several.
        raise InputError(
            f"--pairs {path}, row {empty['row'][0]} (the header is row 1): a user_id or movie_id is empty;"
            f" {len(empty)} such rows in all"
        )
    return pairs


def _rows_of_one_user(user_id: np.ndarray) -> list[np.ndarray]:
    """Row numbers grouped by user, at most MOVIES_PER_ROW to a group."""
    order = np.argsort(user_id, kind="stable")
    is_next_user = user_id[order][1:] != user_id[order][:-1]
    groups = np.split(order, np.flatnonzero(is_next_user) + 1)
    return [group[start : start + MOVIES_PER_ROW] for group in groups for start in range(0, len(group), MOVIES_PER_ROW)]


def _chunks(total: int, size: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + size, total)) for start in range(0, total, size))


def _check_output(path: pathlib.Path) -> None:
    """Refuses what cannot be written, before anything is loaded."""
    if not path.name or path.is_dir():
        raise InputError(f"--output {path} names no file: give one in a folder that can be written")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"--output {path}: {path.parent} is no folder that can be written")


@contextlib.contextmanager
def _written_whole(path: pathlib.Path) -> Iterator[TextIO]:
    """A file beside the path that takes its name once all is written."""
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("w", newline="") as file:
            yield file
        beside.replace(path)
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror}; give a file in a folder that can be written") from error
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _progress(total: int, unit: str) -> Iterator[Any]:
    """A progress bar on stderr; yields advance(count)."""
    columns = (
        rich.progress.BarColumn(), rich.progress.MofNCompleteColumn(), rich.progress.TextColumn(unit),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)
