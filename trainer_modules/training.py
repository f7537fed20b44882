"""A training step that compiles quickly."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def compiled_step(model: tf.keras.Model) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """Makes one graph of a compiled Keras model's train_step: features by name -> metrics by name.

    Model.fit would have AutoGraph rewrite the source of all of tf-keras that the step calls, because only the Keras
    inside TensorFlow is exempt: some 25 s of CPU before the first batch, for nothing. Without AutoGraph it is 1.5 s;
    the price is that a model's own code must say tf.where and tf.cond instead of `if` on tensors.
    """
    return tf.function(model.train_step, autograph=False)
