"""Running means of weights against the formula."""

import pytest

from trainer_modules.training import WeightAverage

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


@pytest.mark.parametrize("momentum", [0.0, 0.15, 0.99])
def test_means_follow_the_weights_and_only_stand_in_for_them(momentum):
    weight = tf.Variable(1.0)
    average = WeightAverage([weight], momentum)
    expected = 1.0
    for t, value in enumerate((2.0, 6.0), start=1):
        weight.assign(value)
        average.update()
        keep = min(momentum, t / (9 + t))
        expected = keep * expected + (1 - keep) * value
    with average.in_place():
        assert weight.numpy() == pytest.approx(expected)
    assert weight.numpy() == 6.0
    average.put()
    assert weight.numpy() == pytest.approx(expected)
