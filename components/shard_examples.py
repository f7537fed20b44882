"""A shard of users to tf.Examples in TFRecord files: joined with their movies and facts, given their histories.

A shard has files of its own, which appear when they are whole: done twice, or by two workers, it comes out the same.
"""

from __future__ import annotations

import posixpath
import types
import uuid
from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders import example_coder

from components import columnar, splits
from components.columnar import Columns
from components.example_shards import Shard, read_frame
from components.histories import PADDING, PastRows
from trainer_modules import features

_COMPRESSION_LEVEL = 1
"""Of gzip: the usual 6 takes four times as long and saves a tenth."""


def write_shard(
    shard: Shard, examples_uri: str, user_state_uri: str, work_dir: str, history_length: int, is_timeless: bool
) -> None:
    """Writes a shard's rating examples and user states, one file for each split, empty where there is none.

    Args:
      shard: which.
      examples_uri: under it the splits of the rating examples.
      user_state_uri: under it the splits of the user states.
      work_dir: where files are while they are half written.
      history_length: the newest rows that a history holds; up to features.HISTORY_LENGTH the rest is padding.
      is_timeless: whether the split goes without regard to time (splits.TIMELESS).
    """
    rows = ShardRows(shard, is_timeless)
    for code, split in enumerate(features.SPLITS):
        name = posixpath.join(f"Split-{split}", shard.file_name)
        write_examples(rows.rating_examples(code, history_length), posixpath.join(examples_uri, name), work_dir)
        write_examples(rows.user_states(code), posixpath.join(user_state_uri, name), work_dir)


def write_catalog(movies: pl.DataFrame, path: str, work_dir: str) -> None:
    """Writes one example a movie, in the order of the frame (movie_id, title, genres), into one file."""
    write_examples([movie_columns(movies)], path, work_dir)


def write_examples(column_batches: Iterator[Columns] | list[Columns], path: str, work_dir: str) -> None:
    """Writes one gzip TFRecord file, which appears whole or not at all."""
    encoder = example_coder.RecordBatchToExamplesEncoder()
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=_COMPRESSION_LEVEL)
    half_written = posixpath.join(work_dir, uuid.uuid4().hex)
    with tf.io.TFRecordWriter(half_written, options) as writer:
        for columns in column_batches:
            for example in encoder.encode(columnar.record_batch(columns)):
                writer.write(example)
    tf.io.gfile.rename(half_written, path, overwrite=True)


def movie_columns(movies: pl.DataFrame) -> Columns:
    """The features of a frame of movie_id, title, genres."""
    names = dict(zip(("movie_id", "title", "genres"), (fact.name for fact in features.MOVIE_FACTS), strict=True))
    return columnar.entity_columns(movies.select(*names).rename(names))


class ShardRows:
    """A shard in memory, ready to be taken apart into batches of feature columns."""

    def __init__(self, shard: Shard, is_timeless: bool) -> None:
        ratings = read_frame(shard.ratings_path)
        movies = read_frame(shard.catalog_path)
        self._row = types.SimpleNamespace(**{name: ratings[name].to_numpy() for name in ratings.columns})
        self._users = columnar.entity_columns(read_frame(shard.users_path))
        self._movies = movie_columns(movies)
        # A last entry for what stands in place of a movie where a history is padded.
        self._movie_ids = pa.array([*movies["movie_id"].to_list(), ""], pa.large_binary())
        self._past = PastRows(self._row.user_index, self._row.split, is_timeless)

    def rating_examples(self, split_code: int, history_length: int) -> Iterator[Columns]:
        """Batches of features.RATING_EXAMPLE: one row a rating, user by user, oldest first."""
        row = self._row
        for batch in columnar.batches(np.flatnonzero(row.split == split_code)):
            yield {
                **columnar.take(self._users, row.user_index[batch]),
                **columnar.take(self._movies, row.movie_index[batch]),
                features.USER_RATING.name: columnar.scalar(row.rating[batch]),
                features.TIMESTAMP.name: columnar.scalar(row.timestamp[batch]),
                features.SOURCE_LINE.name: columnar.scalar(row.source_line[batch]),
                **self._histories(self._past.newest(batch, split_code, history_length)),
            }

    def user_states(self, split_code: int) -> Iterator[Columns]:
        """Batches of features.USER_STATE_EXAMPLE: the users with rows of that split, and these rows, oldest first.

        Users without any rating are among those of train.
        """
        row = self._row
        is_mine = row.split == split_code
        num_users = len(self._users[features.USER_ID.name])
        num_rows = np.bincount(row.user_index[is_mine], minlength=num_users)
        is_listed = num_rows > 0
        if split_code == splits.TRAIN_CODE:
            is_listed |= np.bincount(row.user_index, minlength=num_users) == 0
        rows, begin = np.flatnonzero(is_mine), np.concatenate([[0], np.cumsum(num_rows)])
        for users in columnar.batches(np.flatnonzero(is_listed)):
            # Users left out have no rows of this split, so those of a batch stand one after the other.
            offsets = np.append(begin[users], begin[users[-1] + 1])
            mine = rows[offsets[0] : offsets[-1]]
            offsets -= offsets[0]
            yield {
                **columnar.take(self._users, users),
                features.STATE_MOVIE_ID.name: columnar.ragged(self._ids(row.movie_index[mine]), offsets),
                features.STATE_RATING.name: columnar.ragged(pa.array(row.rating[mine]), offsets),
                features.STATE_TIMESTAMP.name: columnar.ragged(pa.array(row.timestamp[mine]), offsets),
            }

    def _histories(self, history: np.ndarray) -> Columns:
        """The features of rows [B, H], PADDING where there is none; padded on the left to features.HISTORY_LENGTH."""
        shape = (len(history), features.HISTORY_LENGTH)
        rows = np.full(shape, PADDING)
        rows[:, shape[1] - history.shape[1] :] = history
        rows = rows.ravel()
        is_padding = rows == PADDING

        def values(column: np.ndarray, padding: int) -> np.ndarray:
            return np.where(is_padding, np.asarray(padding, column.dtype), column[rows])

        row = self._row
        movie_ids = self._ids(values(row.movie_index, len(self._movie_ids) - 1))
        return {
            features.HISTORY_MOVIE_ID.name: columnar.fixed(movie_ids, shape[1]),
            features.HISTORY_RATING.name: columnar.fixed(pa.array(values(row.rating, 0)), shape[1]),
            features.HISTORY_TIMESTAMP.name: columnar.fixed(pa.array(values(row.timestamp, 0)), shape[1]),
        }

    def _ids(self, movie_index: np.ndarray) -> pa.Array:
        return self._movie_ids.take(pa.array(movie_index))
