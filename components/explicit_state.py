"""A batch of users with the state that the caller brings, as the *_for_history signatures want it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from components.evaluation_data import UserStates
from trainer_modules import contract


def query(user_id: np.ndarray, states: UserStates, users: np.ndarray, length: int) -> dict[str, tf.Tensor]:
    """The tensors that recommend_for_history and rank_for_history share.

    Args:
      user_id: bytes [B].
      states: what is known.
      users: int [B], each user's number in `states`, -1 for a user without a state.
      length: rows of history that are sent at most: the newest, oldest first.

    Returns:
      user_id, history_* [B, H] padded on the left, and query_timestamp: the newest row's time, 0 without rows.
    """
    first, end = _bounds(states, users)
    width = max(1, min(length, int((end - first).max(initial=0))))
    row = end[:, None] - width + np.arange(width)
    is_row = row >= first[:, None]
    newest = np.where(end > first, _take(states.timestamp, end - 1), 0)
    return {
        contract.USER_ID: tf.constant(user_id, tf.string),
        contract.HISTORY_MOVIE_ID: tf.constant(np.where(is_row, _take(states.movie_id, row), b"")),
        contract.HISTORY_RATING: tf.constant(np.where(is_row, _take(states.rating, row), 0), tf.float32),
        contract.HISTORY_TIMESTAMP: tf.constant(np.where(is_row, _take(states.timestamp, row), 0), tf.int64),
        contract.QUERY_TIMESTAMP: tf.constant(newest, tf.int64),
    }


def seen_movie_id(states: UserStates, users: np.ndarray) -> np.ndarray:
    """int [B] -> bytes [B, S]: everything each user has rated, padded on the right with b""."""
    first, end = _bounds(states, users)
    row = first[:, None] + np.arange(max(1, int((end - first).max(initial=0))))
    return np.where(row < end[:, None], _take(states.movie_id, row), b"")


def _bounds(states: UserStates, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 [B] each: first and one past the last row of each user."""
    known, user = users >= 0, np.maximum(users, 0)
    splits = states.row_splits
    end = splits[np.minimum(user + 1, len(splits) - 1)]
    return np.where(known, splits[user], 0), np.where(known, end, 0)


def _take(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """values[index] where the index exists, anything elsewhere."""
    return values[np.clip(index, 0, len(values) - 1)] if len(values) else np.zeros(index.shape, values.dtype)
