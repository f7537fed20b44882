"""Training batches for models that predict a user's next movie from the ones before it.

A block is a stretch of one user's rows: T consecutive targets and the L rows before the first of them. Its targets
share the gathered rows, so that a batch costs a tenth of what as many rating examples with their own histories cost.
No target sees itself or a later row: who reads a block masks by place. It is built from the user states of the fit
rows, the same rows that the rating examples hold one by one.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from trainer_modules import features as f
from trainer_modules.inputs import UserStates


def dataset(
    states: UserStates, user_index: np.ndarray, targets_per_block: int, blocks_per_batch: int, seed: int
) -> tf.data.Dataset:
    """One epoch of batches, in a new random order each time it is iterated. Every row is a target once.

    Args:
      states: the fit rows.
      user_index: int64 [U], how the model knows each user.
      targets_per_block: T.
      blocks_per_batch: B; the last batch of an epoch may hold fewer.
      seed: of the order.

    Returns:
      Batches of user_index int64 [B]; position int32 and timestamp int64 [B, HISTORY_LENGTH + T - 1], all rows but the
      last; target_position int32 [B, T], all rows from the first target on. -1, 0 and -1 pad.
    """
    user, first_target = _starts(states, targets_per_block)
    row_splits = tf.constant(states.row_splits)
    position, timestamp = tf.constant(states.position), tf.constant(states.timestamp)
    index = tf.constant(user_index)

    def gather(user: tf.Tensor, first_target: tf.Tensor) -> dict[str, tf.Tensor]:
        begin, end = tf.gather(row_splits, user)[:, None], tf.gather(row_splits, user + 1)[:, None]
        rows = first_target[:, None] + tf.range(-f.HISTORY_LENGTH, targets_per_block, dtype=tf.int64)
        is_row = (rows >= begin) & (rows < end)
        rows = tf.where(is_row, rows, 0)
        positions = tf.where(is_row, tf.gather(position, rows), -1)
        return {
            f.USER_INDEX.name: tf.gather(index, user),
            "position": positions[:, :-1],
            f.TIMESTAMP.name: tf.where(is_row, tf.gather(timestamp, rows), 0)[:, :-1],
            "target_position": positions[:, f.HISTORY_LENGTH :],
        }

    starts = tf.data.Dataset.from_tensor_slices((user, first_target)).shuffle(len(user), seed=seed)
    return starts.batch(blocks_per_batch).map(gather).prefetch(2)


def _starts(states: UserStates, targets_per_block: int) -> tuple[np.ndarray, np.ndarray]:
    """Each block's user and the row of its first target, int64 [number of blocks]."""
    blocks_per_user = -(-np.diff(states.row_splits) // targets_per_block)
    user = np.repeat(np.arange(states.num_users), blocks_per_user)
    first_block = np.cumsum(blocks_per_user) - blocks_per_user
    number = np.arange(len(user)) - first_block[user]
    return user, states.row_splits[user] + number * targets_per_block
