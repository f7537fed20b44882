"""Draws factorisation machines from their posterior: underdamped Langevin steps, Gibbs draws of the precisions.

The model is a flipped SVD++ with side features (Rendle, Zhang, Koren, On the Difficulty of Evaluating Baselines, 2019):

    P_u = U_u + |R_u|^-1/2 sum of Y_j over the movies j that u rated + A side_u
    Q_i = I_i + |R_i|^-1/2 sum of F_v over the users v who rated i + G side_i
    score = p_u + q_i + P_u . Q_i

What a score says of the stars is a likelihood's business (likelihoods.py). There may be several machines, each with a
likelihood of its own, which learn nothing from each other: they take their steps together because most of a step's cost
is the walk over the rows.

U, Y, A, I, F and G are the groups; each has K columns of taste and one that adds up to the bias p_u or q_i. Every
column of a group has a normal prior whose mean and precision are drawn too, as in libFM (Rendle, TIST 2012).

All values move together by the BAOAB splitting of Langevin dynamics (Leimkuhler, Matthews, Rational Construction of
Stochastic Numerical Methods for Molecular Sampling, 2013), each in units of its own posterior width, estimated by the
diagonal of the Hessian while the chain burns in. A step goes through all rows once: the cost is steps x rows x K.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer_modules import hyperparameters
from trainer_modules.likelihoods import Likelihood
from trainer_modules.rating_matrix import RatingMatrix

STEPS_PER_CYCLE = hyperparameters.STEPS_PER_SAMPLE
"""Steps between two draws of the precisions, and between two samples."""
_RAMP_STEPS = 100
_CYCLES_PER_WIDTHS = 2
_WIDE_GROUPS = 20.0
"""Curvature of the groups that act through sums, in terms of its diagonal: their values pull together."""
_FRICTION = 0.97
"""Share of the momentum that a step keeps."""


class Draw(NamedTuple):
    """One state of a machine: a score is the product of a user's row and a movie's."""

    user: tf.Tensor
    """[U, K + 2]: K factors, the bias, 1."""
    movie: tf.Tensor
    """[N, K + 2]: K factors, 1, the bias."""


class Chain(tf.Module):
    """A Markov chain over factorisation machines. Not finite after a cycle: the step size was too large."""

    def __init__(
        self,
        cells: RatingMatrix,
        likelihoods: Sequence[Likelihood],
        factors: int,
        step_size: float,
        implicit: bool,
        seed: int,
        start_stddev: float = 0.1,
    ) -> None:
        """Starts a chain near zero.

        Args:
          cells: those that are known; sorted ones are walked over faster.
          likelihoods: of these cells; one for each machine.
          factors: K.
          step_size: of the dynamics, in posterior widths.
          implicit: whether there are the groups Y and F: what somebody rated tells of taste, whatever the stars.
          seed: of every draw.
          start_stddev: of the values where the chain starts.
        """
        super().__init__(name="chain")
        num_users, num_movies = len(cells.user_side), len(cells.movie_side)
        self._likelihoods = tuple(likelihoods)
        self._factors, self._step_size, self._implicit, self._seed = factors, step_size, implicit, seed
        self._cells = tf.constant(np.stack([cells.user, cells.movie], axis=1), tf.int64)
        self._shape = [num_users, num_movies]
        self._user_side, self._movie_side = tf.constant(cells.user_side), tf.constant(cells.movie_side)

        def root(index: np.ndarray, size: int) -> tf.Tensor:
            counts = np.maximum(np.bincount(index, minlength=size), 1)
            return tf.constant(counts[:, None] ** -0.5, tf.float32)

        self._user_root, self._movie_root = root(cells.user, num_users), root(cells.movie, num_movies)
        # One table for all groups, one below the other, and all machines, side by side: they move together.
        sums = [num_movies, num_users] if implicit else [0, 0]
        self._sizes = [num_users, num_movies, *sums, len(cells.user_side.T), len(cells.movie_side.T)]
        self._group = tf.constant(np.repeat(np.arange(len(self._sizes)), self._sizes), tf.int32)
        num_values, columns = sum(self._sizes), len(self._likelihoods) * (factors + 1)
        self._curvature = [1.0, 1.0] + [_WIDE_GROUPS] * 4
        start = np.random.default_rng(seed).normal(0.0, start_stddev, (num_values, columns))

        def state(value: np.ndarray | float, name: str) -> tf.Variable:
            return tf.Variable(tf.constant(value, tf.float32), trainable=False, name=name)

        self._values = state(start, "values")
        self._momenta = state(np.zeros((num_values, columns)), "momenta")
        self._widths = state(np.zeros((num_values, columns)), "widths")
        self._prior_mean = state(np.zeros((len(self._sizes), columns)), "prior_mean")
        self._prior_precision = state(np.full((len(self._sizes), columns), 10.0), "prior_precision")

    @tf.function(autograph=False)
    def cycle(self, number: tf.Tensor, is_burn_in: tf.Tensor) -> tuple[tf.Tensor, tuple[Draw, ...]]:
        """STEPS_PER_CYCLE steps, then a draw of the precisions.

        Args:
          number: int32 [], of the cycle, from 0.
          is_burn_in: bool [], whether the widths may still change.

        Returns:
          The worst machine's misfit, as Likelihood.redraw tells it, and where each machine is.
        """
        renews = tf.logical_and(is_burn_in, tf.equal(number % _CYCLES_PER_WIDTHS, 0))
        self._widths.assign(tf.cond(renews, self._posterior_widths, lambda: tf.identity(self._widths)))

        def step(i: tf.Tensor, *state: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return (i + 1, *self._step(number * STEPS_PER_CYCLE + i, *state))

        values = self._values.read_value()
        loop = (tf.constant(0), values, self._momenta.read_value(), self._slope(values))
        _, values, momenta, _ = tf.while_loop(lambda i, *_: i < STEPS_PER_CYCLE, step, loop, parallel_iterations=1)
        self._values.assign(values)
        self._momenta.assign(momenta)
        draws = self._draws(values)
        scores = [self._scores(draw) for draw in draws]
        misfits = [likelihood.redraw(of, number) for likelihood, of in zip(self._likelihoods, scores, strict=True)]
        self._draw_priors(values, number)
        return tf.reduce_max(tf.stack(misfits)), draws

    def _step(
        self, number: tf.Tensor, values: tf.Tensor, momenta: tf.Tensor, slope: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """BAOAB: a kick, a drift, a random push, a drift, a kick."""
        h = self._step_size * tf.minimum(1.0, tf.cast(number + 1, tf.float32) / _RAMP_STEPS)
        noise = tf.random.stateless_normal(tf.shape(values), [self._seed, number])
        momenta -= 0.5 * h * slope * self._widths
        values += 0.5 * h * momenta * self._widths
        momenta = _FRICTION * momenta + np.sqrt(1.0 - _FRICTION**2) * noise
        values += 0.5 * h * momenta * self._widths
        slope = self._slope(values)
        momenta -= 0.5 * h * slope * self._widths
        return values, momenta, slope

    def _slope(self, values: tf.Tensor) -> tf.Tensor:
        """The gradient of the negative log posterior."""
        draws = self._draws(values)
        scores = [self._scores(draw) for draw in draws]
        slopes = [likelihood.slope(of) for likelihood, of in zip(self._likelihoods, scores, strict=True)]
        prior = tf.gather(self._prior_precision, self._group) * (values - tf.gather(self._prior_mean, self._group))
        return self._to_values(slopes, draws, 1) + prior

    def _draws(self, values: tf.Tensor) -> tuple[Draw, ...]:
        """Of each machine."""
        k, num = self._factors, len(self._likelihoods)
        ones_u, ones_i = tf.ones([self._shape[0], 1]), tf.ones([self._shape[1], 1])
        users, movies = (tf.split(side, num, axis=1) for side in self._both_sides(values))
        return tuple(
            Draw(tf.concat([user, ones_u], 1), tf.concat([movie[:, :k], ones_i, movie[:, k:]], 1))
            for user, movie in zip(users, movies, strict=True)
        )

    def _scores(self, draw: Draw) -> tf.Tensor:
        """[T]."""
        # All cells at once and then those: that is faster than to gather two rows for each, sparse as they are.
        return tf.gather_nd(tf.matmul(draw.user, draw.movie, transpose_b=True), self._cells)

    def _both_sides(self, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """[U, C] and [N, C]: of each machine K factors and the bias."""
        user, movie, of_rated, of_raters, user_side, movie_side = tf.split(values, self._sizes)
        users, movies = user + tf.matmul(self._user_side, user_side), movie + tf.matmul(self._movie_side, movie_side)
        if self._implicit:
            users += self._user_root * self._summed(of_rated)
            movies += self._movie_root * self._summed(of_raters, adjoint=True)
        return users, movies

    def _to_values(self, of_cells: Sequence[tf.Tensor], draws: Sequence[Draw], power: int) -> tf.Tensor:
        """What something of the machines' cells, [T] each, sums up to for every value.

        Args:
          of_cells: slopes, or curvatures.
          draws: where the machines are.
          power: of what a value is multiplied by in a score: 1 for slopes, 2 for curvatures.
        """
        k, of_users, of_movies = self._factors, [], []
        for of_cell, (user, movie) in zip(of_cells, draws, strict=True):
            sparse = tf.SparseTensor(self._cells, of_cell, self._shape)
            of_users.append(tf.sparse.sparse_dense_matmul(sparse, movie**power)[:, : k + 1])
            of_movie = tf.sparse.sparse_dense_matmul(sparse, user**power, adjoint_a=True)
            of_movies += [of_movie[:, :k], of_movie[:, k + 1 :]]
        return self._spread(tf.concat(of_users, 1), tf.concat(of_movies, 1), power)

    def _spread(self, of_user: tf.Tensor, of_movie: tf.Tensor, power: int) -> tf.Tensor:
        """What _both_sides does, transposed, its coefficients to some power."""
        parts = [of_user, of_movie]
        if self._implicit:
            parts.append(self._summed(self._user_root**power * of_user, adjoint=True))
            parts.append(self._summed(self._movie_root**power * of_movie))
        parts.append(tf.matmul(self._user_side**power, of_user, transpose_a=True))
        parts.append(tf.matmul(self._movie_side**power, of_movie, transpose_a=True))
        return tf.concat(parts, axis=0)

    def _summed(self, values: tf.Tensor, adjoint: bool = False) -> tf.Tensor:
        """Per user, over the movies rated; or per movie, over its raters."""
        ones = tf.SparseTensor(self._cells, tf.ones(len(self._cells)), self._shape)
        return tf.sparse.sparse_dense_matmul(ones, values, adjoint_a=adjoint)

    def _posterior_widths(self) -> tf.Tensor:
        curvatures = [likelihood.curvature() for likelihood in self._likelihoods]
        curvature = self._to_values(curvatures, self._draws(self._values.read_value()), 2)
        scale = tf.gather(tf.constant(self._curvature), self._group)[:, None]
        return tf.math.rsqrt(scale * curvature + tf.gather(self._prior_precision, self._group))

    def _draw_priors(self, values: tf.Tensor, number: tf.Tensor) -> None:
        """Gibbs draws of the groups' means and precisions, given the values."""
        count = tf.constant(np.array(self._sizes)[:, None], tf.float32)
        num_groups = len(self._sizes)
        center = tf.math.unsorted_segment_sum(values, self._group, num_groups) / tf.maximum(count, 1.0)
        deviation = tf.square(values - tf.gather(center, self._group))
        spread = tf.math.unsorted_segment_sum(deviation, self._group, num_groups)
        # A normal-gamma prior worth one value at 0.
        rate = (1.0 + spread + tf.square(center) * count / (count + 1.0)) / 2.0
        shape = tf.broadcast_to((1.0 + count) / 2.0, tf.shape(rate))
        precision = tf.random.stateless_gamma(tf.shape(rate), [self._seed + 2, number], shape) / rate
        noise = tf.random.stateless_normal(tf.shape(rate), [self._seed + 3, number])
        self._prior_precision.assign(precision)
        self._prior_mean.assign(center * count / (count + 1.0) + noise * tf.math.rsqrt(precision * (count + 1.0)))
