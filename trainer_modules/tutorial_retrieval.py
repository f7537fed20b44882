"""The retrieval family "tutorial": the two-tower of tensorflow-recommenders' tutorials, to compare with.

As in "Recommending movies: retrieval" and the TFX tutorial made of it: an embedding of the user id, an embedding of the
movie title, softmax over the batch (no logQ correction, accidental hits kept, loss summed over the batch), Adagrad.
It reads no history, and a user it does not know has a vector that nothing has trained. Movies of one title are one.
N candidates, B requests, D coordinates.
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
from trainer_modules import hyperparameters
from trainer_modules.epochs import Note
from trainer_modules.hyperparameters import Tutorial
from trainer_modules.inputs import num_indices
from trainer_modules.retrieval_data import RetrievalData
from trainer_modules.towers import Query, Towers
from trainer_modules.training import compiled_step
from trainer_modules.two_tower import RetrievalTask

_LOG = logging.getLogger("movierec")


class TutorialModel(tfrs.Model):
    """Two embeddings and the task."""

    def __init__(self, num_user_indices: int, num_titles: int, size: int) -> None:
        super().__init__()
        # Keras' own start of an Embedding.
        self.user_embedding = tf.Variable(tf.random.uniform([num_user_indices, size], -0.05, 0.05), name="user")
        self.title_embedding = tf.Variable(tf.random.uniform([num_titles, size], -0.05, 0.05), name="title")
        self._task = RetrievalTask()

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The softmax cross-entropy of each row's title among the batch's, summed.

        Args:
          features: user and title, int64 [B].
          training: nothing depends on it.
        """
        user = tf.gather(self.user_embedding, features["user"])
        title = tf.gather(self.title_embedding, features["title"])
        return self._task(user, title, compute_metrics=False)


class UserTower(tf.Module):
    """The query tower: the user's embedding."""

    def __init__(self, user_embedding: tf.Variable) -> None:
        super().__init__(name="user_tower")
        self._user_embedding = user_embedding

    def __call__(self, query: Query, candidate_vectors: tf.Tensor) -> tf.Tensor:
        """As Towers.query_tower says."""
        return tf.gather(self._user_embedding, query.user_index)


def train(data: RetrievalData, values: Mapping[str, Any], seed: int) -> Towers:
    """The family's entry: trains on the fit rows for as many epochs as it is told. Nothing is tuned.

    Args:
      data: of which the fit rows are read.
      values: hyperparameters by field name of Tutorial; the rest by default.
      seed: of every random choice.

    Raises:
      ValueError: an unknown hyperparameter, or no rows.
    """
    p = hyperparameters.parse(Tutorial, values)
    num_rows = len(data.fit.position)
    if not num_rows:
        raise ValueError("There are no rows to train on.")
    tf.keras.utils.set_random_seed(seed)
    titles, title = np.unique(data.catalog.movie_title.astype(bytes), return_inverse=True)
    num_users = num_indices(data.transform_output, f.USER_VOCABULARY)
    model = TutorialModel(num_users, len(titles), p.embedding_dimension)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(p.learning_rate))
    step = compiled_step(model)
    rows = {"user": data.fit.user_index[data.fit.row_user], "title": title[data.fit.position]}
    batches = tf.data.Dataset.from_tensor_slices(rows).shuffle(num_rows, seed=seed).batch(p.batch_size)
    notes: list[Note] = []
    for epoch in range(1, p.num_epochs + 1):
        start_s = time.monotonic()
        loss = float(sum(step(batch)["loss"] for batch in batches)) / num_rows
        notes.append({"phase": "refit", "epoch": epoch, "train_loss": loss})
        _LOG.info(
            "retrieval refit: epoch %d/%d, loss %.3f, %.0f examples/s",
            epoch, p.num_epochs, loss, num_rows / (time.monotonic() - start_s),
        )  # fmt: skip
    return Towers(model.title_embedding.numpy()[title], UserTower(model.user_embedding), epochs=tuple(notes))
