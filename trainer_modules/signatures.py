"""What both served models have in common: the inputs' shapes and limits, the catalog by name, the caller's history.

A served model is a tf.Module whose tf.functions take and give tensors by the names in contract.py. It holds stock
TensorFlow operations only, so any server can load it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from trainer_modules import contract as c
from trainer_modules import features as f
from trainer_modules.inputs import Catalog, parsing_spec, position_table
from trainer_modules.snapshot import History, dense, newest, ragged
from trainer_modules.top_k import TopK, top_k
from trainer_modules.transform_graph import TransformGraph

SPECS = {
    c.USER_ID: tf.TensorSpec([None], tf.string, c.USER_ID),
    c.HISTORY_MOVIE_ID: tf.TensorSpec([None, None], tf.string, c.HISTORY_MOVIE_ID),
    c.HISTORY_RATING: tf.TensorSpec([None, None], tf.float32, c.HISTORY_RATING),
    c.HISTORY_TIMESTAMP: tf.TensorSpec([None, None], tf.int64, c.HISTORY_TIMESTAMP),
    c.QUERY_TIMESTAMP: tf.TensorSpec([None], tf.int64, c.QUERY_TIMESTAMP),
    c.SEEN_MOVIE_ID: tf.TensorSpec([None, None], tf.string, c.SEEN_MOVIE_ID),
    c.EXCLUDE_MOVIE_ID: tf.TensorSpec([None, None], tf.string, c.EXCLUDE_MOVIE_ID),
    c.POSITIVE_MOVIE_ID: tf.TensorSpec([None, None], tf.string, c.POSITIVE_MOVIE_ID),
    c.GENRE: tf.TensorSpec([None, None], tf.string, c.GENRE),
    c.MIN_YEAR: tf.TensorSpec([None], tf.int32, c.MIN_YEAR),
    c.MAX_YEAR: tf.TensorSpec([None], tf.int32, c.MAX_YEAR),
    c.K: tf.TensorSpec([None], tf.int32, c.K),
    c.EXAMPLES: tf.TensorSpec([None], tf.string, c.EXAMPLES),
}
"""The inputs by name. MOVIE_ID is not among them: it is [B] to retrieval and [B, M] to ranking."""

QUERY = (c.USER_ID, c.HISTORY_MOVIE_ID, c.HISTORY_RATING, c.HISTORY_TIMESTAMP, c.QUERY_TIMESTAMP)
"""A user and the state that the caller brings."""

EXAMPLE_SPEC = {
    f.USER_ID.name: tf.io.FixedLenFeature([], tf.string),
    f.MOVIE_ID.name: tf.io.FixedLenFeature([], tf.string, ""),
    f.TIMESTAMP.name: tf.io.FixedLenFeature([], tf.int64, 0),
    f.HISTORY_MOVIE_ID.name: tf.io.FixedLenFeature([f.HISTORY_LENGTH], tf.string, [""] * f.HISTORY_LENGTH),
    f.HISTORY_RATING.name: tf.io.FixedLenFeature([f.HISTORY_LENGTH], tf.float32, [0.0] * f.HISTORY_LENGTH),
    f.HISTORY_TIMESTAMP.name: tf.io.FixedLenFeature([f.HISTORY_LENGTH], tf.int64, [0] * f.HISTORY_LENGTH),
}
"""What serving_default reads of a rating example. All but the user has a default."""

_HISTORY = (c.HISTORY_MOVIE_ID, c.HISTORY_RATING, c.HISTORY_TIMESTAMP)

_LIMITS = {
    c.HISTORY_MOVIE_ID: c.MAX_HISTORY,
    c.HISTORY_RATING: c.MAX_HISTORY,
    c.HISTORY_TIMESTAMP: c.MAX_HISTORY,
    c.SEEN_MOVIE_ID: c.MAX_EXCLUDE,
    c.EXCLUDE_MOVIE_ID: c.MAX_EXCLUDE,
    c.POSITIVE_MOVIE_ID: c.MAX_EXCLUDE,
    c.GENRE: c.MAX_GENRES,
    c.MOVIE_ID: c.MAX_RANK,
}
"""Most columns of a two-dimensional input."""


def specs(*names: str) -> list[tf.TensorSpec]:
    """A tf.function's input_signature."""
    return [SPECS[name] for name in names]


