"""What a served model remembers of its users: each user's rows, oldest first, and facts, by user id.

The rows sit in variables, so they are saved as tensors and not in the graph. They are personal data inside a model:
an empty snapshot leaves them out, and then every user looks like one without rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer_modules import features as f
from trainer_modules.inputs import UserStates


class History(NamedTuple):
    """Rows of B users, H to a user; dense and padded, or ragged in the second dimension."""

    position: tf.Tensor | tf.RaggedTensor
    """int32 [B, H], catalog positions, -1 where padded."""
    rating: tf.Tensor | tf.RaggedTensor
    """float32 [B, H], stars, 0 where padded."""
    timestamp: tf.Tensor | tf.RaggedTensor
    """int64 [B, H], seconds since 1970-01-01 UTC, 0 where padded."""


_RAGGED = [tf.RaggedTensorSpec([None, None], dtype, 1, tf.int64) for dtype in (tf.int32, tf.float32, tf.int64)]
HISTORY_TYPES = History(*_RAGGED)
"""Of a ragged one, for a tf.function's input_signature."""
FACTS_TYPE = tf.TensorSpec([None, len(f.USER_FACT_INDICES)], tf.int64)
"""What UserSnapshot.facts gives."""

_PADDING = History(position=-1, rating=0.0, timestamp=0)


class UserSnapshot(tf.Module):
    """User id -> rows, inside the graph."""

    def __init__(self, states: UserStates | None) -> None:
        """Takes the states over; None: remembers nobody."""
        super().__init__(name="user_snapshot")
        # A table cannot be empty: "" is the user that nobody is.
        user_id = ["", *(states.user_id if states else [])]
        rows = tf.range(-1, len(user_id) - 1, dtype=tf.int64)
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(user_id, tf.string), rows), default_value=-1
        )
        self._row_splits = _constant(states.row_splits if states else [0], tf.int64, "row_splits")
        self._position = _constant(states.position if states else [], tf.int32, "position")
        self._rating = _constant(states.rating if states else [], tf.float32, "rating")
        self._timestamp = _constant(states.timestamp if states else [], tf.int64, "timestamp")
        # The last row is of nobody.
        unknown = np.full((1, len(f.USER_FACT_INDICES)), f.OOV_INDEX)
        self._facts = _constant(np.concatenate([states.facts, unknown]) if states else unknown, tf.int64, "facts")

    def user(self, user_id: tf.Tensor) -> tf.Tensor:
        """string [B] -> int64 [B]: each user's row in the UserStates, -1 for a user it does not know."""
        return self._table.lookup(user_id)

    def facts(self, user_id: tf.Tensor) -> tf.Tensor:
        """string [B] -> int64 [B, 3]: USER_FACT_INDICES; OOV_INDEX for a user it does not know."""
        user = self.user(user_id)
        return tf.gather(self._facts, tf.where(user >= 0, user, tf.shape(self._facts, tf.int64)[0] - 1))

    def lookup(self, user_id: tf.Tensor, is_wanted: tf.Tensor | bool = True) -> History:
        """string [B] -> ragged rows [B, None], oldest first; none for a user it does not know or who is not wanted."""
        user = tf.where(is_wanted, self.user(user_id), -1)
        # An unknown user's -1 must not reach the gather: its rows are the empty range that begins at row 0.
        start = tf.where(user >= 0, tf.gather(self._row_splits, tf.maximum(user, 0)), 0)
        last = tf.shape(self._row_splits, tf.int64)[0] - 1
        limit = tf.where(user >= 0, tf.gather(self._row_splits, tf.minimum(user + 1, last)), 0)
        rows = tf.ragged.range(start, limit)
        gather = lambda values: rows.with_values(tf.gather(values, rows.values))  # noqa: E731
        return History(gather(self._position), gather(self._rating), gather(self._timestamp))


def dense(history: History) -> History:
    """Ragged rows [B, None] -> dense [B, the longest], padded on the right."""
    return History(*(part.to_tensor(pad) for part, pad in zip(history, _PADDING, strict=True)))


def ragged(history: History) -> History:
    """Dense rows [B, H] -> ragged, without the places whose position is negative."""
    is_row = history.position >= 0
    place = tf.where(is_row)  # tf.ragged.boolean_mask would make five times the graph, for each of the parts
    position = tf.RaggedTensor.from_row_lengths(
        tf.gather_nd(history.position, place), tf.math.count_nonzero(is_row, axis=1), validate=False
    )
    return History(position, *(position.with_values(tf.gather_nd(part, place)) for part in history[1:]))


def newest(history: History, length: int) -> History:
    """Ragged rows [B, None], oldest first -> dense [B, length]: the newest of them, padded on the left."""
    first = history.position.row_limits() - length
    rows = first[:, None] + tf.range(length, dtype=tf.int64)
    is_row = rows >= history.position.row_starts()[:, None]

    def gather(values: tf.Tensor, pad: float) -> tf.Tensor:
        # One more row than there is, so that a batch without any row has something to gather.
        padding = tf.constant(pad, values.dtype)
        padded = tf.concat([values, padding[None]], axis=0)
        return tf.where(is_row, tf.gather(padded, tf.where(is_row, rows, tf.shape(values, tf.int64)[0])), padding)

    return History(*(gather(part.values, pad) for part, pad in zip(history, _PADDING, strict=True)))


def _constant(values: np.ndarray | list, dtype: tf.DType, name: str) -> tf.Variable:
    return tf.Variable(tf.constant(values, dtype), trainable=False, name=name)
