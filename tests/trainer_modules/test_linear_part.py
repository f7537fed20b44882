"""The linear part of the two-tower's score, recent popularity, and how their shares are chosen; against dense NumPy."""

import dataclasses

import numpy as np
import pytest

from trainer_modules import baselines, inputs, linear_part, retrieval_evaluation
from trainer_modules import features as f
from trainer_modules.hyperparameters import TwoTower
from trainer_modules.linear_part import JoinedQueryTower, Shares

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

N, D = 9, 2
P = TwoTower(embedding_dimension=D, linear_rank=4, linear_regularization=2.0)


def states(lists, timestamp=None):
    """UserStates of lists of catalog positions."""
    splits = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
    position = np.array([movie for row in lists for movie in row], np.int32)
    users = np.arange(len(lists))
    nothing = np.full(len(lists), f.OOV_INDEX)
    return inputs.UserStates(
        np.array([b"%d" % user for user in users], object), f.FIRST_INDEX + users, nothing, nothing, nothing, splits,
        position, np.full(len(position), 3.0, np.float32),
        np.arange(len(position)) if timestamp is None else np.array(timestamp),
    )  # fmt: skip


@pytest.fixture
def rows():
    random = np.random.default_rng(4)
    return states([random.permutation(N - 1)[: random.integers(2, 7)].tolist() for _ in range(12)])


def dense(rows):
    cells = np.zeros((rows.num_users, N))
    cells[rows.row_user, rows.position] = 1
    return cells


def test_at_full_rank_it_is_ridge_regression_of_the_rows_on_themselves(rows):
    p = dataclasses.replace(P, linear_rank=N - 1)
    gram = dense(rows).T @ dense(rows)
    expected = np.linalg.solve(gram + 2.0 * np.eye(N), gram)
    vectors = linear_part.item_vectors(rows, N, p, seed=1)
    assert vectors.dtype == np.float32 and vectors.shape == (N, N - 1)
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-5)


def test_of_a_lower_rank_it_is_the_best_approximation(rows):
    gram = dense(rows).T @ dense(rows)
    whole = np.linalg.solve(gram + 2.0 * np.eye(N), gram)
    value, vector = np.linalg.eigh((whole + whole.T) / 2)
    best = (vector[:, -4:] * value[-4:]) @ vector[:, -4:].T
    found = linear_part.item_vectors(rows, N, P, seed=1)
    np.testing.assert_allclose(found @ found.T, best, atol=1e-5)
    assert (np.abs(found[N - 1]) < 1e-6).all(), "a movie without rows has no vector"
    np.testing.assert_allclose(found, linear_part.item_vectors(rows, N, P, seed=1), atol=1e-6)


def test_few_rows_fill_fewer_coordinates():
    vectors = linear_part.item_vectors(states([[0, 1], [1]]), N, P, seed=1)
    assert vectors.shape == (N, 4)
    assert (vectors[:, 1:] == 0).all() and np.abs(vectors[:2, 0]).min() > 0
    assert (linear_part.item_vectors(states([[0, 1]]), N, P, seed=1) == 0).all()
    assert linear_part.item_vectors(states([[0], [1]]), N, dataclasses.replace(P, linear_rank=0), 1).shape == (N, 0)


def test_popularity_is_the_log_of_decayed_rows_with_a_mean_of_zero():
    day = 86_400
    rows = states([[0, 1], [1]], timestamp=[0, 7 * day, 7 * day])
    counts = baselines.recent_popularity(rows.position, rows.timestamp, N, 7.0)
    assert counts[:3].tolist() == [0.5, 2.0, 0.0]
    found = linear_part.log_popularity(rows, N, 7.0)
    assert found.mean() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(found[:2] - found[2], np.log([6.0, 21.0]), rtol=1e-5)
    assert (linear_part.log_popularity(rows, N, 0.0) == 0).all()


class Towers(tf.Module):
    """Stands in for the towers: one vector for everyone."""

    def __call__(self, query, candidate_vectors):
        return tf.fill([tf.shape(query.user_index)[0], D], 0.5)


def asked_of(rows, held_out):
    return retrieval_evaluation.queries(rows, rows.user_index, held_out)


def test_the_query_weighs_all_of_the_history_by_its_distance(rows):
    lists = [[3, 5, 0, 5], [], [2]]
    known = states(lists)
    candidates = linear_part.candidate_vectors(np.ones((N, D), np.float32), rows, P, seed=1)
    assert candidates.shape == (N, D + 4 + 1)
    tower = JoinedQueryTower(Towers(), Shares(2.0, 0.25, 0.75), P)
    query = tower(asked_of(known, states([[1], [1], [1]])).asked, tf.constant(candidates)).numpy()
    for user, row in enumerate(lists):
        taste = sum((len(row) - n) ** -P.linear_decay * candidates[movie, D : D + 4] for n, movie in enumerate(row))
        expected = [0.5, 0.5, *(2.0 * taste + np.zeros(4)), 0.25 if row else 0.75]
        np.testing.assert_allclose(query[user], expected, rtol=1e-5)


def test_shares_are_those_that_suit_the_held_out_rows():
    """Two groups of movies: towers say nothing, the linear part knows the group; cold users want what is popular."""
    lists = [[0, 1, 2], [1, 2, 0], [2, 3, 0], [4, 5, 6], [5, 6, 7], [6, 7, 4]] * 3
    known = states([*lists, []])
    held_out = states([[next(movie for movie in range(8) if movie // 4 == row[0] // 4 and movie not in row)]
                       for row in lists] + [[8]])  # fmt: skip
    candidates = linear_part.candidate_vectors(np.zeros((N, D), np.float32), known, P, seed=1)
    candidates[8, -1] = 9.0  # nobody rated it: made popular to everyone, to tell the cold user's share
    tower = JoinedQueryTower(Towers(), Shares(0.0, 0.0, 0.0), P)
    shares = linear_part.choose_shares(tower, candidates, asked_of(known, held_out), P)
    assert shares.linear > 0 and shares.popularity == 0.0 and shares.cold_popularity > 0
    warm_only = states([*held_out.position[:-1].reshape(-1, 1).tolist(), []])
    shares = linear_part.choose_shares(tower, candidates, asked_of(known, warm_only), P)
    assert shares.cold_popularity == shares.popularity
    off = dataclasses.replace(P, linear_rank=0, popularity_half_life_days=0.0)
    plain = linear_part.candidate_vectors(np.zeros((N, D), np.float32), known, off, seed=1)
    tower = JoinedQueryTower(Towers(), Shares(0.0, 0.0, 0.0), off)
    assert linear_part.choose_shares(tower, plain, asked_of(known, held_out), off) == (0.0, 0.0, 0.0)
