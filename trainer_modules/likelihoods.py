"""What the scores of a factorisation machine say of the stars: with normal noise, or as ordered categories.

T observed cells, U users, N movies, L different numbers of stars.
"""

from __future__ import annotations

import abc

import numpy as np
import tensorflow as tf

from trainer_modules.rating_matrix import RatingMatrix

_WEIGHT_PRIOR = 10.0
"""Rows of noise as large as everybody's that every user and every movie begins with."""
_DIVERGED = 4.0
"""A draw whose squared error is so many times the stars' variance is on its way to infinity."""
_LEAST_PROBABILITY = 1e-9
_MAX_CUT_STEP = 0.5
_CHUNK_CELLS = 4_000_000
"""Scores that are turned to stars at a time: 16 MB, and a few times that beside them."""


class Likelihood(tf.Module, abc.ABC):
    """The part of a model that sees scores and stars alone, of the cells that it was made with."""

    @abc.abstractmethod
    def slope(self, scores: tf.Tensor) -> tf.Tensor:
        """What the negative log likelihood of each cell grows by for a unit of its score: [T] -> [T]."""

    @abc.abstractmethod
    def curvature(self) -> tf.Tensor:
        """[T], about what the slope grows by for a unit of the score, where the scores were last."""

    @abc.abstractmethod
    def redraw(self, scores: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """New values of what belongs to the likelihood alone.

        Args:
          scores: float32 [T].
          number: int32 [], no two of them alike.

        Returns:
          float32 []: how badly the scores fit; beyond 1, or not a number, they are on their way to infinity.
        """

    @abc.abstractmethod
    def expected(self, scores: np.ndarray) -> np.ndarray:
        """float32 [R, C] -> [R, C]: stars above the cells' mean."""


class Normal(Likelihood):
    """stars = mean + score + noise of precision alpha w_u w_i.

    Some users' stars, and those of some movies, follow no taste as closely as others': the noise has a scale of its own
    for each (Lakshminarayanan, Bouchard, Archambeau, Robust Bayesian Matrix Factorisation, AISTATS 2011, with gamma
    priors for w). All are Gibbs draws.
    """

    def __init__(self, cells: RatingMatrix, seed: int) -> None:
        """cells: in the order of the scores; seed: of every draw."""
        super().__init__(name="normal")
        self._user, self._movie = tf.constant(cells.user, tf.int32), tf.constant(cells.movie, tf.int32)
        self._stars = tf.constant(cells.stars - float(cells.stars.mean()), tf.float32)
        self._seed, self._variance = seed, max(float(np.var(cells.stars)), 1.0)
        self.alpha = tf.Variable(1.0, trainable=False, name="alpha")
        self.user_weight = tf.Variable(tf.ones(len(cells.user_side)), trainable=False, name="user_weight")
        self.movie_weight = tf.Variable(tf.ones(len(cells.movie_side)), trainable=False, name="movie_weight")
        self.precision = tf.Variable(tf.ones(len(cells.stars)), trainable=False, name="precision")

    def slope(self, scores: tf.Tensor) -> tf.Tensor:
        return self.precision * (scores - self._stars)

    def curvature(self) -> tf.Tensor:
        return self.precision.read_value()

    def redraw(self, scores: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        squares = tf.square(scores - self._stars)
        of_user, of_movie = tf.gather(self.user_weight, self._user), tf.gather(self.movie_weight, self._movie)

        def gamma(count: tf.Tensor | float, rate: tf.Tensor, which: int) -> tf.Tensor:
            seed = [self._seed + which, number]
            return tf.random.stateless_gamma(tf.shape(rate), seed, tf.broadcast_to(count / 2.0, tf.shape(rate))) / rate

        def weights(index: tf.Tensor, size: int, expected: tf.Tensor, which: int) -> tf.Tensor:
            count = tf.math.unsorted_segment_sum(tf.ones_like(squares), index, size)
            error = tf.math.unsorted_segment_sum(squares * expected, index, size)
            return gamma(_WEIGHT_PRIOR + count, (_WEIGHT_PRIOR + error) / 2.0, which)

        error = tf.reduce_sum(squares * of_user * of_movie)
        alpha = gamma(1.0 + len(self._stars), (1.0 + error) / 2.0, 1)
        user_weight = weights(self._user, self.user_weight.shape[0], alpha * of_movie, 4)
        of_user = tf.gather(user_weight, self._user)
        movie_weight = weights(self._movie, self.movie_weight.shape[0], alpha * of_user, 5)
        self.alpha.assign(alpha)
        self.user_weight.assign(user_weight)
        self.movie_weight.assign(movie_weight)
        self.precision.assign(alpha * of_user * tf.gather(movie_weight, self._movie))
        return tf.reduce_mean(squares) / (_DIVERGED * self._variance)

    def expected(self, scores: np.ndarray) -> np.ndarray:
        return scores


class Ordered(Likelihood):
    """P(at most the l-th number of stars) = sigmoid(cut_l - score): stars are an order, and no distances.

    The proportional odds model (McCullagh, Regression Models for Ordinal Data, JRSS B 1980). The L - 1 cuts, of which
    all cells tell, are not drawn but climb: half a step of Newton's each time, by the diagonal of the Hessian.
    """

    def __init__(self, cells: RatingMatrix) -> None:
        """cells: in the order of the scores."""
        super().__init__(name="ordered")
        self._mean = float(cells.stars.mean())
        levels, level, counts = np.unique(cells.stars, return_inverse=True, return_counts=True)
        self._levels, self._level = levels.astype(np.float32), tf.constant(level, tf.int32)
        at_most = np.cumsum(counts)[:-1] / len(cells.stars)
        self.cuts = tf.Variable(np.log(at_most / (1.0 - at_most)), trainable=False, name="cuts", dtype=tf.float32)
        none = tf.zeros(len(cells.stars))
        self._low, self._high = (tf.Variable(none, trainable=False, name=name) for name in ("low", "high"))
        self._curvature = tf.Variable(none + 0.25, trainable=False, name="curvature")
        self._renew_ends()

    def slope(self, scores: tf.Tensor) -> tf.Tensor:
        # p = sigmoid(high - score) - sigmoid(low - score); what follows is - d log p / d score.
        return 1.0 - tf.sigmoid(self._low - scores) - tf.sigmoid(self._high - scores)

    def curvature(self) -> tf.Tensor:
        return self._curvature.read_value()

    def redraw(self, scores: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        below, up_to = tf.sigmoid(self._low - scores), tf.sigmoid(self._high - scores)
        below_slope, up_to_slope = below * (1.0 - below), up_to * (1.0 - up_to)
        probability = tf.maximum(up_to - below, _LEAST_PROBABILITY)
        misfit = -tf.reduce_mean(tf.math.log(probability)) / (_DIVERGED * np.log(max(len(self._levels), 2)))
        self._curvature.assign(below_slope + up_to_slope)

        def of_cuts(upper: tf.Tensor, lower: tf.Tensor) -> tf.Tensor:
            """Sums of something of the cells right below each cut, and of something of those right above it."""
            num = len(self._levels)
            return (
                tf.math.unsorted_segment_sum(upper, self._level, num)[:-1]
                + tf.math.unsorted_segment_sum(lower, self._level, num)[1:]
            )

        up_to_pull, below_pull = up_to_slope / probability, below_slope / probability
        uphill = of_cuts(up_to_pull, -below_pull)
        bend = of_cuts(
            tf.square(up_to_pull) - up_to_pull * (1.0 - 2.0 * up_to),
            tf.square(below_pull) + below_pull * (1.0 - 2.0 * below),
        )
        # Half of it: neighbouring cuts move each other's optimum.
        step = 0.5 * uphill / tf.maximum(bend, 1.0)
        self.cuts.assign_add(tf.clip_by_value(step, -_MAX_CUT_STEP, _MAX_CUT_STEP))
        self._renew_ends()
        return misfit

    def expected(self, scores: np.ndarray) -> np.ndarray:
        rows = max(_CHUNK_CELLS // scores.shape[1], 1)
        chunks = [self._stars(tf.constant(scores[first : first + rows])) for first in range(0, len(scores), rows)]
        return np.concatenate([chunk.numpy() for chunk in chunks])

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)], autograph=False)
    def _stars(self, scores: tf.Tensor) -> tf.Tensor:
        stars = tf.fill(tf.shape(scores), float(self._levels[0]) - self._mean)
        for n, step in enumerate(np.diff(self._levels)):
            stars += float(step) * tf.sigmoid(scores - self.cuts[n])
        return stars

    def _renew_ends(self) -> None:
        """Where each cell's stars begin and end."""
        ends = tf.concat([[-np.inf], self.cuts, [np.inf]], axis=0)
        self._low.assign(tf.gather(ends, self._level))
        self._high.assign(tf.gather(ends, self._level + 1))
