"""The ranking family "bias": stars = mean + b_u + b_i, where a bias is a user's or movie's own and its side features'.

Koren's baseline estimate (Factor in the Neighbors, TKDD 2010, equation 2), with side features: the least sum of squared
errors + user_shrinkage |own user biases|^2 + movie_shrinkage |own movie biases|^2 + side_shrinkage |side features'|^2.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from trainer_modules import hyperparameters, metrics, rating_matrix
from trainer_modules.epochs import Note
from trainer_modules.low_rank import Filled, LowRank, LowRankScorer
from trainer_modules.ranking_data import RankingData
from trainer_modules.ranking_scorer import Fitted
from trainer_modules.rating_matrix import RatingMatrix

_LOG = logging.getLogger("movierec.ranking")

_MAX_STEPS = 500
_TOLERANCE = 1e-6


class SideBiases(NamedTuple):
    """Stars above the mean."""

    mean: float
    user: np.ndarray
    """float64 [U]: a user's own, side features not included."""
    movie: np.ndarray
    """float64 [N]."""
    user_side: np.ndarray
    """float64 [A]."""
    movie_side: np.ndarray
    """float64 [G]."""


def fit_biases(matrix: RatingMatrix, p: hyperparameters.Bias) -> SideBiases:
    """The exact minimum, by conjugate gradients.

    Raises:
      ValueError: no rows, or a shrinkage that is not above 0 (biases would not be determined).
    """
    if not len(matrix.stars):
        raise ValueError("There are no rows to fit biases to.")
    if min(p.user_shrinkage, p.movie_shrinkage, p.side_shrinkage) <= 0:
        raise ValueError(f"Shrinkage must be above 0, else biases are not determined; seen: {p}.")
    parts = [len(part) for part in (matrix.user_side, matrix.movie_side, matrix.user_side.T, matrix.movie_side.T)]
    ends = np.cumsum(parts)[:-1]
    penalty = np.repeat([p.user_shrinkage, p.movie_shrinkage, p.side_shrinkage, p.side_shrinkage], parts)
    mean = float(matrix.stars.mean(dtype=np.float64))

    def spread(rows: np.ndarray) -> np.ndarray:
        """[T] -> what each value had to do with them."""
        users, movies = (np.bincount(index, rows, size) for index, size in zip(matrix[:2], parts, strict=False))
        return np.concatenate([users, movies, users @ matrix.user_side, movies @ matrix.movie_side])

    def applied(values: np.ndarray) -> np.ndarray:
        """The normal equations' left side."""
        user, movie, user_side, movie_side = np.split(values, ends)
        users, movies = user + matrix.user_side @ user_side, movie + matrix.movie_side @ movie_side
        return spread(users[matrix.user] + movies[matrix.movie]) + penalty * values

    values = np.zeros(sum(parts))
    rest = spread(matrix.stars.astype(np.float64) - mean)
    start = length = rest @ rest
    direction = rest
    for _ in range(_MAX_STEPS):
        if length <= _TOLERANCE**2 * start:
            break
        image = applied(direction)
        step = length / (direction @ image)
        values, rest = values + step * direction, rest - step * image
        before, length = length, rest @ rest
        direction = rest + length / before * direction
    return SideBiases(mean, *np.split(values, ends))


def as_low_rank(matrix: RatingMatrix, biases: SideBiases) -> LowRank:
    """A user's vector is [b_u, 1], a movie's [1, b_i]."""
    users = biases.user + matrix.user_side @ biases.user_side
    movies = biases.movie + matrix.movie_side @ biases.movie_side
    error = biases.mean + users[matrix.user] + movies[matrix.movie] - matrix.stars

    def columns(first: np.ndarray | float, second: np.ndarray | float) -> np.ndarray:
        return np.stack(np.broadcast_arrays(first, second), axis=-1).astype(np.float32)

    return LowRank(
        mean=biases.mean,
        user=columns(users, 1.0),
        new_user=columns(0.0, 1.0),
        user_side=columns(biases.user_side, 0.0),
        movie=columns(1.0, movies),
        new_movie=columns(1.0, 0.0),
        movie_side=columns(0.0, biases.movie_side),
        noise=float(np.mean(error**2)),
    )


def filled(matrix: RatingMatrix) -> Filled:
    """What biases say of everybody and everything: where a family has nothing of its own to say."""
    fitted = as_low_rank(matrix, fit_biases(matrix, hyperparameters.Bias()))
    users = np.concatenate([fitted.user, fitted.new_user[None], fitted.user_side])
    movies = np.concatenate([fitted.movie, fitted.new_movie[None], fitted.movie_side])
    return Filled(fitted.mean, users @ movies.T, fitted.noise)


def filled_around(
    matrix: RatingMatrix, stars: np.ndarray, noise: float, by_bias: Filled | None = None
) -> Filled:
    """A family's own predictions for users and movies with cells; what biases say of all others.

    Args:
      matrix: what the family was fitted on.
      stars: float32 [U, N].
      noise: variance of the cells' stars around them.
      by_bias: `filled` of the matrix, which is overwritten; None: found here.
    """
    everything = by_bias or filled(matrix)
    seen = np.ix_(np.unique(matrix.user), np.unique(matrix.movie))
    everything.stars[seen] = stars[seen] - everything.mean
    return everything._replace(noise=noise)


def fit(data: RankingData, values: Mapping[str, Any], seed: int) -> Fitted:
    """Fits biases on train, to see the error on eval, then on both.

    Args:
      data: the rows and the catalog.
      values: of hyperparameters.Bias; those not named keep their defaults.
      seed: nothing is random.
    """
    p = hyperparameters.parse(hyperparameters.Bias, values)
    low, high = data.rating_range
    tuning, refit = (rating_matrix.of_rows(rows, data) for rows in (data.train, data.fit))
    held_out = rating_matrix.of_rows(data.tuned_on, data)

    def error(fitted: LowRank, asked: RatingMatrix) -> float:
        stars = fitted.mean + np.einsum("td,td->t", fitted.user[asked.user], fitted.movie[asked.movie])
        return metrics.rmse(asked.stars, np.clip(stars, low, high))

    tuned = as_low_rank(tuning, fit_biases(tuning, p))
    on_train, on_eval = error(tuned, tuning), error(tuned, held_out)
    _LOG.info("ranking tuning: train RMSE %.4f, eval RMSE %.4f", on_train, on_eval)
    data.on_tuned(on_eval)
    fitted = as_low_rank(refit, fit_biases(refit, p))
    notes: tuple[Note, ...] = (
        {"phase": "tuning", "epoch": 1, "train_rmse": on_train, "eval_rmse": on_eval},
        {"phase": "refit", "epoch": 1, "train_rmse": error(fitted, refit)},
    )
    return Fitted(LowRankScorer(fitted, data), notes)
