"""The ranking family "tutorial": the model of TensorFlow Recommenders' ranking tutorial, to compare with.

User ids and movie titles have embeddings of 32 numbers; both, one after the other, go through dense layers of 256 and
of 64 rectified units and of a linear one. Adagrad with rate .1, batches of 8192 rows, 3 epochs, and no tuning at all.
An unknown id has the embedding that it began with: it is never trained.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer_modules import features as f
from trainer_modules import hyperparameters, ranking_training
from trainer_modules.epochs import Note
from trainer_modules.ranking_data import RankingData, Rows
from trainer_modules.ranking_scorer import Fitted
from trainer_modules.training import compiled_step

_LOG = logging.getLogger("movierec.ranking")

_MOVIE = f.MOVIE_INDEX.name


class TutorialRanking(tfrs.Model):
    """Takes the columns of ranking_data.COLUMNS, R rows each."""

    def __init__(self, data: RankingData, p: hyperparameters.TutorialRanking, seed: int) -> None:
        """Makes an untrained model; data: gives the tables their sizes and the movies their titles."""
        super().__init__()
        titles, of_position = np.unique(data.catalog.movie_title.astype(bytes), return_inverse=True)
        known = data.catalog.movie_index >= f.FIRST_INDEX
        # By movie index; row 0 of the titles stands for what is not in the catalog.
        title = np.zeros(data.num_movies, np.int64)
        title[data.catalog.movie_index[known]] = 1 + of_position[known]
        self._title = tf.constant(title)
        self.title_of_position = tf.constant(np.append(1 + of_position, 0))
        self._range = data.rating_range
        tf.keras.utils.set_random_seed(seed)
        self.users = tf.keras.layers.Embedding(data.num_users, p.embedding_dimension)
        self.titles = tf.keras.layers.Embedding(1 + len(titles), p.embedding_dimension)
        self.ratings = tf.keras.Sequential([
            tf.keras.layers.Dense(256, activation="relu"),
            tf.keras.layers.Dense(64, activation="relu"),
            tf.keras.layers.Dense(1),
        ])
        self._task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.MeanSquaredError(), metrics=[tf.keras.metrics.RootMeanSquaredError("rmse")]
        )

    def call(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """[R], stars, unclipped."""
        title = tf.gather(self._title, features[_MOVIE])
        both = tf.concat([self.users(features[f.USER_INDEX.name]), self.titles(title)], axis=1)
        return self.ratings(both)[:, 0]

    def compute_loss(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Mean squared error in stars; clipped to the rating range, as served, unless training."""
        stars = self(features)
        if not training:
            stars = tf.clip_by_value(stars, *self._range)
        return self._task(labels=features[f.USER_RATING.name], predictions=stars)


class TutorialScorer(tf.Module):
    """A trained TutorialRanking, ready to be served."""

    def __init__(self, model: TutorialRanking) -> None:
        """Takes the values over."""
        super().__init__(name="tutorial")
        self._users = tf.Variable(model.users.embeddings, trainable=False)
        titles = tf.gather(model.titles.embeddings, model.title_of_position)
        self._movies = tf.Variable(titles, trainable=False)  # by catalog position; the last is no movie of it
        self._layers = [
            (tf.Variable(layer.kernel, trainable=False), tf.Variable(layer.bias, trainable=False))
            for layer in model.ratings.layers
        ]

    def __call__(self, query: Mapping[str, tf.Tensor], position: tf.Tensor) -> tf.Tensor:
        """ranking_scorer.Scorer: [B] and [B, H], int32 [B, M] -> stars [B, M]."""
        row = tf.where(position >= 0, position, tf.shape(self._movies)[0] - 1)
        movies = tf.gather(self._movies, row)
        users = tf.gather(self._users, query[f.USER_INDEX.name])[:, None, :]
        values = tf.concat([tf.broadcast_to(users, tf.shape(movies)), movies], axis=2)
        *hidden, (kernel, bias) = self._layers
        for weights, offsets in hidden:
            values = tf.nn.relu(tf.einsum("bmi,io->bmo", values, weights) + offsets)
        return (tf.einsum("bmi,io->bmo", values, kernel) + bias)[:, :, 0]


def fit(data: RankingData, values: Mapping[str, Any], seed: int) -> Fitted:
    """Trains on train, to see the error on eval, then a new model on both.

    Args:
      data: the rows and the catalog.
      values: of hyperparameters.TutorialRanking; those not named keep their defaults.
      seed: the same seed gives the same model on the same machine.
    """
    p = hyperparameters.parse(hyperparameters.TutorialRanking, values)
    notes: list[Note] = []
    _train(data, data.train, data.tuned_on, p, seed, notes)
    data.on_tuned(float(notes[-1]["eval_rmse"]))
    return Fitted(TutorialScorer(_train(data, data.fit, None, p, seed, notes)), tuple(notes))


def _train(
    data: RankingData, rows: Rows, held_out: Rows | None, p: hyperparameters.TutorialRanking, seed: int,
    notes: list[Note],
) -> TutorialRanking:  # fmt: skip
    model = TutorialRanking(data, p, seed)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(p.learning_rate))
    batches = ranking_training.batches(rows, p.batch_size, seed)
    step = compiled_step(model, batches)
    judge = tf.function(model.test_step, autograph=False)
    judged = [] if held_out is None else list(ranking_training.batches(held_out, p.batch_size))
    for number in range(1, p.num_epochs + 1):
        start_s = time.perf_counter()
        model.reset_metrics()
        for batch in batches:
            seen = step(batch)
        note: Note = {"phase": "refit" if held_out is None else "tuning", "epoch": number}
        note["train_rmse"] = float(seen["rmse"])
        rows_per_s = len(rows[_MOVIE]) / (time.perf_counter() - start_s)
        told = ""
        if judged:
            model.reset_metrics()
            for batch in judged:
                note["eval_rmse"] = float(judge(batch)["rmse"])
            told = f", eval RMSE {note['eval_rmse']:.4f}"
        notes.append(note)
        _LOG.info(
            "ranking %s: epoch %d/%d, train RMSE %.4f%s, %.0f examples/s",
            note["phase"], number, p.num_epochs, note["train_rmse"], told, rows_per_s,
        )  # fmt: skip
    return model