def checked(**inputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Adds a signature's limits to the graph. A request beyond them fails with INVALID_ARGUMENT and says why.

    Args:
      **inputs: every input by its name in contract.py; all have the batch as first dimension.

    Returns:
      The inputs in the same order, to be used instead: they wait for the assertions, which else would race with
      whatever a bad input breaks later.
    """
    batch = tf.shape(next(iter(inputs.values())))[0]
    assertions = [_require(batch <= c.MAX_BATCH, f"at most {c.MAX_BATCH} requests in a batch, not", batch)]
    for name, value in inputs.items():
        rows = tf.shape(value)[0]
        assertions.append(_require(rows == batch, f"{name} needs as many rows as the other inputs, not", rows))
        if value.shape.rank == 2:
            width = tf.shape(value)[1]
            limit = _LIMITS[name]
            assertions.append(_require(width <= limit, f"{name} has at most {limit} columns, not", width))
        if name == c.K:
            assertions.append(_require(tf.reduce_all(value >= 1), "k is at least 1, not", value))
            assertions.append(_require(tf.reduce_all(value <= c.MAX_K), f"k is at most {c.MAX_K}, not", value))
    widths = [tf.shape(inputs[name])[1] for name in _HISTORY if name in inputs]
    for width in widths[1:]:
        assertions.append(_require(width == widths[0], f"{', '.join(_HISTORY)} are equally long, not", *widths))
    with tf.control_dependencies(assertions):
        return tuple(tf.identity(value) for value in inputs.values())


class CatalogNames(tf.Module):
    """Movie ids and titles from and to catalog positions, and how often each movie was rated."""

    def __init__(self, catalog: Catalog, num_fit_rows: np.ndarray) -> None:
        """Takes over a catalog of N movies.

        Args:
          catalog: the catalog.
          num_fit_rows: int [N], the rows the model was fitted on, by movie.
        """
        super().__init__(name="catalog_names")
        self._table = position_table(catalog.movie_id)
        # "" is what position -1 stands for: it is kept behind the last movie.
        self._movie_id = tf.Variable(_with_empty(catalog.movie_id), trainable=False, name="movie_id")
        self._movie_title = tf.Variable(_with_empty(catalog.movie_title), trainable=False, name="movie_title")
        self._num_fit_rows = tf.Variable(tf.constant(num_fit_rows, tf.float32), trainable=False, name="num_fit_rows")
        self.num_movies = catalog.num_movies

    def positions(self, movie_id: tf.Tensor) -> tf.Tensor:
        """string [...] -> int32 [...]: catalog positions, -1 for "" and for what is not in the catalog."""
        return self._table.lookup(movie_id)

    def answer(self, best: TopK) -> dict[str, tf.Tensor]:
        """Positions [B, W] and scores -> movie_id and movie_title ("" pads) and score (-inf pads), [B, W]."""
        row = tf.where(best.position >= 0, best.position, self.num_movies)
        return {
            c.MOVIE_ID: tf.gather(self._movie_id, row),
            c.MOVIE_TITLE: tf.gather(self._movie_title, row),
            c.SCORE: best.score,
        }

    def popular(self, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """int32 [B] -> the movies with most fit rows; a movie without any is nobody's favourite and left out."""
        (k,) = checked(k=k)
        rows = tf.where(self._num_fit_rows > 0, self._num_fit_rows, -np.inf)
        return self.answer(top_k(tf.tile(rows[None], [tf.shape(k)[0], 1]), k))

    def history(self, movie_id: tf.Tensor, rating: tf.Tensor, timestamp: tf.Tensor) -> History:
        """The caller's rows, each [B, H], oldest first -> ragged rows, without "" and unknown movies."""
        return ragged(History(self.positions(movie_id), rating, timestamp))


class ExampleFacts(tf.Module):
    """What a rating example says of its user, as far as the edition the model was fitted on knows such facts."""

    def __init__(self, transform: TransformGraph, transform_output: tft.TFTransformOutput) -> None:
        """Takes the transform graph, and which features it reads."""
        super().__init__(name="example_facts")
        known = transform_output.raw_feature_spec()
        self._transform = transform
        self._features = [feature for feature in f.USER_FACTS if feature.name in known]

    @property
    def spec(self) -> dict[str, tf.io.VarLenFeature | tf.io.FixedLenFeature]:
        """For tf.io.parse_example, beside the user id."""
        return parsing_spec(self._features)

    def __call__(self, parsed: Mapping[str, tf.Tensor | tf.SparseTensor]) -> tf.Tensor:
        """Parsed examples -> int64 [B, 3]: USER_FACT_INDICES; OOV_INDEX for what an example does not say."""
        names = (f.USER_ID.name, *(feature.name for feature in self._features))
        facts = self._transform({name: parsed[name] for name in names}, [index.name for index in f.USER_FACT_INDICES])
        return tf.stack(list(facts.values()), axis=1)


class TransformedQuery(tf.Module):
    """Puts a user and a history through the transform graph, so that serving computes what training saw."""

    def __init__(self, transform: TransformGraph, names: CatalogNames) -> None:
        """Takes the transform graph and the catalog that the histories refer to."""
        super().__init__(name="transformed_query")
        self._transform = transform
        self._names = names

    def __call__(self, user_id: tf.Tensor, history: History) -> tuple[History, dict[str, tf.Tensor]]:
        """Transforms a batch of queries.

        Args:
          user_id: string [B].
          history: ragged [B, None], oldest first.

        Returns:
          The newest HISTORY_LENGTH rows, [B, HISTORY_LENGTH], padded on the left; and the transform graph's user_index
          [B], history_movie_index and history_age_bucket [B, HISTORY_LENGTH], history_hour_index and
          history_weekday_index [B].
        """
        rows = newest(history, f.HISTORY_LENGTH)
        movie_id = self._names.answer(TopK(rows.position, rows.rating))[c.MOVIE_ID]
        raw = {
            f.USER_ID.name: user_id,
            f.HISTORY_MOVIE_ID.name: movie_id,
            f.HISTORY_TIMESTAMP.name: rows.timestamp,
        }
        wanted = (
            f.USER_INDEX, f.HISTORY_MOVIE_INDEX, f.HISTORY_AGE_BUCKET, f.HISTORY_HOUR_INDEX, f.HISTORY_WEEKDAY_INDEX,
        )  # fmt: skip
        return rows, self._transform(raw, [feature.name for feature in wanted])


def seen_positions(history: History) -> tf.Tensor:
    """Ragged rows -> int32 [B, the longest]: what the user has rated, -1 pads."""
    return dense(history).position


def _require(condition: tf.Tensor, message: str, *seen: tf.Tensor) -> tf.Operation:
    return tf.debugging.Assert(condition, [message, *seen], summarize=8)


def _with_empty(values: np.ndarray) -> tf.Tensor:
    return tf.concat([tf.constant(values, tf.string), [""]], axis=0)
