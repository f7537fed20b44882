"""What the two-tower's score is joined by: a linear model of who rated what, recent popularity, and for users without
a history what newcomers are shown. One dot product.

The linear model predicts a user's rows from the user's rows. With X the users' rows, 1 where rated, ridge regression of
X on itself gives item weights X^T X (X^T X + lambda)^-1: Steck, "Autoencoders that don't overfit towards the identity"
(NeurIPS 2020), calls it the full-rank linear autoencoder, and EASE (WWW 2019) is the same with a diagonal of zeros,
which does not matter where what was rated is masked. With the singular vectors V_r and values s of X it is W W^T,
W = V_r diag(s / sqrt(s^2 + lambda)), best approximated by the r largest: so a movie has one vector, in the history and
as a candidate, and the query is a sum. Towers learn the order of the last movies, this the company that all keep.

N candidates, B requests, D coordinates of the towers, then R of the linear model, one of popularity, P of newcomers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import tensorflow as tf

from trainer_modules import newcomers, retrieval_evaluation
from trainer_modules.hyperparameters import TwoTower
from trainer_modules.inputs import UserStates
from trainer_modules.towers import Query


class Shares(NamedTuple):
    """How much each part of the score counts for users with a history, the towers' being 1."""

    linear: float
    popularity: float
    """Of the log of recent popularity."""


def item_vectors(states: UserStates, num_movies: int, p: TwoTower, seed: int) -> np.ndarray:
    """The linear model of some rows: W, float32 [N, R], zeros for a movie without rows."""
    ones = np.ones(len(states.position))
    rows = scipy.sparse.csr_matrix((ones, (states.row_user, states.position)), (states.num_users, num_movies))
    rank = min(p.linear_rank, min(rows.shape) - 1)
    vectors = np.zeros((num_movies, p.linear_rank), np.float32)
    if rank > 0:
        _, value, vector = scipy.sparse.linalg.svds(rows, k=rank, random_state=seed)
        vectors[:, :rank] = vector.T * (value / np.sqrt(value**2 + p.linear_regularization))
    return vectors


def log_popularity(states: UserStates, num_movies: int, half_life_days: float) -> np.ndarray:
    """The log of each movie's decayed number of rows, its mean taken off, float32 [N]; zeros at a half-life of 0."""
    if not half_life_days:
        return np.zeros(num_movies, np.float32)
    return newcomers.log_popularity(states, num_movies, half_life_days)[0].astype(np.float32)


def candidate_vectors(
    tower_vectors: np.ndarray, states: UserStates, p: TwoTower, newcomer_vectors: np.ndarray, seed: int
) -> np.ndarray:
    """All coordinates of the candidates.

    Args:
      tower_vectors: float32 [N, D], of the candidate tower.
      states: the rows that the towers are fitted on.
      p: hyperparameters.
      newcomer_vectors: float32 [N, P], newcomers.Part's.
      seed: where the search for singular vectors starts.

    Returns:
      float32 [N, D + R + 1 + P].
    """
    num_movies = len(tower_vectors)
    popularity = log_popularity(states, num_movies, p.popularity_half_life_days)
    items = item_vectors(states, num_movies, p, seed)
    return np.concatenate([tower_vectors, items, popularity[:, None], newcomer_vectors], axis=1)


def coordinates_without_rows(
    states: UserStates, num_movies: int, p: TwoTower, newcomer_vector: np.ndarray
) -> np.ndarray:
    """float32 [R + 1 + P]: what candidate_vectors appends to the tower's vector of a movie that nobody has rated."""
    popularity = 0.0
    if p.popularity_half_life_days:
        _, popularity = newcomers.log_popularity(states, num_movies, p.popularity_half_life_days)
    return np.concatenate([np.zeros(p.linear_rank), [popularity], newcomer_vector]).astype(np.float32)


