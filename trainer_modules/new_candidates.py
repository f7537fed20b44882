"""Vectors of movies that the catalog did not have when the model was trained, from their facts alone.

B new movies, G genre indices, D coordinates.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from trainer_modules import features as f
from trainer_modules.candidate_tower import CandidateTower


class NewCandidates(tf.Module):
    """What a candidate tower makes of a movie without rows: the unknown id's embedding, genres, year, title words."""

    def __init__(self, tower: CandidateTower, unrated: np.ndarray) -> None:
        """Takes a trained tower, and float32 [R], the coordinates that follow the tower's where nobody has rated."""
        super().__init__(name="new_candidates")
        features = tower.features
        self._unrated = tf.Variable(unrated, trainable=False, name="unrated")
        self._unknown = tf.Variable(tower.embedding[f.OOV_INDEX], trainable=False, name="unknown_movie")
        genre, year, word = tf.split(
            tower.side_kernel, [features.num_genres, f.NUM_YEAR_INDICES, len(features.shared_word)]
        )
        self._genre = tf.Variable(genre, trainable=False, name="genre")
        self._year = tf.Variable(year, trainable=False, name="year")
        # The last row is what a word finds that no two movies of the catalog share.
        nothing = tf.zeros([1, word.shape[1]])
        self._word = tf.Variable(tf.concat([word, nothing], axis=0), trainable=False, name="word")
        size = int(features.shared_word.max(initial=0)) + 1
        row = np.full(size + 1, len(features.shared_word))
        row[features.shared_word] = np.arange(len(features.shared_word))
        self._row_of_word = tf.Variable(row, trainable=False, name="row_of_word")

    def __call__(self, genres: tf.Tensor, year_index: tf.Tensor, word_index: tf.RaggedTensor) -> tf.Tensor:
        """Makes vectors.

        Args:
          genres: float32 [B, G], 1 in the column of each genre index that the movie has.
          year_index: int64 [B].
          word_index: ragged int64 [B, None].

        Returns:
          float32 [B, D + R].
        """
        genre = tf.matmul(genres, self._genre)
        genre *= tf.math.rsqrt(tf.maximum(tf.reduce_sum(genres, axis=1, keepdims=True), 1.0))
        last = tf.shape(self._row_of_word, tf.int64)[0] - 1
        row = tf.gather(self._row_of_word, tf.minimum(word_index.values, last))
        is_shared = row < tf.shape(self._word, tf.int64)[0] - 1
        word = word_index.with_values(tf.gather(self._word, row))
        num_words = tf.reduce_sum(word_index.with_values(tf.cast(is_shared, tf.float32)), axis=1)
        words = tf.reduce_sum(word, axis=1) / tf.maximum(num_words, 1.0)[:, None]
        vector = self._unknown + genre + tf.gather(self._year, year_index) + words
        return tf.concat([vector, tf.tile(self._unrated[None], [tf.shape(vector)[0], 1])], axis=1)
