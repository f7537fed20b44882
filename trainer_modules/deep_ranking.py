"""The ranking family "deep": biases and factors, what the user's history says, and the most similar movies in it.

stars = mean + b_u + b_i + p_u . q_i + s sum_j a_ij e_j, where

* b_u, p_u add up what the user id, age, gender and occupation say; b_i, q_i the movie id, genres and year of release;
* p_u also has |H|^-1/2 sum over the history H of w_j (e_j x_j + y_j): the explicit and the implicit half of SVD++
  (Koren, Factorization meets the neighborhood, KDD 2008), e_j = r_j - mean - b_j being how much better than usual the
  user liked movie j, and w_j depending on how long before the newest item j was rated;
* a_ij is a softmax over k_i . k_j + recency_j: attention to the movies of the history that are like the candidate,
  one more place in it standing for none of them.

Ids are dropped at random in training, so the rows of OOV_INDEX are learned: an unknown user is scored from the history
and facts, an unknown movie from genres and year.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer_modules import features as f
from trainer_modules import hyperparameters, inputs, ranking_training
from trainer_modules.listwise import listwise_loss
from trainer_modules.ranking_data import FACTS, RankingData, Rows
from trainer_modules.ranking_scorer import Fitted
from trainer_modules.warm_start import Weights, vocabulary_keys

Tables = Mapping[str, tf.Tensor | tf.Variable]
"""What scoring reads, by name: one row per index of the feature the table is named after."""

_GENRES, _YEAR, _HISTORY = "genres", "year", "history"
_HISTORY_BIAS, _HISTORY_KEY, _EXPLICIT, _IMPLICIT = "history_bias", "history_key", "explicit", "implicit"
_MEAN, _RECENCY, _ATTENTION = "mean", "recency", "attention"
_MOVIE = f.MOVIE_INDEX.name


class Query(NamedTuple):
    """What is known of B users, each with H history rows, D factors and A numbers in a key."""

    bias: tf.Tensor
    """[B, 1], stars."""
    factors: tf.Tensor
    """[B, D]."""
    is_row: tf.Tensor
    """bool [B, H], False where padded."""
    residual: tf.Tensor
    """[B, H], stars above what the movie usually gets; 0 where padded."""
    key: tf.Tensor
    """[B, H, A]."""
    recency: tf.Tensor
    """[B, H], added to the similarity of keys."""


def query_of(tables: Tables, features: Mapping[str, tf.Tensor]) -> Query:
    """Looks up what is known of the users.

    Args:
      tables: from DeepRanking.tables.
      features: those of ranking_data.QUERY: [B] and [B, H].
    """
    user = sum(tf.gather(tables[name], features[name]) for name in (f.USER_INDEX.name, *_names(FACTS)))
    bias, factors = user[:, :1], user[:, 1:]
    movie, age = features[f.HISTORY_MOVIE_INDEX.name], features[f.HISTORY_AGE_BUCKET.name]
    is_row = movie != f.PADDING_INDEX
    usual = tables[_MEAN] + tf.gather(tables[_HISTORY_BIAS], movie)
    residual = tf.where(is_row, features[f.HISTORY_RATING.name] - usual, 0.0)
    log_weight, recency = tf.unstack(tf.gather(tables[_RECENCY], age), axis=-1)
    num_rows = tf.reduce_sum(tf.cast(is_row, tf.float32), axis=1, keepdims=True)
    weight = tf.where(is_row, tf.exp(log_weight), 0.0) * tf.math.rsqrt(1.0 + num_rows)
    factors += tf.einsum("bh,bhd->bd", weight * residual, tf.gather(tables[_EXPLICIT], movie))
    factors += tf.einsum("bh,bhd->bd", weight, tf.gather(tables[_IMPLICIT], movie))
    return Query(bias, factors, is_row, residual, tf.gather(tables[_HISTORY_KEY], movie), recency)


def stars_of(tables: Tables, query: Query, movies: tf.Tensor) -> tf.Tensor:
    """Scores M movies for each of B users.

    Args:
      tables: from DeepRanking.tables.
      query: what is known of the users.
      movies: [B, M, 1 + D + A], each movie's bias, factors and key.

    Returns:
      [B, M], stars, unclipped.
    """
    sizes = [1, query.factors.shape[1], query.key.shape[2]]
    bias, factors, key = tf.split(movies, sizes, axis=2)
    none_of_them, scale = tf.unstack(tables[_ATTENTION])
    similarity = tf.einsum("bma,bha->bmh", key, query.key) + query.recency[:, None, :]
    similarity = tf.where(query.is_row[:, None, :], similarity, -np.inf)
    largest = tf.maximum(tf.reduce_max(similarity, axis=2, keepdims=True), none_of_them)
    weight = tf.exp(similarity - largest)
    total = tf.reduce_sum(weight, axis=2) + tf.exp(none_of_them - largest[:, :, 0])
    neighbours = tf.einsum("bmh,bh->bm", weight, query.residual) / total
    taste = tf.einsum("bmd,bd->bm", factors, query.factors)
    return tables[_MEAN] + query.bias + bias[:, :, 0] + taste + scale * neighbours


class DeepRanking(tfrs.Model):
    """The trainable model: takes the columns of ranking_data.COLUMNS, R rows each."""

    def __init__(self, data: RankingData, rows: Rows, settings: hyperparameters.DeepRanking, seed: int) -> None:
        """Makes an untrained model.

        Args:
          data: gives the tables their sizes and the movies their genres and years.
          rows: those it will be fitted on: their mean, and their number against which the penalties are weighed.
          settings: the family's hyperparameters.
          seed: of the first values and of what is dropped in training.
        """
        super().__init__()
        self._settings, self._data = settings, data
        self._num_rows = len(rows[_MOVIE])
        self._random = tf.random.Generator.from_seed(seed)
        self._genres, self._years = _facts_by_movie_index(data)
        self._mean = tf.Variable(np.mean(rows[f.USER_RATING.name]), trainable=False, dtype=tf.float32, name=_MEAN)
        random = np.random.default_rng(seed)
        d, a = settings.factors, settings.key_size
        user_scale, movie_scale = _columns((0.0, 1), (0.05, d)), _columns((0.0, 1), (0.05, d), (0.1, a))
        user_l2 = _columns((settings.bias_l2, 1), (settings.factor_l2, d))
        movie_l2 = _columns((settings.bias_l2, 1), (settings.factor_l2, d), (settings.key_l2, a))
        self._parameters: dict[str, tf.Variable] = {}
        self._penalties: dict[str, np.ndarray] = {}

        def add(name: str, num_indices: int, scale: np.ndarray, l2: np.ndarray) -> None:
            values = random.normal(0.0, 1.0, (num_indices, len(scale))) * scale
            self._parameters[name] = tf.Variable(values, dtype=tf.float32, name=name)
            self._penalties[name] = l2

        add(f.USER_INDEX.name, data.num_users, user_scale, user_l2)
        add(f.USER_AGE_INDEX.name, f.NUM_USER_AGE_INDICES, 0.0 * user_scale, user_l2)
        add(f.USER_GENDER_INDEX.name, f.NUM_USER_GENDER_INDICES, 0.0 * user_scale, user_l2)
        add(f.USER_OCCUPATION_INDEX.name, data.num_occupations, 0.0 * user_scale, user_l2)
        add(_MOVIE, data.num_movies, movie_scale, movie_l2)
        add(_GENRES, data.catalog.genres.shape[1], movie_scale, movie_l2)
        add(_YEAR, f.NUM_YEAR_INDICES, movie_scale, movie_l2)
        # From zero: what nothing is learned of, OOV_INDEX in a history for one, then adds nothing.
        add(_HISTORY, data.num_movies, np.zeros(2 * d), _columns((settings.history_l2, 2 * d)))
        add(_RECENCY, f.NUM_AGE_BUCKETS, np.zeros(2), np.zeros(2))
        self._parameters[_ATTENTION] = tf.Variable([2.0, 0.5], name=_ATTENTION)
        # Carried-over biases are distances from the mean they were learned with, so that is carried over, too.
        self._anchors = {id(variable): anchor for variable, anchor in data.warm_start.begin(self.named_weights)}
        self._task = tfrs.tasks.Ranking(
            # Of vectors it is their mean already; to reduce it further is refused where several machines train.
            loss=tf.keras.losses.MeanSquaredError(reduction=tf.keras.losses.Reduction.NONE),
            metrics=[tf.keras.metrics.RootMeanSquaredError("rmse")],
            loss_metrics=[tf.keras.metrics.Mean("mean_loss")],
        )
        self.add_loss(self._penalty)

    def named_weights(self) -> Weights:
        """For a warm start: the variables by name, and what the rows of the tables stand for."""
        vocabularies = {
            f.USER_INDEX.name: f.USER_VOCABULARY, f.USER_OCCUPATION_INDEX.name: f.OCCUPATION_VOCABULARY,
            _MOVIE: f.MOVIE_VOCABULARY, _HISTORY: f.MOVIE_VOCABULARY, _GENRES: f.GENRE_VOCABULARY,
        }  # fmt: skip
        output = self._data.transform_output
        keys = {name: vocabulary_keys(output, vocabulary) for name, vocabulary in vocabularies.items()}
        return Weights({**self._parameters, _MEAN: self._mean}, keys)

    def tables(self) -> dict[str, tf.Tensor]:
        """What query_of and stars_of read, from the parameters as they are now."""
        parameters = {name: tf.convert_to_tensor(value) for name, value in self._parameters.items()}
        movies = parameters[_MOVIE] + self._facts_of_movies(self._genres, self._years)
        bias, _, key = tf.split(movies, [1, self._settings.factors, self._settings.key_size], axis=1)
        explicit, implicit = tf.split(parameters[_HISTORY], 2, axis=1)
        of_history = {_HISTORY_BIAS: bias[:, 0], _HISTORY_KEY: key, _EXPLICIT: explicit, _IMPLICIT: implicit}
        return {**parameters, **of_history, _MEAN: tf.convert_to_tensor(self._mean)}

    def movie_vectors(self, movie_index: np.ndarray, genres: np.ndarray, year_index: np.ndarray) -> tf.Tensor:
        """[N], [N, G] and [N] of the catalog -> [N, 1 + D + A]: bias, factors and key."""
        return tf.gather(self._parameters[_MOVIE], movie_index) + self._facts_of_movies(_normalised(genres), year_index)

    def call(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """[R], stars, unclipped."""
        settings, tables = self._settings, self.tables()
        user, movie = features[f.USER_INDEX.name], features[_MOVIE]
        facts = {name: features[name] for name in _names(FACTS)}
        history, movie_id = features[f.HISTORY_MOVIE_INDEX.name], movie
        if training:
            user = self._dropped(user, settings.user_dropout, f.OOV_INDEX)
            movie_id = self._dropped(movie, settings.movie_dropout, f.OOV_INDEX)
            history = self._dropped(history, settings.history_dropout, f.PADDING_INDEX)
            is_kept = self._random.uniform(tf.shape(user)) >= settings.fact_dropout
            facts = {name: tf.where(is_kept, index, f.OOV_INDEX) for name, index in facts.items()}
        seen = {**features, **facts, f.USER_INDEX.name: user, f.HISTORY_MOVIE_INDEX.name: history}
        # A dropped id leaves the movie its genres and year.
        side = tf.gather(self._facts_of_movies(self._genres, self._years), movie)
        movies = side + tf.gather(tables[_MOVIE], movie_id)
        return stars_of(tables, query_of(tables, seen), movies[:, None, :])[:, 0]

    def compute_loss(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Mean squared error in stars; clipped to the rating range, as served, unless training.

        In training the order of each user's rows counts too, where the settings say so.
        """
        stars = self(features, training=training)
        if not training:
            stars = tf.clip_by_value(stars, *self._data.rating_range)
        loss = self._task(labels=features[f.USER_RATING.name], predictions=stars)
        if training and self._settings.loss == hyperparameters.LISTWISE:
            loss += listwise_loss(features[f.USER_INDEX.name], features[f.USER_RATING.name], stars)
        return loss

    def _facts_of_movies(self, genres: tf.Tensor | np.ndarray, year_index: tf.Tensor | np.ndarray) -> tf.Tensor:
        """[N, G], normalised, and [N] -> [N, 1 + D + A]."""
        return tf.matmul(genres, self._parameters[_GENRES]) + tf.gather(self._parameters[_YEAR], year_index)

    def _dropped(self, index: tf.Tensor, rate: float, instead: int) -> tf.Tensor:
        """Replaces whole rows of [R] or [R, H] at random."""
        shape = tf.concat([tf.shape(index)[:1], tf.ones_like(tf.shape(index)[1:])], axis=0)
        return tf.where(self._random.uniform(shape) < rate, tf.constant(instead, index.dtype), index)

    def _penalty(self) -> tf.Tensor:
        costs = []
        for name, l2 in self._penalties.items():
            value = self._parameters[name]
            anchor = self._anchors.get(id(value))
            costs.append(tf.reduce_sum(l2 * tf.square(value if anchor is None else value - anchor)))
        return tf.add_n(costs) / self._num_rows


