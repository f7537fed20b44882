"""What the families that fill in the rating matrix serve: stars = mean + user's vector . movie's vector.

A user and a movie of the fit rows have vectors of their own. Those of any others add up from side features. A user
without fit rows who brings a history is scored from it: the vectors of the known users, less what their side features
say, have some covariance; with it as the prior, and the error of the fit as the noise, the history's stars give the
mean of the posterior (the same as kriging; with one coordinate, a shrunken mean). U users, N movies, A and G side
features, D coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer_modules import features as f
from trainer_modules import rating_matrix
from trainer_modules.ranking_data import FACTS, RankingData

_LEAST_NOISE = 0.05
"""Stars squared: who fits every row exactly knows it no better than this."""


class LowRank(NamedTuple):
    """Vectors of everything that can be part of a user or of a movie; those of side features are added."""

    mean: float
    """Stars."""
    user: np.ndarray
    """float32 [U, D]."""
    new_user: np.ndarray
    """float32 [D], of a user of whom nothing is known."""
    user_side: np.ndarray
    """float32 [A, D]."""
    movie: np.ndarray
    """float32 [N, D]."""
    new_movie: np.ndarray
    """float32 [D]."""
    movie_side: np.ndarray
    """float32 [G, D]."""
    noise: float
    """Variance of the fit rows' stars around what is predicted of them."""


def prior_root(user: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """L, float32 [D, D], with L L^T the second moment of the users' deviations from what is expected of them.

    Args:
      user: [U, D].
      expected: [U, D].
    """
    deviation = (user - expected).astype(np.float64)
    variance, axis = np.linalg.eigh(deviation.T @ deviation / max(len(deviation), 1))
    return (axis * np.sqrt(np.maximum(variance, 0.0))).astype(np.float32)


class LowRankScorer(tf.Module):
    """A LowRank, ready to be served."""

    def __init__(self, fitted: LowRank, data: RankingData) -> None:
        """Takes the vectors over; data: what they were fitted on."""
        super().__init__(name="low_rank")
        nobody = np.tile(fitted.new_user, (f.FIRST_INDEX, 1))
        self._users = _constant(np.concatenate([nobody, fitted.user]), "users")
        facts = np.split(fitted.user_side, np.cumsum(rating_matrix.fact_sizes(data))[:-1])
        self._facts = {fact.name: _constant(table, fact.name) for fact, table in zip(FACTS, facts, strict=True)}
        # Behind the last movie stands what is said of a movie that is not in the catalog.
        index = data.catalog.movie_index
        movies = fitted.new_movie + rating_matrix.catalog_side(data) @ fitted.movie_side
        is_known = index >= f.FIRST_INDEX
        movies[is_known] = fitted.movie[index[is_known] - f.FIRST_INDEX]
        self._movies = _constant(np.concatenate([movies, fitted.new_movie[None]]), "movies")
        self._num_movies = data.catalog.num_movies
        # A movie that nobody rated says little of who did: it is not looked at.
        none = np.zeros((f.FIRST_INDEX, fitted.movie.shape[1]), np.float32)
        self._history = _constant(np.concatenate([none, fitted.movie]), "history")
        user_side = rating_matrix.of_rows(data.fit, data).user_side
        root = prior_root(fitted.user, fitted.new_user + user_side @ fitted.user_side)
        self._prior_root = _constant(root, "prior_root")
        self._noise = _constant(max(fitted.noise, _LEAST_NOISE), "noise")
        self._mean = _constant(fitted.mean, "mean")

    def __call__(self, query: Mapping[str, tf.Tensor], position: tf.Tensor) -> tf.Tensor:
        """ranking_scorer.Scorer: [B] and [B, H], int32 [B, M] -> stars [B, M]."""
        users = tf.gather(self._users, query[f.USER_INDEX.name])
        # Known users have all this in their vectors.
        unknown = tf.where(query[f.USER_INDEX.name] < f.FIRST_INDEX)
        asked = {name: tf.gather(values, unknown[:, 0]) for name, values in query.items()}
        users = tf.tensor_scatter_nd_add(users, unknown, self._from_facts_and_history(asked))
        row = tf.where(position >= 0, position, self._num_movies)
        return self._mean + tf.einsum("bmd,bd->bm", tf.gather(self._movies, row), users)

    def _from_facts_and_history(self, query: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """[B, D] to add to what stands for a user of whom nothing is known."""
        facts = tf.add_n([tf.gather(table, query[name]) for name, table in self._facts.items()])
        movie = query[f.HISTORY_MOVIE_INDEX.name]
        movies = tf.gather(self._history, movie)
        expected = self._mean + tf.einsum("bhd,bd->bh", movies, self._users[f.OOV_INDEX] + facts)
        surprise = tf.where(movie >= f.FIRST_INDEX, query[f.HISTORY_RATING.name] - expected, 0.0)
        # In coordinates in which the prior is standard; a row that is not looked at is one of zeros.
        rows = tf.einsum("bhd,de->bhe", movies, self._prior_root)
        gram = tf.matmul(rows, rows, transpose_b=True) + self._noise * tf.eye(f.HISTORY_LENGTH)
        weight = tf.linalg.cholesky_solve(tf.linalg.cholesky(gram), surprise[:, :, None])
        return facts + tf.einsum("bhe,bh,de->bd", rows, weight[:, :, 0], self._prior_root)


def _constant(value: np.ndarray | float, name: str) -> tf.Variable:
    return tf.Variable(tf.constant(value, tf.float32), trainable=False, name=name)
