"""The ranking family "autorec": a movie's column of ratings through an autoencoder that predicts stars.

Item-AutoRec of Sedhain, Menon, Sanner and Xie, "AutoRec: Autoencoders Meet Collaborative Filtering" (WWW 2015), the
better one of the paper's two: h(r) = W g(V r + mu) + b, g the logistic function, r the movie's stars, 0 where it was
not rated. The objective is half the squared error of the observed cells, and of them alone, and
regularization / 2 (|W|^2 + |V|^2). U users, N movies, T cells, H hidden units.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainer_modules import bias_ranking, hyperparameters, rating_matrix
from trainer_modules.low_rank import LowRankScorer, check_size, truncated
from trainer_modules.ranking_data import RankingData
from trainer_modules.ranking_scorer import Fitted
from trainer_modules.ranking_watch import Watch, predict_from
from trainer_modules.rating_matrix import RatingMatrix

_LOG = logging.getLogger("movierec.ranking")

_MOVIES_PER_STEP = 4096
_EPOCHS_PER_LOOK = 5
_CONSTANT_SHARE = 0.7
"""Of the epochs, before the learning rate falls to zero along a cosine."""


class ItemAutoencoder(tf.Module):
    """The weights and the objective."""

    def __init__(
        self, num_users: int, mean: float, p: hyperparameters.ItemAutoRec, seed: int, added: float = 0.0
    ) -> None:
        """Draws the weights.

        Args:
          num_users: U.
          mean: stars, where the output starts.
          p: the hyperparameters.
          seed: of the weights.
          added: to the cells' stars, so that all are above the 0 of what was not rated.
        """
        super().__init__(name="item_autorec")
        self._added = added
        random = np.random.default_rng(seed)
        limit = math.sqrt(6.0 / (num_users + p.hidden_units))  # Glorot's

        def weights(name: str, *shape: int) -> tf.Variable:
            return tf.Variable(tf.constant(random.uniform(-limit, limit, shape), tf.float32), name=name)

        self.encoder = weights("encoder", num_users, p.hidden_units)  # V, transposed
        self.decoder = weights("decoder", p.hidden_units, num_users)  # W, transposed
        self.hidden_bias = tf.Variable(tf.zeros([p.hidden_units]), name="hidden_bias")  # mu
        self.bias = tf.Variable(tf.fill([num_users], tf.constant(mean, tf.float32)), name="bias")  # b
        self._regularization = p.regularization
        self._compiled = tf.function(self.__call__, autograph=False)

    def __call__(self, stars: tf.Tensor) -> tf.Tensor:
        """[M, U], 0 where not rated -> [M, U], what every user would give."""
        return tf.matmul(tf.sigmoid(tf.matmul(stars, self.encoder) + self.hidden_bias), self.decoder) + self.bias

    def squared_error(self, stars: tf.Tensor) -> tf.Tensor:
        """[M, U] -> [], over the observed cells: a zero says nothing about stars."""
        return tf.reduce_sum(tf.square(tf.where(stars > 0.0, self(stars) - stars, 0.0)))

    def filled_in(self, cells: RatingMatrix) -> np.ndarray:
        """float32 [U, N], stars: what every user would give every movie."""
        cells = cells._replace(stars=cells.stars + np.float32(self._added))
        movies = np.arange(len(cells.movie_side))
        parts = np.array_split(movies, -(-len(movies) // _MOVIES_PER_STEP))
        filled = np.concatenate([self._compiled(tf.constant(columns(cells, part))).numpy() for part in parts])
        return filled.T - np.float32(self._added)

    def penalty(self) -> tf.Tensor:
        """[], the objective's second half."""
        return self._regularization * (tf.nn.l2_loss(self.encoder) + tf.nn.l2_loss(self.decoder))