class DeepScorer(tf.Module):
    """A trained DeepRanking, ready to be served: what it computes for every movie is computed once, here."""

    def __init__(self, model: DeepRanking, catalog: inputs.Catalog) -> None:
        """Takes the values over."""
        super().__init__(name="deep")
        served = set(model.tables()) - {_MOVIE, _GENRES, _YEAR, _HISTORY}
        self._tables = {name: _constant(table, name) for name, table in model.tables().items() if name in served}
        # Behind the last movie stands what is said of a movie that is not in the catalog.
        no_genres = np.zeros((1, catalog.genres.shape[1]), np.float32)
        vectors = model.movie_vectors(
            np.append(catalog.movie_index, f.OOV_INDEX),
            np.concatenate([catalog.genres, no_genres]),
            np.append(catalog.year_index, f.OOV_INDEX),
        )
        self._movies = _constant(vectors, "movies")
        self._num_movies = catalog.num_movies

    def __call__(self, query: Mapping[str, tf.Tensor], position: tf.Tensor) -> tf.Tensor:
        """ranking_scorer.Scorer: [B] and [B, H], int32 [B, M] -> stars [B, M]."""
        row = tf.where(position >= 0, position, self._num_movies)
        return stars_of(self._tables, query_of(self._tables, query), tf.gather(self._movies, row))


