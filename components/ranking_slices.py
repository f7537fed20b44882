"""What a ranking model is sliced by, its figures on each slice, and which slice fares worst. R test rows.

A row belongs to kinds of users and of movies, which follow from the fit rows and are in no example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from components import evaluation_data, ranking_figures, slices
from components.evaluation_data import Catalog, Ragged, UserStates
from trainer_modules import features as f

USER, MOVIE, DECILE, AGE, GENDER, GENRE = "user", "movie", "popularity_decile", "user_age", "user_gender", "genre"
LISTED, GAIN = "listed", "gain"
MIN_ROWS = 200
"""A smaller slice is too uncertain to be held against a model: of 200 rows the standard error of an RMSE is 4 to
6 % (bootstrap on ml-100k)."""
WORST_SLICE = "worst_slice"
"""Metric: RMSE of the worst slice of MIN_ROWS rows or more, as a multiple of the whole's."""
KINDS = (USER, MOVIE, DECILE, GENRE, AGE, GENDER, LISTED)
"""What `kinds` tells apart."""
COLUMNS = (
    f.USER_ID, f.MOVIE_ID, f.USER_RATING, f.MOVIE_GENRES, f.USER_GENDER, f.RAW_USER_AGE, f.BUCKETIZED_USER_AGE,
)  # fmt: skip
"""What `kinds` needs of the test rows."""


def feature_key(kind: str) -> str:
    """What TFMA finds a kind under: no raw feature's name, whose type it would change under the model's parser."""
    return f"slice_{kind}"


def kinds(rows: Mapping[str, Any], catalog: Catalog, states: UserStates) -> dict[str, Ragged]:
    """What each test row is a case of.

    Args:
      rows: COLUMNS, R rows each.
      catalog: names the movies.
      states: the fit rows. Warm is what has some.

    Returns:
      Kind -> a list of names, bytes, for each row. Deciles are slices.popularity_deciles, 0 for a movie without fit
      rows. LISTED says whether the user has several test rows, so that their order says something.
    """
    user_id = rows[f.USER_ID.name]
    position = catalog.positions(states.movie_id)
    num_rows = np.append(np.bincount(position[position >= 0], minlength=catalog.num_movies), 0)
    movie = catalog.positions(rows[f.MOVIE_ID.name])  # -1, the last, for one outside the catalog
    is_warm = np.append(np.diff(states.row_splits), 0)[states.users(user_id)] > 0
    _, group, size = np.unique(user_id, return_inverse=True, return_counts=True)
    age = slices.first_values(rows[f.RAW_USER_AGE.name], slices.age_group, rows[f.BUCKETIZED_USER_AGE.name])
    return {
        USER: _one_each(np.where(is_warm, b"warm", b"cold")),
        MOVIE: _one_each(np.where(num_rows[movie] > 0, b"warm", b"cold")),
        DECILE: _one_each(slices.popularity_deciles(num_rows)[movie].astype(bytes)),
        GENRE: rows[f.MOVIE_GENRES.name],
        AGE: _one_each(age.astype(bytes)),
        GENDER: Ragged(rows[f.USER_GENDER.name].values.astype(bytes), rows[f.USER_GENDER.name].row_splits),
        LISTED: _one_each(np.where(size[group] > 1, b"yes", b"no")),
    }


def by_slice(
    kinds_of_rows: Mapping[str, Ragged], user_id: np.ndarray, stars: np.ndarray, predicted: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Every slice that occurs.

    Args:
      kinds_of_rows: from `kinds`.
      user_id: bytes [R].
      stars: [R].
      predicted: "candidate" and whatever stands beside it -> [R], stars.

    Returns:
      [{"slice": "genre=Drama", "num": rows, "metrics": the candidate's, "beside": {name: metrics}}].
    """
    found = []
    for kind, names in kinds_of_rows.items():
        row = np.repeat(np.arange(len(stars)), names.lengths)
        if kind == LISTED:
            continue  # for TFMA, whose order of a single row counts
        for name in sorted(set(names.values.tolist()) - {b""}, key=lambda name: (name.isdigit() * len(name), name)):
            chosen = row[names.values == name]
            measured = {
                model: ranking_figures.figures(user_id[chosen], stars[chosen], values[chosen])
                for model, values in predicted.items()
            }
            own = measured.pop("candidate")
            found.append(
                {"slice": f"{kind}={name.decode()}", "num": len(chosen), "metrics": own, "beside": measured}
            )
    return found


def worst(found: list[dict[str, Any]], whole_rmse: float, limit: float | None) -> dict[str, Any] | None:
    """The fairness line: the slice with the largest RMSE among those of MIN_ROWS rows and more; None without any.

    Args:
      found: from `by_slice`.
      whole_rmse: stars.
      limit: of the ratio; None: none.

    Returns:
      {"slice", "num", "rmse", "ratio": to the whole's, "limit"}.
    """
    large = [part for part in found if part["num"] >= MIN_ROWS]
    if not large:
        return None
    part = max(large, key=lambda part: part["metrics"]["rmse"])
    rmse = part["metrics"]["rmse"]
    return {"slice": part["slice"], "num": part["num"], "rmse": rmse, "ratio": rmse / whole_rmse, "limit": limit}


def write_examples(
    examples_uri: str, kinds_of_rows: Mapping[str, Ragged], stars: np.ndarray, to_uri: str
) -> None:
    """Copies the test split for TFMA, which slices by features: each example gets feature_key of each of its kinds.

    Args:
      examples_uri: the artifact; its rows in the order of evaluation_data.read.
      kinds_of_rows: from `kinds`.
      stars: [R]; GAIN is what a row is worth in a list.
      to_uri: the copy.
    """
    tf.io.gfile.makedirs(f"{to_uri}/Split-{f.TEST}")
    records = tf.data.TFRecordDataset(evaluation_data.files(examples_uri, f.TEST), compression_type="GZIP")
    gain = ranking_figures.gain(stars)
    with tf.io.TFRecordWriter(f"{to_uri}/Split-{f.TEST}/data_tfrecord-00000-of-00001.gz", "GZIP") as writer:
        for number, record in enumerate(records.as_numpy_iterator()):
            more = tf.train.Example()
            for kind, names in kinds_of_rows.items():
                values = names.values[names.row_splits[number] : names.row_splits[number + 1]]
                more.features.feature[feature_key(kind)].bytes_list.value.extend(filter(None, values.tolist()))
            more.features.feature[GAIN].float_list.value.append(gain[number])
            # One serialized message after the other is their union: that is how protocol buffers merge.
            writer.write(record + more.SerializeToString())


def _one_each(names: np.ndarray) -> Ragged:
    return Ragged(names, np.arange(len(names) + 1))
