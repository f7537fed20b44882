"""The ranking family autorec: what every family must do, and the two mistakes that are easily made."""

import dataclasses

import numpy as np
import pytest
from ranking_family_suite import RankingFamilySuite

from trainer_modules import bias_ranking, hyperparameters, item_autorec, ranking_data, tuning
from trainer_modules import features as f
from trainer_modules.rating_matrix import RatingMatrix

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


class TestItemAutoRec(RankingFamilySuite):
    family = "autorec"
    hyperparameters = {"hidden_units": 20, "regularization": 1.0, "num_epochs": 60, "learning_rate": 0.05}  # noqa: RUF012


@pytest.fixture
def cells():
    random = np.random.default_rng(2)
    filled = np.argwhere(random.random((8, 6)) < 0.5)
    stars = random.integers(1, 6, len(filled)).astype(np.float32)
    return RatingMatrix(filled[:, 0], filled[:, 1], stars, np.zeros((8, 0), np.float32), np.zeros((6, 0), np.float32))


def test_the_loss_is_that_of_observed_cells_alone(cells):
    """Whatever is predicted where nobody rated costs nothing."""
    model = item_autorec.ItemAutoencoder(8, 3.0, hyperparameters.ItemAutoRec(hidden_units=4), seed=1)
    stars = item_autorec.columns(cells, np.arange(6))
    predicted = model(stars).numpy()
    expected = sum((predicted[movie, user] - rated) ** 2 for user, movie, rated in zip(*cells[:3], strict=True))
    assert float(model.squared_error(stars)) == pytest.approx(float(expected), rel=1e-5)
    # A user who rated none of the movies asked about moves nothing.
    absent = stars.copy()
    absent[:, 3] = 0.0
    with tf.GradientTape() as tape:
        loss = model.squared_error(tf.constant(absent))
    slope = tape.gradient(loss, [model.decoder, model.bias])
    assert np.abs(slope[0].numpy()[:, 3]).max() == 0.0 and slope[1].numpy()[3] == 0.0
    assert np.abs(slope[1].numpy()[[0, 1, 2]]).max() > 0.0


def test_regularisation_enters_the_training(cells):
    def norm(regularization):
        p = hyperparameters.ItemAutoRec(hidden_units=4, regularization=regularization, num_epochs=60)
        *_, model = item_autorec.epochs(cells, p, seed=1)
        return float(tf.norm(model.decoder)), float(tf.norm(model.encoder))

    free, tied = norm(0.0), norm(100.0)
    assert tied[0] < 0.8 * free[0] and tied[1] < 0.8 * free[1]


def test_the_penalty_is_half_lambda_times_the_squared_weights():
    p = hyperparameters.ItemAutoRec(hidden_units=4, regularization=3.0)
    model = item_autorec.ItemAutoencoder(8, 3.0, p, seed=1)
    squares = sum(float(np.sum(np.square(weights))) for weights in (model.encoder, model.decoder))
    assert float(model.penalty()) == pytest.approx(1.5 * squares, rel=1e-5)


@pytest.mark.parametrize("moved", [-1.0, -3.0])
def test_stars_of_0_and_below_count_as_stars(cells, moved):
    """0 stands for what was not rated."""
    p = hyperparameters.ItemAutoRec(hidden_units=4, num_epochs=10)
    cells = cells._replace(stars=np.maximum(cells.stars, 1.0))
    assert cells.stars.min() == 1.0

    def filled_in(cells):
        *_, model = item_autorec.epochs(cells, p, seed=1)
        return model.filled_in(cells)

    below = cells._replace(stars=cells.stars + np.float32(moved))
    np.testing.assert_allclose(filled_in(below), filled_in(cells) + moved, atol=1e-5)


def test_what_eval_is_shown_is_what_would_be_served(star_artifacts):
    """Of movies without train rows biases speak: where eval asks for such a one alone, it is told what biases say."""
    data = ranking_data.load(star_artifacts.fn_args("", {"rating_range": [1.0, 5.0]}))
    rated = data.train[f.MOVIE_INDEX.name]
    cold = int(rated[0])
    train, held_out = ({name: values[chosen] for name, values in rows.items()} for rows, chosen in (
        (data.train, rated != cold), (data.fit, data.fit[f.MOVIE_INDEX.name] == cold)
    ))  # fmt: skip
    asked = dataclasses.replace(data, train=train, eval=held_out, may_tune_on=None)
    figure = tuning.figure_of(item_autorec.fit, asked, {"hidden_units": 4, "num_epochs": 5}, seed=3)
    assert figure == pytest.approx(tuning.figure_of(bias_ranking.fit, asked, {}, seed=3), abs=1e-5)
