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


NOBODY = np.zeros((15, 2), np.float32)
"""Facts of newcomers: ages, genders and no known occupation, in two coordinates."""


def joined(towers, shares, p=P, facts=NOBODY):
    return JoinedQueryTower(towers, shares, p, facts)


def candidates_of(rows, p=P, vectors=None):
    vectors = np.zeros((N, D), np.float32) if vectors is None else vectors
    return linear_part.candidate_vectors(vectors, rows, p, np.full((N, 3), 0.125, np.float32), seed=1)


def asked_of(rows, held_out):
    return retrieval_evaluation.queries(rows, rows.user_index, held_out)


def test_the_query_weighs_all_of_the_history_by_its_distance(rows):
    lists = [[3, 5, 0, 5], [], [2]]
    known = states(lists)
    candidates = candidates_of(rows, vectors=np.ones((N, D), np.float32))
    assert candidates.shape == (N, D + 4 + 1 + 3)
    facts = np.arange(30.0, dtype=np.float32).reshape(15, 2)
    query = joined(Towers(), Shares(2.0, 0.25), facts=facts)(
        asked_of(known, states([[1], [1], [1]])).asked, tf.constant(candidates)
    ).numpy()
    for user, row in enumerate(lists):
        weight = [(len(row) - n) ** -P.linear_decay for n in range(len(row))]
        taste = np.dot(weight, candidates[row, D : D + 4]) if row else np.zeros(4)
        expected = [0.5, 0.5, *(2.0 * taste), 0.25, 0, 0, 0]
        # A newcomer's facts are indices 1, 1 and 1, after 9 ages, and after 4 genders more.
        new = [0] * 7 + [1, *(facts[1] + facts[10] + facts[14])]
        np.testing.assert_allclose(query[user], expected if row else new, rtol=1e-5)


def test_without_popularity_the_towers_answer_newcomers_too(rows):
    off = dataclasses.replace(P, popularity_half_life_days=0.0)
    query = joined(Towers(), Shares(2.0, 0.0), off)(
        asked_of(states([[]]), states([[1]])).asked, tf.constant(candidates_of(rows, off))
    ).numpy()
    np.testing.assert_allclose(query[0], [0.5, 0.5] + 8 * [0.0])


@pytest.fixture
def groups():
    """Two groups of movies, users who stay in one, and what they rate next: only the linear part tells."""
    lists = [[0, 1, 2], [1, 2, 0], [2, 3, 0], [4, 5, 6], [5, 6, 7], [6, 7, 4]] * 3
    wanted = [[next(movie for movie in range(8) if movie // 4 == row[0] // 4 and movie not in row)] for row in lists]
    return states([*lists, []]), states([*wanted, [8]])


def test_a_part_that_does_not_suit_the_held_out_rows_is_left_out(groups):
    known, held_out = groups
    candidates = candidates_of(known)
    candidates[8, D + 4] = 9.0  # made popular: whoever weighs popularity is wrong
    tower = joined(Towers(), Shares(0.0, 0.0))
    assert linear_part.choose_shares(tower, candidates, asked_of(known, held_out), P) == (9.0, 0.0)


def test_a_part_that_is_better_left_out_by_chance_stays(groups):
    known, held_out = groups
    candidates = candidates_of(known)
    candidates[:, D + 4] = 1e-4 * np.arange(N)  # decides between equals alone
    tower = joined(Towers(), Shares(0.0, 0.0))
    assert linear_part.choose_shares(tower, candidates, asked_of(known, held_out), P) == (9.0, 4.0)
    only_new = states([[] for _ in range(18)] + [[8]])
    assert linear_part.choose_shares(tower, candidates, asked_of(known, only_new), P) == (9.0, 4.0)


def test_what_is_switched_off_has_no_share(groups):
    known, held_out = groups
    off = dataclasses.replace(P, linear_rank=0, popularity_half_life_days=0.0)
    tower = joined(Towers(), Shares(0.0, 0.0), off)
    assert linear_part.choose_shares(tower, candidates_of(known, off), asked_of(known, held_out), off) == (0.0, 0.0)
