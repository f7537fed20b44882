"""What the matrix families serve, by itself: who is known and who is not, and stars from a history."""

import numpy as np
import pytest

from trainer_modules import bias_ranking, hyperparameters, low_rank
from trainer_modules.rating_matrix import RatingMatrix


@pytest.fixture(scope="module")
def matrix():
    """Random cells of 12 users and 9 movies, with two side features each."""
    random = np.random.default_rng(5)
    filled = np.argwhere(random.random((12, 9)) < 0.6)
    return RatingMatrix(
        filled[:, 0], filled[:, 1], random.integers(1, 6, len(filled)).astype(np.float32),
        np.eye(2, dtype=np.float32)[np.arange(12) % 2], random.random((9, 2)).astype(np.float32),
    )  # fmt: skip


def test_biases_are_the_minimum(matrix):
    """Against the normal equations written out."""
    p = hyperparameters.Bias(user_shrinkage=2.0, movie_shrinkage=1.5, side_shrinkage=0.7)
    found = bias_ranking.fit_biases(matrix, p)
    columns = np.concatenate(
        [np.eye(12)[matrix.user], np.eye(9)[matrix.movie], matrix.user_side[matrix.user],
         matrix.movie_side[matrix.movie]], axis=1,
    )  # fmt: skip
    penalty = np.diag([2.0] * 12 + [1.5] * 9 + [0.7] * 4)
    mean = matrix.stars.mean(dtype=np.float64)
    expected = np.linalg.solve(columns.T @ columns + penalty, columns.T @ (matrix.stars - mean))
    np.testing.assert_allclose(np.concatenate(found[1:]), expected, atol=1e-4)
    assert found.mean == pytest.approx(mean)


def test_shrinkage_must_be_above_0(matrix):
    with pytest.raises(ValueError, match="Shrinkage must be above 0"):
        bias_ranking.fit_biases(matrix, hyperparameters.Bias(side_shrinkage=0.0))


def test_low_rank_biases_add_up(matrix):
    biases = bias_ranking.fit_biases(matrix, hyperparameters.Bias())
    fitted = bias_ranking.as_low_rank(matrix, biases)
    u, i = 3, 4
    user = biases.user[u] + matrix.user_side[u] @ biases.user_side
    movie = biases.movie[i] + matrix.movie_side[i] @ biases.movie_side
    of_nobody = fitted.new_user + fitted.user_side.T @ matrix.user_side[u]
    assert fitted.user[u] @ fitted.movie[i] == pytest.approx(user + movie, abs=1e-5)
    assert of_nobody @ fitted.movie[i] == pytest.approx(matrix.user_side[u] @ biases.user_side + movie, abs=1e-5)
    assert fitted.new_user @ fitted.new_movie == pytest.approx(0.0)


def test_the_prior_is_the_second_moment_of_what_side_features_leave_open():
    random = np.random.default_rng(1)
    user, expected = random.normal(size=(50, 3)), random.normal(size=(50, 3))
    root = low_rank.prior_root(user, expected)
    deviation = user - expected
    np.testing.assert_allclose(root @ root.T, deviation.T @ deviation / 50, rtol=1e-4, atol=1e-5)
