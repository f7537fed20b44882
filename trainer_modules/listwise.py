"""A loss for order: of the rows of a user, those with more stars are to come first, however far apart."""

from __future__ import annotations

import tensorflow as tf


def listwise_loss(user: tf.Tensor, stars: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """ListNet's top-one cross entropy (Cao, Qin, Liu, Tsai, Li, Learning to Rank, ICML 2007), the mean over users.

    Args:
      user: int [R], whose list each row belongs to.
      stars: float32 [R], what was given.
      predicted: float32 [R], stars too: adding a constant to a user's changes nothing.

    Returns:
      [], at least the entropy of the stars; 0 from a user with a single row.
    """
    users, row = tf.unique(user)
    num_users = tf.shape(users)[0]

    def log_softmax(values: tf.Tensor) -> tf.Tensor:
        largest = tf.math.unsorted_segment_max(values, row, num_users)
        shifted = values - tf.gather(largest, row)
        total = tf.math.unsorted_segment_sum(tf.exp(shifted), row, num_users)
        return shifted - tf.gather(tf.math.log(total), row)

    cross_entropy = -tf.reduce_sum(tf.exp(log_softmax(stars)) * log_softmax(predicted))
    return cross_entropy / tf.cast(num_users, tf.float32)
