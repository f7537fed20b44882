"""The candidate tower of the family "two_tower": a movie's id and facts -> its vector.

D coordinates, N candidates.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from trainer_modules import features as f
from trainer_modules.hyperparameters import TwoTower
from trainer_modules.inputs import Catalog

_EMBEDDING_STDDEV = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class CandidateFeatures:
    """What the candidate tower knows of each of N movies."""

    movie_index: np.ndarray
    """int64 [N]: OOV_INDEX for a movie without rows to learn its embedding from."""
    side: tf.SparseTensor
    """float32 [N, S]: genres, release years, title words; each kind scaled so that many do not outweigh one."""
    num_genres: int
    """The first columns of `side`; f.NUM_YEAR_INDICES for the years follow."""
    shared_word: np.ndarray
    """int64 [S - the columns before]: word index of each further column."""

    @classmethod
    def of(cls, catalog: Catalog, has_embedding: np.ndarray) -> CandidateFeatures:
        """Reads them off the catalog. has_embedding: bool [N], whether a movie has training rows, or had."""
        movies = np.arange(catalog.num_movies)
        genre_movie, genre = np.nonzero(catalog.genres)
        num_genres = np.maximum(catalog.genres.sum(axis=1), 1.0)
        # A word in one title alone would be a second id.
        word_movie = np.repeat(movies, np.diff(catalog.word_row_splits))
        is_shared = np.bincount(catalog.word_index)[catalog.word_index] >= 2
        word_movie, word = word_movie[is_shared], catalog.word_index[is_shared]
        num_words = np.maximum(np.bincount(word_movie, minlength=catalog.num_movies), 1)
        shared_word, word = np.unique(word, return_inverse=True)

        first_year = catalog.genres.shape[1]
        first_word = first_year + f.NUM_YEAR_INDICES
        row = np.concatenate([genre_movie, movies, word_movie])
        column = np.concatenate([genre, first_year + catalog.year_index, first_word + word])
        value = np.concatenate(
            [num_genres[genre_movie] ** -0.5, np.ones(catalog.num_movies), 1.0 / num_words[word_movie]]
        )
        num_columns = first_word + len(shared_word)
        side = tf.sparse.reorder(
            tf.SparseTensor(np.stack([row, column], axis=1), value.astype(np.float32), [len(movies), num_columns])
        )
        index = np.where(has_embedding, catalog.movie_index, f.OOV_INDEX)
        return cls(movie_index=index, side=side, num_genres=first_year, shared_word=shared_word)


class CandidateTower(tf.Module):
    """Movie -> vector: an embedding of its id plus what its genres, year and title words add."""

    def __init__(self, features: CandidateFeatures, num_movie_indices: int, hyperparameters: TwoTower) -> None:
        super().__init__(name="candidate_tower")
        self.features = features
        self._id_dropout = hyperparameters.movie_id_dropout
        self.embedding = _embedding(num_movie_indices, hyperparameters, "movie_embedding")
        self.side_kernel = _embedding(features.side.shape[1], hyperparameters, "side_kernel")

    def vectors(self, training: bool = False) -> tf.Tensor:
        """float32 [N, D], in catalog order."""
        index = tf.constant(self.features.movie_index)
        if training:
            is_dropped = tf.random.uniform(tf.shape(index)) < self._id_dropout
            index = tf.where(is_dropped, tf.constant(f.OOV_INDEX, tf.int64), index)
        return tf.gather(self.embedding, index) + tf.sparse.sparse_dense_matmul(self.features.side, self.side_kernel)


def _embedding(num_rows: int, hyperparameters: TwoTower, name: str) -> tf.Variable:
    start = tf.random.normal([num_rows, hyperparameters.embedding_dimension], stddev=_EMBEDDING_STDDEV)
    return tf.Variable(start, name=name)
