"""What trainings share: steps that compile quickly, running means of the weights, and a word when tuning is done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from trainer_modules import distribution

OnTuned = Callable[[float], None]
"""Every family calls it once, when its tuning is done and nothing is refitted yet, with the best figure on eval: the
NDCG@10 of retrieval, the RMSE of ranking. A search over hyperparameters ends its trials there; a training goes on."""


def go_on(figure: float) -> None:
    """OnTuned of a training."""


def compiled_step(
    model: tf.keras.Model, batches: tf.data.Dataset | None = None
) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """Makes one graph of a compiled Keras model's train_step: features by name -> metrics by name.

    Args:
      model: compiled.
      batches: what the step will be given, where their sizes differ: else the last batch, which has fewer rows, has
        the step traced anew.

    Model.fit would have AutoGraph rewrite the source of all of tf-keras that the step calls, because only the Keras
    inside TensorFlow is exempt: some 25 s of CPU before the first batch, for nothing. Without AutoGraph it is 1.5 s;
    the price is that a model's own code must say tf.where and tf.cond instead of `if` on tensors.
    """
    if distribution.strategy() is None:
        return _compiled(model.train_step, batches)
    return _compiled(distribution.step(lambda batch: distribution.train_step(model, batch)), batches)


def compiled_test_step(
    model: tf.keras.Model, batches: tf.data.Dataset | None = None
) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """The same of a model's test_step."""
    alone = distribution.strategy() is None
    return _compiled(model.test_step if alone else distribution.step(model.test_step), batches)


def _compiled(step: Callable[..., Any], batches: tf.data.Dataset | None) -> Callable[..., Any]:
    signature = None if batches is None else [batches.element_spec]
    return tf.function(step, input_signature=signature, autograph=False)


class WeightAverage:
    """Exponential moving averages of weights: they go where the weights go, without the last steps' noise."""

    def __init__(self, weights: Sequence[tf.Variable], momentum: float) -> None:
        """Starts at the weights.

        Args:
          weights: of a model in training.
          momentum: share of a mean that an update keeps, below 1; 0: the weights themselves. Update t, from 1, keeps
            t / (9 + t) at most, so that a short training does not end near its start.
        """
        self._weights = list(weights)
        self._means = [tf.Variable(weight) for weight in self._weights]
        self._momentum = momentum
        self._num_updates = tf.Variable(0.0)
        self.update = tf.function(self._update, autograph=False)
        """Called after each step."""

    def _update(self) -> None:
        t = self._num_updates.assign_add(1.0)
        step = 1.0 - tf.minimum(self._momentum, t / (9.0 + t))
        for mean, weight in zip(self._means, self._weights, strict=True):
            mean.assign_add(step * (weight - mean))

    def put(self) -> None:
        """Gives the weights their means' values: for when training is done."""
        for mean, weight in zip(self._means, self._weights, strict=True):
            weight.assign(mean)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """For a while, the weights are their means."""
        before = [tf.identity(weight) for weight in self._weights]
        self.put()
        yield
        for weight, value in zip(self._weights, before, strict=True):
            weight.assign(value)
