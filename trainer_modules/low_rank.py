"""What the families that fill in the rating matrix serve: stars = mean + user's vector . movie's vector + mood.

A user and a movie of the fit rows have vectors of their own. Those of any others add up from side features. A user
without fit rows who brings a history is scored from it: the vectors of the known users, less what their side features
say, have some covariance; with it as the prior, and the error of the fit as the noise, the history's stars give the
mean of the posterior (the same as kriging; with one coordinate, a shrunken mean). A mood is by how much the newest rows
of the history lie above what the vectors say of them: all that a known user's history adds. U users, N movies, A and G
side features, D coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer_modules import features as f
from trainer_modules import rating_matrix
from trainer_modules.ranking_data import FACTS, QUERY, RankingData
from trainer_modules.rating_matrix import RatingMatrix

MAX_ROWS = 2_000_000
"""Beyond it these families, which go through all rows at every step, take hours."""
MAX_CELLS = 50_000_000
"""Of the filled-in matrix: 200 MB."""
_MORE_AXES, _SUBSPACE_STEPS = 16, 4
_MOOD_ROWS, _MOOD_SHRINKAGE = (1, 4, 16, f.HISTORY_LENGTH), 2.0
"""Newest rows over which moods are averaged, and how many rows at 0 stars are averaged with them."""
NUM_MOODS = 1 + len(_MOOD_ROWS)
_NO_MOODS = np.zeros(NUM_MOODS, np.float32)
_MOOD_RIDGE = 10.0
_MOOD_BATCH = 4096
_LEAST_NOISE = 0.05
"""Stars squared: who fits every row exactly knows it no better than this."""


class Filled(NamedTuple):
    """A rating matrix with every cell filled in: beside known users and movies a row for a user of whom nothing is
    known, and one for what each side feature adds to it, and such columns: every prediction is a sum over it."""

    mean: float
    """Of the fit rows, stars."""
    stars: np.ndarray
    """float32 [U + 1 + A, N + 1 + G], above the mean."""
    noise: float
    """Variance of the fit rows' stars around what is predicted of them."""

    def of(self, cells: RatingMatrix) -> np.ndarray:
        """float32 [T], stars."""
        return self.mean + self.stars[cells.user, cells.movie]


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
    moods: np.ndarray = _NO_MOODS
    """float32 [NUM_MOODS]: stars for a unit of each mood."""


def check_size(num_rows: int, num_users: int, num_movies: int, family: str) -> None:
    """Refuses what would take hours or more memory than there is.

    Raises:
      ValueError: beyond MAX_ROWS or MAX_CELLS.
    """
    if num_rows > MAX_ROWS or num_users * num_movies > MAX_CELLS:
        raise ValueError(
            f"The ranking family {family} fills in the whole matrix of users and movies, up to {MAX_CELLS:,} cells from"
            f" {MAX_ROWS:,} ratings; seen: {num_users:,} users, {num_movies:,} movies and {num_rows:,} ratings. Choose"
            " --ranking deep, which is trained in batches."
        )


