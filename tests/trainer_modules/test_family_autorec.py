"""The family autorec: what every family must do, and the equations of its paper."""

import csv
import dataclasses

import numpy as np
import pytest
from retrieval_family_suite import RetrievalFamilySuite, with_the_other_colour_disliked

from trainer_modules import autorec
from trainer_modules.hyperparameters import AutoRec
from trainer_modules.snapshot import History

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

N = 9


class TestAutoRec(RetrievalFamilySuite):
    family = "autorec"
    hyperparameters = {  # noqa: RUF012
        "hidden_units": 12, "regularization": 0.1, "num_epochs": 40, "batch_size": 16, "learning_rate": 0.03,
    }

    def world(self, checkerboard):
        return with_the_other_colour_disliked(checkerboard)

    def test_the_error_of_every_epoch_is_kept(self, model_path):
        with open(model_path + "-run/epochs.csv") as file:
            rows = list(csv.DictReader(file))
        tuning = [row for row in rows if row["phase"] == "tuning"]
        assert len(tuning) == 40
        assert float(tuning[-1]["train_rmse"]) < 0.5 * float(tuning[0]["train_rmse"])
        assert 0 < float(tuning[-1]["eval_rmse"]) < 1.5
        best = min(tuning, key=lambda row: float(row["eval_rmse"]))
        refit = [row for row in rows if row["phase"] == "refit"]
        assert len(refit) == int(best["epoch"]) > 1, "it predicts stars, so their error picks the epoch"


@pytest.fixture
def model():
    tf.keras.utils.set_random_seed(3)
    model = autorec.Autoencoder(N, 3.5, AutoRec(hidden_units=4, regularization=2.0))
    random = np.random.default_rng(5)
    for weight in model.trainable_variables:
        weight.assign(random.normal(0, 0.5, weight.shape))
    return model


@pytest.fixture
def rows():
    """Three users: two rows, none, three rows."""
    ragged = lambda values, dtype: tf.ragged.constant(values, dtype)  # noqa: E731
    return History(
        ragged([[0, 4], [], [8, 1, 4]], tf.int32), ragged([[5.0, 1.0], [], [3.0, 2.0, 4.0]], tf.float32),
        ragged([[1, 2], [], [1, 2, 3]], tf.int64),
    )  # fmt: skip


def by_hand(model, rows):
    """Stars and predictions of all cells, dense; equation 1 with a linear output."""
    stars = np.zeros((3, N))
    for user, (movies, ratings) in enumerate(zip(rows.position.to_list(), rows.rating.to_list(), strict=True)):
        stars[user, movies] = ratings
    hidden = 1 / (1 + np.exp(-(stars @ model.encoder.numpy() + model.encoder_bias.numpy())))
    return stars, hidden @ model.decoder.numpy().T + model.decoder_bias.numpy()


def test_the_loss_is_the_papers_and_masked_cells_are_not_in_it(model, rows):
    stars, predicted = by_hand(model, rows)
    observed = stars > 0
    np.testing.assert_allclose(model.squared_error(rows), ((stars - predicted)[observed] ** 2).sum(), rtol=1e-5)
    assert ((stars - predicted) ** 2).sum() > model.squared_error(rows).numpy() + 1.0
    with tf.GradientTape() as tape:
        loss = model.squared_error(rows)
    gradient = tf.convert_to_tensor(tape.gradient(loss, model.decoder_bias)).numpy()
    assert ((gradient != 0) == observed.any(axis=0)).all(), "only movies that somebody rated are pulled"


def test_the_penalty_is_half_lambda_times_both_matrices(model):
    squares = (model.encoder.numpy() ** 2).sum() + (model.decoder.numpy() ** 2).sum()
    np.testing.assert_allclose(model.penalty(), 2.0 / 2 * squares, rtol=1e-5)


def test_the_regularisation_reaches_the_weights(artifacts):
    from trainer_modules import retrieval_data

    states = retrieval_data.load(artifacts.fn_args("unused", {})).fit
    p = AutoRec(hidden_units=4, num_epochs=5, learning_rate=0.05)
    norms = []
    for regularization in (0.0, 500.0):
        epochs = autorec._fit(states, 18, dataclasses.replace(p, regularization=regularization), seed=1)
        norms.append([np.abs(next(epochs).towers.candidate_vectors[:, :4]).sum() for _ in range(30)][-1])
    assert norms[1] < 0.5 * norms[0]


def test_query_and_candidates_give_the_prediction(model, rows):
    class Query:
        history = rows

    query = autorec.EncodedState(model)(Query, None).numpy()
    candidates = np.concatenate([model.decoder.numpy(), model.decoder_bias.numpy()[:, None]], axis=1)
    np.testing.assert_allclose(query @ candidates.T, by_hand(model, rows)[1], rtol=1e-4)
