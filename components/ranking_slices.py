"""The test rows with what they are sliced by, which is in no example: it follows from the fit rows.

TFMA slices by features. So the evaluation is given a copy of the test split's examples, each with a few features more.
R test rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from components import evaluation_data, slices
from components.evaluation_data import Catalog, UserStates
from trainer_modules import features as f

USER, MOVIE, DECILE, AGE = "user", "movie", "popularity_decile", "user_age"
WARM, COLD = "warm", "cold"
SLICED_BY = (USER, MOVIE, DECILE, f.MOVIE_GENRES.name, AGE, f.USER_GENDER.name)
"""Features of the copy. Warm: the user, or the movie, has a fit row."""
LISTED = "listed"
"""Feature: whether the user has several test rows, so that their order says something."""
GAIN = "gain"
"""Feature: what the row is worth in a list, 2^stars - 1 (Burges et al., Learning to Rank Using Gradient Descent, ICML
2005)."""
COLUMNS = (f.USER_ID, f.MOVIE_ID, f.USER_RATING, f.RAW_USER_AGE, f.BUCKETIZED_USER_AGE)
"""What `kinds` needs of the test rows."""


def kinds(rows: Mapping[str, Any], catalog: Catalog, states: UserStates) -> dict[str, np.ndarray]:
    """What each test row is a case of.

    Args:
      rows: COLUMNS, R rows each.
      catalog: names the movies.
      states: the fit rows.

    Returns:
      By feature name, object [R]: strings, "" where unknown; LISTED's are "yes" and "no".
    """
    user_id, movie_id = rows[f.USER_ID.name], rows[f.MOVIE_ID.name]
    position = catalog.positions(states.movie_id)
    counts = np.bincount(position[position >= 0], minlength=catalog.num_movies)
    num_rows = np.append(counts, 0)[catalog.positions(movie_id)]  # a movie outside the catalog has position -1
    decile = np.append(slices.popularity_deciles(counts), 0)[catalog.positions(movie_id)]
    user = states.users(user_id)
    is_warm = np.append(np.diff(states.row_splits), 0)[user] > 0
    _, group, size = np.unique(user_id, return_inverse=True, return_counts=True)
    return {
        USER: _warm_or_cold(is_warm),
        MOVIE: _warm_or_cold(num_rows > 0),
        DECILE: np.array(["", *map(str, range(1, slices.NUM_DECILES + 1))], object)[decile],
        AGE: slices.first_values(rows[f.RAW_USER_AGE.name], slices.age_group, rows[f.BUCKETIZED_USER_AGE.name]),
        LISTED: np.where(size[group] > 1, "yes", "no").astype(object),
    }


def write(examples_uri: str, features: Mapping[str, np.ndarray], gain: np.ndarray, to_uri: str) -> None:
    """Copies the test split, each example with its own features more.

    Args:
      examples_uri: the artifact; its rows in the order of evaluation_data.read.
      features: strings by name, object [R]; none is added where it is "".
      gain: float [R].
      to_uri: the folder of the copy.
    """
    folder = f"{to_uri}/Split-{f.TEST}"
    tf.io.gfile.makedirs(folder)
    records = tf.data.TFRecordDataset(evaluation_data.files(examples_uri, f.TEST), compression_type="GZIP")
    with tf.io.TFRecordWriter(f"{folder}/data_tfrecord-00000-of-00001.gz", "GZIP") as writer:
        for number, record in enumerate(records.as_numpy_iterator()):
            more = tf.train.Example()
            for name, values in features.items():
                if values[number]:
                    more.features.feature[name].bytes_list.value.append(values[number].encode())
            more.features.feature[GAIN].float_list.value.append(gain[number])
            # One serialized message after the other is their union: that is how protocol buffers merge.
            writer.write(record + more.SerializeToString())


def _warm_or_cold(is_warm: np.ndarray) -> np.ndarray:
    return np.where(is_warm, WARM, COLD).astype(object)
