"""The family matrix_factorization: what every family must do, and its objective against dense NumPy."""

import csv
import itertools

import numpy as np
import pytest
from retrieval_family_suite import RetrievalFamilySuite

from trainer_modules import matrix_factorization as mf
from trainer_modules import retrieval_data
from trainer_modules.hyperparameters import MatrixFactorization

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


class TestAlternatingLeastSquares(RetrievalFamilySuite):
    family = "matrix_factorization"
    hyperparameters = {"embedding_dimension": 4, "num_epochs": 5, "gravity": 0.3}  # noqa: RUF012

    def test_the_error_of_every_epoch_is_kept(self, model_path):
        with open(model_path + "-run/epochs.csv") as file:
            rows = list(csv.DictReader(file))
        tuning = [row for row in rows if row["phase"] == "tuning"]
        assert [int(row["epoch"]) for row in tuning] == [1, 2, 3, 4, 5]
        assert all(0 < float(row[name]) < 1 for row in tuning for name in ("train_rmse", "eval_rmse"))
        assert rows[len(tuning)]["phase"] == "refit"


USERS, MOVIES, D = 7, 5, 3
WEIGHTS = mf.Weights(gravity=0.4, user_ridge=0.3, movie_ridge=0.2)


@pytest.fixture
def cells():
    """Targets of the observed cells, NaN elsewhere; the last user has none."""
    random = np.random.default_rng(2)
    y = np.where(random.random((USERS, MOVIES)) < 0.5, random.integers(1, 6, (USERS, MOVIES)), np.nan)
    y[-1] = np.nan
    return y


def ragged(cells):
    rows = [np.flatnonzero(~np.isnan(row)) for row in cells]
    index = tf.ragged.constant([row.tolist() for row in rows], tf.int32)
    return index, tf.ragged.constant([cells[n, row].tolist() for n, row in enumerate(rows)], tf.float32)


def objective(users, movies, cells, weights=WEIGHTS):
    score = users @ movies.T
    return (
        np.nansum((cells - score) ** 2) + weights.gravity * (score**2).sum()
        + weights.user_ridge * (users**2).sum() + weights.movie_ridge * (movies**2).sum()
    )  # fmt: skip


def test_solving_finds_the_minimum(cells):
    random = np.random.default_rng(3)
    movies = random.normal(size=(MOVIES, D)).astype(np.float32)
    found = mf.solve(tf.constant(movies), WEIGHTS.gravity, WEIGHTS.user_ridge, *ragged(cells)).numpy()
    assert (found[-1] == 0).all()
    best = objective(found, movies, cells)
    for user, coordinate, step in itertools.product(range(USERS), range(D), (-0.01, 0.01)):
        other = found.copy()
        other[user, coordinate] += step
        assert objective(other, movies, cells) > best


def test_the_objective_is_that_of_hu_koren_and_volinsky(cells):
    """Their closed form, x = (Y^T C Y + lambda I)^-1 Y^T C p, dense; scores alpha / (1 + alpha) times as large."""
    movies = np.random.default_rng(4).normal(size=(MOVIES, D)).astype(np.float32)
    watched = np.where(np.isnan(cells), np.nan, 1.0)
    gravity, alpha = 0.1, 10.0
    found = mf.solve(tf.constant(movies), gravity, 0.3, *ragged(watched)).numpy()
    for user in range(USERS):
        preference = np.nan_to_num(watched[user])
        confidence = np.diag(1 + alpha * preference)
        theirs = np.linalg.solve(
            movies.T @ confidence @ movies + 0.3 / gravity * np.eye(D), movies.T @ confidence @ preference
        )
        np.testing.assert_allclose(found[user], theirs * alpha / (1 + alpha), rtol=1e-3, atol=1e-5)


def test_weights_are_the_means_of_the_exercise():
    p = MatrixFactorization(gravity=2.0, regularization=0.5)
    weights = mf.Weights.of(p, num_rows=60, num_users=10, num_movies=30)
    assert weights == pytest.approx((2.0 * 60 / 300, 0.5 * 6, 0.5 * 2))


@pytest.mark.parametrize("target", [mf.IMPLICIT, mf.STARS])
def test_both_solvers_go_down_the_same_objective_to_the_same_place(artifacts, target):
    states = retrieval_data.load(artifacts.fn_args("unused", {})).fit
    num_movies = 18
    p = MatrixFactorization(embedding_dimension=2, learning_rate=0.05, initial_stddev=0.3)
    y = states.rating if target == mf.STARS else np.ones_like(states.rating)
    weights = mf.Weights.of(p, len(y), states.num_users, num_movies)
    cells = np.full((states.num_users, num_movies), np.nan)
    cells[states.row_user, states.position] = y
    tf.keras.utils.set_random_seed(1)
    start = tf.random.normal([num_movies, 2], stddev=0.3)
    reached = {}
    for solver, num_epochs in ((mf._alternating, 12), (mf._descending, 250)):
        sides = list(itertools.islice(solver(states, y, weights, start, p, 1), num_epochs))
        looked_at = sides if solver is mf._alternating else sides[-1:]
        values = [objective(users, movies, cells, weights) for users, movies in looked_at]
        reached[solver] = values[-1]
        assert (np.diff(values) <= 1e-3 * values[0]).all(), "no sweep makes it worse"
    assert reached[mf._descending] == pytest.approx(reached[mf._alternating], rel=0.02)


@pytest.mark.parametrize("wrong", [{"solver": "sgd"}, {"target": "likes"}, {"regularization": 0.0}])
def test_values_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=rf"MatrixFactorization\.{next(iter(wrong))} is .* must be"):
        mf.train(None, wrong, 1)