def epochs(cells: RatingMatrix, p: hyperparameters.ItemAutoRec, seed: int) -> Iterator[ItemAutoencoder]:
    """Trains; gives the model, the same object, after each of num_epochs epochs."""
    num_users, num_movies = len(cells.user_side), len(cells.movie_side)
    # Editions give half a star at least; data of one's own may hold less.
    lowest = float(cells.stars.min())
    added = 1.0 - lowest if lowest <= 0.0 else 0.0
    cells = cells._replace(stars=cells.stars + np.float32(added))
    model = ItemAutoencoder(num_users, float(cells.stars.mean(dtype=np.float64)), p, seed, added)
    variables = model.trainable_variables
    rate = tf.Variable(p.learning_rate, trainable=False)
    optimizer = tf.keras.optimizers.Adam(rate)
    optimizer.build(variables)
    num_steps = -(-num_movies // _MOVIES_PER_STEP)

    # One trace for all batches: the last may be smaller.
    @tf.function(input_signature=[tf.TensorSpec([None, num_users], tf.float32)], autograph=False)
    def step(stars: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            # The penalty is the whole objective's, a batch but a part of the rows.
            loss = 0.5 * model.squared_error(stars) + model.penalty() / num_steps
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    order = np.random.default_rng(seed)
    for epoch in range(p.num_epochs):
        left = (p.num_epochs - epoch) / (p.num_epochs * (1.0 - _CONSTANT_SHARE))
        optimizer.learning_rate.assign(p.learning_rate * 0.5 * (1.0 - math.cos(math.pi * min(left, 1.0))))
        movies = order.permutation(num_movies) if num_steps > 1 else np.arange(num_movies)
        for batch in np.array_split(movies, num_steps):
            step(tf.constant(columns(cells, batch)))
        yield model


def columns(cells: RatingMatrix, movies: np.ndarray) -> np.ndarray:
    """float32 [M, U]: the stars of some movies, 0 where not rated."""
    place = np.full(len(cells.movie_side), -1)
    place[movies] = np.arange(len(movies))
    row = place[cells.movie]
    stars = np.zeros((len(movies), len(cells.user_side)), np.float32)
    stars[row[row >= 0], cells.user[row >= 0]] = cells.stars[row >= 0]
    return stars


def fit(data: RankingData, values: Mapping[str, Any], seed: int) -> Fitted:
    """Finds the number of epochs on eval, then fits a new model on train and eval with it.

    Unknown users and movies get what biases with side features say.

    Args:
      data: the rows and the catalog.
      values: of hyperparameters.ItemAutoRec; those not named keep their defaults.
      seed: the same seed gives the same model on the same machine.

    Raises:
      ValueError: more rows or cells than this family can take.
    """
    p = hyperparameters.parse(hyperparameters.ItemAutoRec, values)
    train, fit_cells = rating_matrix.of_rows(data.train, data), rating_matrix.of_rows(data.fit, data)
    num_users, num_movies = len(train.user_side), len(train.movie_side)
    check_size(len(fit_cells.stars), num_users, num_movies, "autorec")
    tuning = Watch(p.num_epochs, train, rating_matrix.of_rows(data.tuned_on, data), data.rating_range)
    by_bias = bias_ranking.filled(train)
    # What is looked at is what would be served: of users and movies without train rows biases speak.
    errors = {
        number: tuning(number, bias_ranking.filled_around(train, model.filled_in(train), 0.0, by_bias).of)
        for number, model in enumerate(epochs(train, p, seed), start=1)
        if number % _EPOCHS_PER_LOOK == 0 or number == p.num_epochs
    }
    best = min(errors, key=lambda number: errors[number])
    _LOG.info("ranking: best eval RMSE %.4f after %d epochs; fitting anew on train + eval", errors[best], best)
    data.on_tuned(errors[best])
    refit = Watch(best, fit_cells, None, data.rating_range)
    for number, model in enumerate(epochs(fit_cells, p, seed), start=1):
        if number % _EPOCHS_PER_LOOK == 0 or number == best:
            refit(number, predict_from(model.filled_in(fit_cells)))
        if number == best:
            break
    filled = bias_ranking.filled_around(fit_cells, model.filled_in(fit_cells), errors[best] ** 2)
    low_rank = truncated(filled, num_users, num_movies, p.rank, seed)
    return Fitted(LowRankScorer(low_rank, data), (*tuning.notes, *refit.notes))