class JoinedQueryTower(tf.Module):
    """The query tower of the joined score."""

    def __init__(self, tower: tf.Module, shares: Shares, p: TwoTower, newcomer_facts: np.ndarray) -> None:
        """Puts it together.

        Args:
          tower: called with a Query and the candidate vectors; gives float32 [B, D].
          shares: of the parts.
          p: hyperparameters.
          newcomer_facts: float32 [F, P - 1], newcomers.Part's.
        """
        super().__init__(name="joined_query_tower")
        self._tower = tower
        self._shares = tf.Variable(shares, trainable=False, dtype=tf.float32, name="shares")
        self._facts = tf.Variable(newcomer_facts, trainable=False, name="newcomer_facts")
        self._num_occupations = len(newcomer_facts) - newcomers.first_rows(0)[-1]
        self._has_newcomers = bool(p.popularity_half_life_days)
        self._size, self._rank, self._decay = p.embedding_dimension, p.linear_rank, p.linear_decay

    def assign(self, shares: Shares) -> None:
        """Weighs the parts anew."""
        self._shares.assign(shares)

    def __call__(self, query: Query, candidate_vectors: tf.Tensor) -> tf.Tensor:
        """As Towers.query_tower says; all of the history is read, and of a movie that is there twice the sum."""
        linear, popularity = tf.unstack(self._shares)
        position = query.history.position
        row = tf.range(tf.size(position.values, tf.int64))
        limits, num_users = position.row_limits(), position.nrows()
        user = tf.searchsorted(limits, row, side="right")  # what value_rowids() says, in a fifth of its graph
        num_later = tf.gather(limits, user) - 1 - row
        weight = (1.0 + tf.cast(num_later, tf.float32)) ** -self._decay
        vector = tf.gather(candidate_vectors, position.values)[:, self._size : self._size + self._rank]
        taste = tf.math.unsorted_segment_sum(weight[:, None] * vector, user, num_users)
        one = tf.ones([num_users, 1])
        known = tf.concat([self._tower(query, candidate_vectors), linear * taste, popularity * one], axis=1)
        row = query.facts + newcomers.first_rows(self._num_occupations)[:-1]
        new = tf.concat([one, tf.reduce_sum(tf.gather(self._facts, row), axis=1)], axis=1)
        is_new = tf.equal(position.row_lengths(), 0)[:, None] & self._has_newcomers
        return tf.concat([tf.where(is_new, 0.0, known), tf.where(is_new, new, 0.0)], axis=1)


def choose_shares(
    query_tower: JoinedQueryTower, candidates: np.ndarray, asked: retrieval_evaluation.Queries, p: TwoTower
) -> Shares:
    """Which parts the score has for users with a history: the hyperparameters' shares, or 0.

    A part is left out where NDCG@10 on held-out rows is better without by more than two standard errors. The best of a
    finer grid measured worse on test: eval rows are few.

    Args:
      query_tower: fitted on the rows that are known; its shares are left at those chosen.
      candidates: float32 [N, all coordinates].
      asked: the queries.
    """
    query_tower.assign(Shares(1.0, 1.0))
    query = np.asarray(query_tower(asked.asked, tf.constant(candidates)))
    has_history = asked.seen.max(axis=1, initial=-1) >= 0
    sizes = [p.embedding_dimension, p.linear_rank, query.shape[1] - p.embedding_dimension - p.linear_rank]

    def of_each(shares: Shares) -> np.ndarray:
        weights = np.repeat(np.array([1.0, *shares], np.float32), sizes)
        return retrieval_evaluation.ndcg_at_10_of_each(query * weights, candidates, asked)[has_history]

    shares = Shares(
        p.linear_share if p.linear_rank else 0.0, p.popularity_share if p.popularity_half_life_days else 0.0
    )
    if has_history.any():
        with_all = of_each(shares)
        others = (shares._replace(popularity=0.0), shares._replace(linear=0.0), Shares(0.0, 0.0))
        best, of_best = max(((one, of_each(one)) for one in others), key=lambda found: found[1].mean())
        gain = of_best - with_all
        if gain.mean() > 2.0 * gain.std() / np.sqrt(len(gain)):
            shares = best
    query_tower.assign(shares)
    return shares
