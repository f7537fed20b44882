"""A served index with more movies in it and no training: what the model must carry for that, and how it is read.

Query and candidate towers lie in the SavedModel as functions that no signature names, so that no server is asked them.
A grown model is made of them anew, and always of the one that was trained: the trained movies keep their vectors and
their places, new ones stand behind them. B requests, N candidates of D coordinates, L = HISTORY_LENGTH.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from trainer_modules import contract as c
from trainer_modules import features as f
from trainer_modules.inputs import Catalog
from trainer_modules.snapshot import History
from trainer_modules.towers import Query, Towers

_HISTORY_TYPES = (tf.int32, tf.float32, tf.int64)


def parts(towers: Towers) -> tf.Module:
    """What a model whose index can grow carries: the functions `query` and `new_candidates`.

    Args:
      towers: with new_candidates.
    """
    embed_new = towers.new_candidates
    assert embed_new is not None, "asked of a family whose index cannot grow"
    size = towers.candidate_vectors.shape[1]
    ragged = [tf.RaggedTensorSpec([None, None], dtype, 1, tf.int64) for dtype in _HISTORY_TYPES]
    newest = [tf.TensorSpec([None, f.HISTORY_LENGTH], dtype) for dtype in _HISTORY_TYPES]
    user, age = tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, f.HISTORY_LENGTH], tf.int64)
    facts = tf.TensorSpec([None, len(f.USER_FACT_INDICES)], tf.int64)
    candidates = tf.TensorSpec([None, size], tf.float32)
    carried = tf.Module(name="parts")
    carried.towers = towers.query_tower, embed_new  # what the functions need is saved with them
    num_taste = size if towers.num_taste_coordinates is None else towers.num_taste_coordinates
    carried.num_taste_coordinates = tf.Variable(num_taste, trainable=False)

    @tf.function(input_signature=[user, *ragged, *newest, age, facts, candidates], autograph=False)
    def query(user_index: tf.Tensor, *tensors: tf.Tensor) -> tf.Tensor:
        history, last = History(*tensors[:3]), History(*tensors[3:6])
        return towers.query_tower(Query(user_index, history, last, *tensors[6:8]), tensors[8])

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32),
            tf.TensorSpec([None], tf.int64),
            tf.RaggedTensorSpec([None, None], tf.int64, 1, tf.int64),
        ],
        autograph=False,
    )
    def new_candidates(genres: tf.Tensor, year_index: tf.Tensor, word_index: tf.RaggedTensor) -> tf.Tensor:
        return embed_new(genres, year_index, word_index)

    carried.query, carried.new_candidates = query, new_candidates
    return carried


def grown(trained: Any, catalog: Catalog, num_trained: int) -> Towers:
    """The towers of a trained model over a larger catalog.

    Args:
      trained: the SavedModel as tf.saved_model.load gives it.
      catalog: the trained model's movies, in their places, and new ones behind them.
      num_trained: how many the trained model has.

    Raises:
      ValueError: a model of a family that gives new movies no vector.
    """
    if not hasattr(trained, "parts"):
        raise ValueError("this model's family knows no movie that it was not fitted on")
    words = tf.RaggedTensor.from_row_splits(catalog.word_index, catalog.word_row_splits)
    new = trained.parts.new_candidates(
        catalog.genres[num_trained:], catalog.year_index[num_trained:], words[num_trained:]
    ).numpy()
    return Towers(
        np.concatenate([candidate_vectors(trained, catalog.movie_id[:num_trained]), new]),
        _QueryTower(trained),
        num_taste_coordinates=int(trained.parts.num_taste_coordinates),
    )


def candidate_vectors(model: Any, movie_id: np.ndarray) -> np.ndarray:
    """float32 [N, D] of bytes [N]: the vectors as a loaded model gives them away."""
    embed = model.signatures[c.EMBED_CANDIDATE]
    chunks = (movie_id[start : start + c.MAX_BATCH] for start in range(0, len(movie_id), c.MAX_BATCH))
    return np.concatenate([embed(movie_id=tf.constant(chunk, tf.string))[c.EMBEDDING].numpy() for chunk in chunks])


class _QueryTower(tf.Module):
    """The trained model's, as Towers.query_tower says."""

    def __init__(self, trained: Any) -> None:
        super().__init__(name="query_tower")
        self._parts = trained.parts

    def __call__(self, query: Query, candidate_vectors: tf.Tensor) -> tf.Tensor:
        tensors = (*query.history, *query.newest, *query[3:], tf.convert_to_tensor(candidate_vectors))
        return self._parts.query(query.user_index, *tensors)
