"""The retrieval family "autorec": a user's whole state through an autoencoder that predicts stars.

User-AutoRec of Sedhain, Menon, Sanner and Xie, "AutoRec: Autoencoders Meet Collaborative Filtering" (WWW 2015), with
the identity as output function: h(r) = W g(V r + mu) + b, g the logistic function, r the user's stars, 0 where not
rated (equation 1); the loss is the squared error of the observed cells and lambda / 2 (|W|^2 + |V|^2) (equation 2). A
linear output is a dot product: the query is [g(V r + mu), 1], the candidate [W_i, b_i]. N candidates, H hidden units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainer_modules import hyperparameters
from trainer_modules.hyperparameters import AutoRec
from trainer_modules.inputs import UserStates
from trainer_modules.retrieval_data import RetrievalData
from trainer_modules.retrieval_fitting import Epoch, tune_and_refit
from trainer_modules.snapshot import History
from trainer_modules.towers import Query, Towers

_DECODER_STDDEV = 0.01


class Autoencoder(tf.Module):
    """The weights, and the two halves."""

    def __init__(self, num_movies: int, mean_rating: float, p: AutoRec) -> None:
        """Draws the weights anew.

        Args:
          num_movies: N.
          mean_rating: stars; where the output starts.
          p: hyperparameters.
        """
        super().__init__(name="autorec")
        glorot = tf.keras.initializers.GlorotUniform()
        self.encoder = tf.Variable(glorot((num_movies, p.hidden_units)), name="encoder")  # V, transposed
        self.encoder_bias = tf.Variable(tf.zeros([p.hidden_units]), name="encoder_bias")  # mu
        # Near zero: a movie that nobody rated is given the mean.
        decoder = tf.random.normal([num_movies, p.hidden_units], stddev=_DECODER_STDDEV)
        self.decoder = tf.Variable(decoder, name="decoder")  # W
        self.decoder_bias = tf.Variable(tf.fill([num_movies], mean_rating), name="decoder_bias")  # b
        self._regularization = p.regularization

    def hidden(self, history: History) -> tf.Tensor:
        """Ragged rows [B, None] -> g(V r + mu), float32 [B, H]. Of a movie that is there twice the stars add up."""
        stars = history.rating.values[:, None] * tf.gather(self.encoder, history.position.values)
        summed = tf.math.unsorted_segment_sum(stars, history.position.value_rowids(), history.position.nrows())
        return tf.sigmoid(summed + self.encoder_bias)

    def squared_error(self, history: History) -> tf.Tensor:
        """Ragged rows [B, None] -> the sum over the observed cells, squared stars, float32 scalar."""
        user, movie = history.position.value_rowids(), history.position.values
        scores = tf.matmul(self.hidden(history), self.decoder, transpose_b=True) + self.decoder_bias
        observed = tf.gather_nd(scores, tf.stack([user, tf.cast(movie, tf.int64)], axis=1))
        return tf.reduce_sum(tf.square(history.rating.values - observed))

    def penalty(self) -> tf.Tensor:
        """lambda / 2 (|W|^2 + |V|^2), float32 scalar."""
        return self._regularization * (tf.nn.l2_loss(self.decoder) + tf.nn.l2_loss(self.encoder))


class EncodedState(tf.Module):
    """The query tower: [g(V r + mu), 1]."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__(name="encoded_state")
        self._autoencoder = autoencoder

    def __call__(self, query: Query, candidate_vectors: tf.Tensor) -> tf.Tensor:
        """As Towers.query_tower says."""
        hidden = self._autoencoder.hidden(query.history)
        return tf.concat([hidden, tf.ones([tf.shape(hidden)[0], 1])], axis=1)


def train(data: RetrievalData, values: Mapping[str, Any], seed: int) -> Towers:
    """The family's entry: tunes, refits, hands over what is served.

    Args:
      data: all of it.
      values: hyperparameters by field name of AutoRec; the rest by default.
      seed: of every random choice.

    Raises:
      ValueError: an unknown hyperparameter, or a split without rows.
    """
    p = hyperparameters.parse(AutoRec, values)

    def fit(states: UserStates) -> Iterator[Epoch]:
        return _fit(states, data.catalog.num_movies, p, seed)

    return tune_and_refit(fit, data, p.num_epochs, target_of=lambda stars: stars, by_error=True)


def _fit(states: UserStates, num_movies: int, p: AutoRec, seed: int) -> Iterator[Epoch]:
    tf.keras.utils.set_random_seed(seed)
    model = Autoencoder(num_movies, float(states.rating.mean()), p)
    rows = History(
        *(
            tf.RaggedTensor.from_row_splits(values, states.row_splits)
            for values in (states.position, states.rating, states.timestamp)
        )
    )
    users = tf.data.Dataset.range(states.num_users).shuffle(states.num_users, seed=seed).batch(p.batch_size)
    batches = users.map(lambda user: History(*(tf.gather(part, user) for part in rows)))
    num_batches = -(-states.num_users // p.batch_size)
    optimizer = tf.keras.optimizers.Adam(p.learning_rate)
    optimizer.build(model.trainable_variables)

    # One trace for all batches: the last is smaller.
    @tf.function(input_signature=[batches.element_spec], autograph=False)
    def step(batch: History) -> tf.Tensor:
        with tf.GradientTape() as tape:
            squared_error = model.squared_error(batch)
            # The penalty is the whole objective's, a batch but a part of the rows.
            loss = squared_error + model.penalty() / num_batches
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return squared_error

    encoded_state = EncodedState(model)
    while True:
        total = sum(float(step(batch)) for batch in batches)
        candidates = np.concatenate([model.decoder.numpy(), model.decoder_bias.numpy()[:, None]], axis=1)
        towers = Towers(candidates, encoded_state, num_taste_coordinates=p.hidden_units)
        yield Epoch(towers, float(np.sqrt(total / len(states.position))))
