"""What all trainings share: a step that compiles quickly, and a word when tuning is done."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

OnTuned = Callable[[float], None]
"""Every family calls it once, when its tuning is done and nothing is refitted yet, with the best figure on eval: the
NDCG@10 of retrieval, the RMSE of ranking. A search over hyperparameters ends its trials there; a training goes on."""


def go_on(figure: float) -> None:
    """OnTuned of a training."""


def compiled_step(model: tf.keras.Model) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """Makes one graph of a compiled Keras model's train_step: features by name -> metrics by name.

    Model.fit would have AutoGraph rewrite the source of all of tf-keras that the step calls, because only the Keras
    inside TensorFlow is exempt: some 25 s of CPU before the first batch, for nothing. Without AutoGraph it is 1.5 s;
    the price is that a model's own code must say tf.where and tf.cond instead of `if` on tensors.
    """
    return tf.function(model.train_step, autograph=False)