def fit(data: RankingData, values: Mapping[str, Any], seed: int) -> Fitted:
    """Finds the number of epochs on eval, then fits a new model on train and eval with it.

    Args:
      data: the rows and the catalog.
      values: of hyperparameters.DeepRanking; those not named keep their defaults.
      seed: the same seed gives the same model on the same machine.

    Raises:
      ValueError: an unknown hyperparameter or loss, or no epoch had a finite eval RMSE.
    """
    settings = hyperparameters.parse(hyperparameters.DeepRanking, values)
    known = (hyperparameters.SQUARED, hyperparameters.LISTWISE)
    if settings.loss not in known:
        raise ValueError(f"DeepRanking.loss is {settings.loss!r}. It must be one of: {', '.join(known)}.")
    model, notes = ranking_training.tune_and_refit(
        lambda rows: DeepRanking(data, rows, settings, seed), data.train, data.tuned_on, data.fit, settings, seed,
        data.on_tuned, whole_users=settings.loss == hyperparameters.LISTWISE,
    )
    data.warm_start.keep(model.named_weights)
    return Fitted(DeepScorer(model, data.catalog), notes)


def _facts_by_movie_index(data: RankingData) -> tuple[np.ndarray, np.ndarray]:
    """float32 [num_movies, G], normalised genres, and int64 [num_movies], year index, of each movie index."""
    genres = np.zeros((data.num_movies, data.catalog.genres.shape[1]), np.float32)
    years = np.full(data.num_movies, f.OOV_INDEX)
    is_known = data.catalog.movie_index >= f.FIRST_INDEX
    index = data.catalog.movie_index[is_known]
    genres[index], years[index] = data.catalog.genres[is_known], data.catalog.year_index[is_known]
    return _normalised(genres), years


def _normalised(genres: np.ndarray) -> np.ndarray:
    """Rows of length 1, so that a movie of many genres is not further from the others than one of few."""
    return genres / np.sqrt(np.maximum(genres.sum(axis=1, keepdims=True), 1.0))


def _columns(*parts: tuple[float, int]) -> np.ndarray:
    """A value and for how many columns it holds, part by part."""
    return np.concatenate([np.full(num_columns, value, np.float32) for value, num_columns in parts])


def _names(features: tuple[f.Feature, ...]) -> list[str]:
    return [feature.name for feature in features]


def _constant(value: tf.Tensor, name: str) -> tf.Variable:
    return tf.Variable(value, trainable=False, name=name)
