"""The loss for order, by itself and in the family deep."""

import dataclasses

import numpy as np
import pytest

from trainer_modules import deep_ranking, ranking_data, ranking_training
from trainer_modules import features as f
from trainer_modules.listwise import listwise_loss

USER = np.array([4, 9, 4, 9, 4, 7])
STARS = np.array([5.0, 1.0, 3.0, 4.0, 1.0, 2.0], np.float32)
PREDICTED = np.array([3.0, 2.5, 3.5, 2.0, 1.0, 4.0], np.float32)


def test_it_is_the_cross_entropy_of_each_users_softmax():
    def softmax(values):
        return np.exp(values) / np.exp(values).sum()

    by_hand = [-np.sum(softmax(STARS[u == USER]) * np.log(softmax(PREDICTED[u == USER]))) for u in (4, 9, 7)]
    assert float(listwise_loss(USER, STARS, PREDICTED)) == pytest.approx(np.mean(by_hand), rel=1e-5)
    # How generous a user is does not matter, nor does a list of one.
    shifted = PREDICTED + np.where(USER == 4, 2.0, 0.0) + np.where(USER == 7, -3.0, 0.0)
    assert float(listwise_loss(USER, STARS, shifted.astype(np.float32))) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_it_is_least_where_the_order_is_right():
    right, wrong = (float(listwise_loss(USER, STARS, values)) for values in (STARS, -STARS))
    assert right < float(listwise_loss(USER, STARS, PREDICTED)) < wrong


def test_batches_of_whole_users_keep_a_users_rows_together_and_lose_none():
    rows = {f.USER_INDEX.name: USER, f.USER_RATING.name: STARS}
    dataset = ranking_training.batches(rows, 4, seed=3, whole_users=True)
    orders = [np.concatenate([batch[f.USER_INDEX.name] for batch in dataset]) for _ in range(6)]
    for order in orders:
        assert sorted(order) == sorted(USER)
        assert np.count_nonzero(np.diff(order)) == len(set(USER)) - 1
    assert len({tuple(order) for order in orders}) > 1


class TunedError(Exception):
    """Ends a training before its refit."""


def test_deep_learns_from_it(star_artifacts, without_graphs):
    data = ranking_data.load(star_artifacts.fn_args("", {"rating_range": [1.0, 5.0]}))

    def tuned_rmse(loss):
        def end(rmse):
            raise TunedError(rmse)

        small = {"factors": 4, "key_size": 3, "max_epochs": 1, "batch_size": 64, "loss": loss}
        with pytest.raises(TunedError) as told:
            deep_ranking.fit(dataclasses.replace(data, on_tuned=end), small, seed=3)
        return told.value.args[0]

    found = tuned_rmse("listwise")
    assert np.isfinite(found) and abs(found - tuned_rmse("squared")) > 1e-3
    with pytest.raises(ValueError, match="loss is 'pairwise'"):
        deep_ranking.fit(data, {"loss": "pairwise"}, seed=3)
