"""What the matrix families serve, by itself: who is known and who is not, and stars from a history."""

import dataclasses

import numpy as np
import pytest

from trainer_modules import bias_ranking, hyperparameters, low_rank, ranking_data, rating_matrix
from trainer_modules import features as f
from trainer_modules.rating_matrix import RatingMatrix

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


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


@pytest.fixture(scope="module")
def data(star_artifacts):
    return ranking_data.load(star_artifacts.fn_args("", {"rating_range": [1.0, 5.0]}))


@pytest.fixture(scope="module")
def fitted(data):
    """Random vectors of 3 coordinates for everything in the data."""
    random = np.random.default_rng(2)
    matrix = rating_matrix.of_rows(data.fit, data)

    def vectors(*shape):
        return random.normal(0.0, 0.6, (*shape, 3)).astype(np.float32)

    sizes = [len(matrix.user_side), len(matrix.user_side.T), len(matrix.movie_side), len(matrix.movie_side.T)]
    return low_rank.LowRank(
        mean=3.2, user=vectors(sizes[0]), new_user=vectors(), user_side=vectors(sizes[1]), movie=vectors(sizes[2]),
        new_movie=vectors(), movie_side=vectors(sizes[3]), noise=0.7,
        moods=np.array([0.1, -0.2, 0.3, 0.4, 0.5], np.float32),
    )  # fmt: skip


def asked(data, fitted, user_index):
    """The first rows of train as queries, with another user, and what plain NumPy says of the first three movies."""
    query = {feature.name: data.train[feature.name][60:64].copy() for feature in ranking_data.QUERY}
    query[f.USER_INDEX.name][:] = user_index
    matrix = rating_matrix.of_rows(data.fit, data)
    side = fitted.user_side
    ends = np.cumsum(rating_matrix.fact_sizes(data))[:-1]
    expected_of_known = fitted.new_user + matrix.user_side @ side
    deviation = fitted.user - expected_of_known
    prior = deviation.T @ deviation / len(deviation)
    stars = []
    for n in range(4):
        history = query[f.HISTORY_MOVIE_INDEX.name][n]
        is_row = history >= f.FIRST_INDEX
        rows = fitted.movie[history[is_row] - f.FIRST_INDEX]
        rated = query[f.HISTORY_RATING.name][n][is_row]
        if user_index >= f.FIRST_INDEX:
            user = fitted.user[user_index - f.FIRST_INDEX]
        else:
            parts = zip(np.split(side, ends), ranking_data.FACTS, strict=True)
            start = fitted.new_user + sum(part[query[fact.name][n]] for part, fact in parts)
            gain = prior @ rows.T @ np.linalg.inv(rows @ prior @ rows.T + 0.7 * np.eye(len(rows)))
            user = start + gain @ (rated - 3.2 - rows @ start)
        surprise = rated - 3.2 - rows @ user
        means = [surprise[-size:].sum() / (min(size, len(surprise)) + 2.0) for size in (1, 4, 16, 50)]
        moods = [float(is_row.any()), *means]
        movies = fitted.movie[data.catalog.movie_index[:3] - f.FIRST_INDEX]
        stars.append(3.2 + movies @ user + np.dot(moods, fitted.moods))
    return query, np.array(stars)


@pytest.mark.parametrize("user_index", [5, f.OOV_INDEX])
def test_stars_are_those_of_plain_numpy(data, fitted, user_index):
    query, expected = asked(data, fitted, user_index)
    assert (data.catalog.movie_index[:3] >= f.FIRST_INDEX).all()
    scorer = low_rank.LowRankScorer(fitted, data)
    stars = scorer(query, tf.constant([[0, 1, 2]] * 4))
    np.testing.assert_allclose(stars, expected, rtol=1e-3, atol=1e-3)


def test_a_movie_without_ratings_is_its_side_features_and_one_out_of_the_catalog_nothing(data, fitted):
    query, _ = asked(data, fitted, 5)
    cold = np.flatnonzero(data.catalog.movie_index == f.OOV_INDEX)[0]
    scorer = low_rank.LowRankScorer(fitted._replace(moods=np.zeros(low_rank.NUM_MOODS, np.float32)), data)
    user = fitted.user[5 - f.FIRST_INDEX]
    of_facts = fitted.new_movie + rating_matrix.catalog_side(data)[cold] @ fitted.movie_side
    stars = scorer(query, tf.constant([[cold, -1]] * 4)).numpy()
    np.testing.assert_allclose(stars[0], [3.2 + of_facts @ user, 3.2 + fitted.new_movie @ user], rtol=1e-4)


def test_moods_are_fitted_to_what_the_vectors_leave_on_eval(data, fitted):
    """Where eval rows are half a star above all that was predicted, the constant of users with a history says so."""
    flat = fitted._replace(**{
        name: np.zeros_like(getattr(fitted, name))
        for name in ("user", "new_user", "user_side", "movie", "new_movie", "movie_side", "moods")
    })
    rows = {**data.eval, f.USER_RATING.name: np.full(len(data.eval[f.USER_RATING.name]), 3.7, np.float32)}
    rows[f.HISTORY_RATING.name] = np.full_like(rows[f.HISTORY_RATING.name], 3.2)
    rows[f.HISTORY_MOVIE_INDEX.name] = np.zeros_like(rows[f.HISTORY_MOVIE_INDEX.name])
    without = low_rank.fit_moods(flat, dataclasses.replace(data, eval=rows))
    np.testing.assert_array_equal(without, np.zeros(low_rank.NUM_MOODS))
    rows[f.HISTORY_MOVIE_INDEX.name][:, -1] = f.FIRST_INDEX
    found = low_rank.fit_moods(flat, dataclasses.replace(data, eval=rows))
    num_rows = len(rows[f.USER_RATING.name])
    np.testing.assert_allclose(found, [0.5 * num_rows / (num_rows + 10.0), 0, 0, 0, 0], atol=1e-4)


def test_families_speak_for_what_they_have_seen_and_biases_for_the_rest(data):
    cells = rating_matrix.of_rows(data.train, data)
    unseen_user, unseen_movie = cells.user[0], cells.movie[0]
    kept = (cells.user != unseen_user) & (cells.movie != unseen_movie)
    cells = cells._replace(user=cells.user[kept], movie=cells.movie[kept], stars=cells.stars[kept])
    biases = bias_ranking.filled(cells)
    own = np.full((len(cells.user_side), len(cells.movie_side)), 2.5, np.float32)
    around = bias_ranking.filled_around(cells, own, noise=0.3)
    seen = np.ix_(np.unique(cells.user), np.unique(cells.movie))
    np.testing.assert_allclose(around.mean + around.stars[seen], 2.5, rtol=1e-6)
    np.testing.assert_array_equal(around.stars[unseen_user], biases.stars[unseen_user])
    np.testing.assert_array_equal(around.stars[:, unseen_movie], biases.stars[:, unseen_movie])
    np.testing.assert_array_equal(around.stars[len(own) :], biases.stars[len(own) :])
    assert around.noise == 0.3