def truncated(filled: Filled, num_users: int, num_movies: int, rank: int, seed: int) -> LowRank:
    """The matrix of at most that rank that is nearest to a filled-in one.

    By subspace iteration (Halko, Martinsson, Tropp, SIAM Review 2011, algorithm 4.4).

    Args:
      filled: U + 1 + A rows, N + 1 + G columns.
      num_users: U.
      num_movies: N.
      rank: of the result, D.
      seed: of where the iteration begins.
    """
    stars = filled.stars
    rank = min(rank, *stars.shape)
    start = np.random.default_rng(seed).normal(size=(stars.shape[1], min(rank + _MORE_AXES, *stars.shape)))
    axes = np.linalg.qr(stars @ start.astype(np.float32))[0]
    for _ in range(_SUBSPACE_STEPS):
        axes = np.linalg.qr(stars @ np.linalg.qr(stars.T @ axes)[0])[0]
    left, strength, right = np.linalg.svd(axes.T @ stars, full_matrices=False)
    # Users' and movies' vectors of like size: the prior of the users' is better conditioned.
    root = np.sqrt(strength[:rank])
    user, new_user, user_side = np.split((axes @ left[:, :rank]) * root, [num_users, num_users + 1])
    movie, new_movie, movie_side = np.split(right[:rank].T * root, [num_movies, num_movies + 1])
    return LowRank(filled.mean, user, new_user[0], user_side, movie, new_movie[0], movie_side, filled.noise)


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
        self._moods = _constant(fitted.moods, "moods")

    def __call__(self, query: Mapping[str, tf.Tensor], position: tf.Tensor) -> tf.Tensor:
        """ranking_scorer.Scorer: [B] and [B, H], int32 [B, M] -> stars [B, M]."""
        users = self._vectors(query)
        row = tf.where(position >= 0, position, self._num_movies)
        stars = self._mean + tf.einsum("bmd,bd->bm", tf.gather(self._movies, row), users)
        return stars + tf.linalg.matvec(self._moods_of(query, users), self._moods)[:, None]

    def moods(self, query: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """[B] and [B, H] -> [B, NUM_MOODS]: 1, and how much better than predicted the newest rows were liked; all 0 of
        who has no rows."""
        return self._moods_of(query, self._vectors(query))

    def _moods_of(self, query: Mapping[str, tf.Tensor], users: tf.Tensor) -> tf.Tensor:
        movie = query[f.HISTORY_MOVIE_INDEX.name]
        is_row = tf.cast(movie >= f.FIRST_INDEX, tf.float32)
        expected = self._mean + tf.einsum("bhd,bd->bh", tf.gather(self._history, movie), users)
        surprise = is_row * (query[f.HISTORY_RATING.name] - expected)
        means = [
            tf.reduce_sum(surprise[:, -rows:], axis=1) / (tf.reduce_sum(is_row[:, -rows:], axis=1) + _MOOD_SHRINKAGE)
            for rows in _MOOD_ROWS
        ]
        return tf.stack([tf.reduce_max(is_row, axis=1), *means], axis=1)

    def _vectors(self, query: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """[B] and [B, H] -> [B, D]."""
        users = tf.gather(self._users, query[f.USER_INDEX.name])
        # Known users have all this in their vectors.
        unknown = tf.where(query[f.USER_INDEX.name] < f.FIRST_INDEX)
        asked = {name: tf.gather(values, unknown[:, 0]) for name, values in query.items()}
        return tf.tensor_scatter_nd_add(users, unknown, self._from_facts_and_history(asked))

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


def fit_moods(fitted: LowRank, data: RankingData) -> np.ndarray:
    """What moods add to the stars of the eval rows, by ridge regression.

    Where time counts, the newest rows say what the vectors, to which all rows are alike, cannot: how the user feels
    today, and how the rows at a user's end differ from the others. Where it does not, nearly nothing.

    Args:
      fitted: on the train rows alone.
      data: gives the eval rows that tuning looks at.

    Returns:
      float32 [NUM_MOODS], for LowRank.moods.
    """
    scorer, rows = LowRankScorer(fitted, data), data.tuned_on
    position = np.full(data.num_movies, -1, np.int32)
    is_known = data.catalog.movie_index >= f.FIRST_INDEX
    position[data.catalog.movie_index[is_known]] = np.flatnonzero(is_known)
    gram, pull = _MOOD_RIDGE * np.eye(NUM_MOODS), np.zeros(NUM_MOODS)
    for first in range(0, len(rows[f.USER_RATING.name]), _MOOD_BATCH):
        batch = {name: values[first : first + _MOOD_BATCH] for name, values in rows.items()}
        query = {feature.name: tf.constant(batch[feature.name]) for feature in QUERY}
        stars = scorer(query, tf.constant(position[batch[f.MOVIE_INDEX.name]])[:, None])[:, 0]
        moods = scorer.moods(query).numpy().astype(np.float64)
        gram += moods.T @ moods
        pull += moods.T @ (batch[f.USER_RATING.name] - stars.numpy())
    return np.linalg.solve(gram, pull).astype(np.float32)


def _constant(value: np.ndarray | float, name: str) -> tf.Variable:
    return tf.Variable(tf.constant(value, tf.float32), trainable=False, name=name)
