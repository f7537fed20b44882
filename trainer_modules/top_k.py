"""The best k of a catalog, exactly: in TensorFlow for the graph, in NumPy for those who check it.

Pure functions. B queries, N candidates; a catalog position is 0 to N - 1, and -1 pads. Equal scores: the lower
catalog position comes first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

PADDING_POSITION = -1


class TopK(NamedTuple):
    """Best first. W is the largest k asked for in the batch."""

    position: tf.Tensor | np.ndarray
    """int32 [B, W], catalog positions, -1 where padded."""
    score: tf.Tensor | np.ndarray
    """float32 [B, W], -inf where padded."""


def mask(scores: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Gives what must not be shown the score -inf.

    Args:
      scores: float32 [B, N].
      positions: int32 [B, M], catalog positions, any negative number pads.

    Returns:
      float32 [B, N].
    """
    is_position = positions >= 0
    rows = tf.cast(tf.where(is_position)[:, 0], tf.int32)
    indices = tf.stack([rows, tf.boolean_mask(positions, is_position)], axis=1)
    minus_infinity = tf.fill(tf.shape(rows), tf.constant(-np.inf, scores.dtype))
    return tf.tensor_scatter_nd_update(scores, indices, minus_infinity)


def top_k(scores: tf.Tensor, k: tf.Tensor) -> TopK:
    """The best candidates of each row.

    Args:
      scores: float32 [B, N], -inf for what must not be shown.
      k: int32 [B], how many each row wants; may exceed N.
    """
    num_candidates = tf.shape(scores)[1]
    width = tf.reduce_max(tf.concat([k, [0]], axis=0))
    score, position = tf.math.top_k(scores, k=tf.minimum(width, num_candidates))
    num_missing = tf.maximum(width - num_candidates, 0)
    score = tf.pad(score, [[0, 0], [0, num_missing]], constant_values=-np.inf)
    position = tf.pad(position, [[0, 0], [0, num_missing]], constant_values=PADDING_POSITION)
    is_wanted = (tf.range(width) < k[:, None]) & (score > -np.inf)
    return TopK(
        position=tf.where(is_wanted, position, PADDING_POSITION),
        score=tf.where(is_wanted, score, tf.constant(-np.inf, score.dtype)),
    )


def ranks(scores: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Where given candidates stand.

    Args:
      scores: float32 [B, N], -inf for what must not be shown.
      positions: int32 [B, P], catalog positions, any negative number pads.

    Returns:
      int32 [B, P]: 1 is best; 0 for padding and for a candidate that must not be shown.
    """
    order = tf.math.top_k(scores, k=tf.shape(scores)[1]).indices
    rank = tf.argsort(order) + 1
    rank = tf.where(scores > -np.inf, rank, 0)
    found = tf.gather(rank, tf.maximum(positions, 0), batch_dims=1)
    return tf.where(positions >= 0, found, 0)


def mask_numpy(scores: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """`mask` in NumPy: a new float32 [B, N]."""
    masked = np.array(scores, np.float32)
    rows, columns = np.nonzero(positions >= 0)
    masked[rows, positions[rows, columns]] = -np.inf
    return masked


def top_k_numpy(scores: np.ndarray, k: np.ndarray) -> TopK:
    """`top_k` in NumPy: the same answer, ties included."""
    width = int(max(np.max(k, initial=0), 0))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :width]
    score = np.take_along_axis(scores, order, axis=1).astype(np.float32)
    num_missing = width - order.shape[1]
    score = np.pad(score, [(0, 0), (0, num_missing)], constant_values=-np.inf)
    position = np.pad(order.astype(np.int32), [(0, 0), (0, num_missing)], constant_values=PADDING_POSITION)
    is_wanted = (np.arange(width) < np.asarray(k)[:, None]) & (score > -np.inf)
    return TopK(
        position=np.where(is_wanted, position, np.int32(PADDING_POSITION)),
        score=np.where(is_wanted, score, np.float32(-np.inf)),
    )
