"""The ranking family "deep": biases and factors, what the user's history says, the most similar movies in it, time, and
cross layers over all of these. The formula is deep_scoring's; here its tables are learned.

Ids are dropped at random in training, so the rows of OOV_INDEX are learned: an unknown user is scored from the history
and facts, an unknown movie from genres and year. Whose history is dropped loses the time with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer_modules import deep_scoring as scoring
from trainer_modules import features as f
from trainer_modules import hyperparameters, inputs, ranking_training
from trainer_modules.deep_scoring import ATTENTION, MEAN, RECENCY
from trainer_modules.listwise import listwise_loss
from trainer_modules.ranking_data import FACTS, TIMES, RankingData, Rows
from trainer_modules.ranking_scorer import Fitted
from trainer_modules.warm_start import Weights, vocabulary_keys

_GENRES, _YEAR, _HISTORY = "genres", "year", "history"
_MOVIE = f.MOVIE_INDEX.name


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
        self._mean = tf.Variable(np.mean(rows[f.USER_RATING.name]), trainable=False, dtype=tf.float32, name=MEAN)
        random = np.random.default_rng(seed)
        d, a = settings.factors, settings.key_size
        user_scale, movie_scale = _columns((0.0, 1), (0.05, d)), _columns((0.0, 1), (0.05, d), (0.1, a))
        user_l2 = _columns((settings.bias_l2, 1), (settings.factor_l2, d))
        movie_l2 = _columns((settings.bias_l2, 1), (settings.factor_l2, d), (settings.key_l2, a))
        self._parameters: dict[str, tf.Variable] = {}
        self._penalties: dict[str, np.ndarray] = {}

        def add(name: str, rows: int | tuple[int, ...], scale: np.ndarray, l2: np.ndarray) -> None:
            shape = (*((rows,) if isinstance(rows, int) else rows), len(scale))
            values = random.normal(0.0, 1.0, shape) * scale
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
        add(RECENCY, f.NUM_AGE_BUCKETS, np.zeros(2), np.zeros(2))
        if settings.time:
            add(f.HISTORY_HOUR_INDEX.name, f.NUM_HOUR_INDICES, 0.0 * user_scale, user_l2)
            add(f.HISTORY_WEEKDAY_INDEX.name, f.NUM_WEEKDAY_INDICES, 0.0 * user_scale, user_l2)
        if num_layers := settings.cross_layers:
            width, rank, l2 = 2 * d + 3, settings.cross_rank, settings.cross_l2
            add(scoring.CROSS_IN, (num_layers, width), _columns((width**-0.5, rank)), _columns((l2, rank)))
            add(scoring.CROSS_OUT, (num_layers, rank), _columns((rank**-0.5, width)), _columns((l2, width)))
            add(scoring.CROSS_BIAS, (num_layers, 1), np.zeros(width), np.zeros(width))
            # From zero, so that training begins without them.
            add(scoring.CROSS_SCORE, width, np.zeros(1), _columns((l2, 1)))
        self._parameters[ATTENTION] = tf.Variable([2.0, 0.5], name=ATTENTION)
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
        return Weights({**self._parameters, MEAN: self._mean}, keys)

    def tables(self) -> dict[str, tf.Tensor]:
        """What query_of and stars_of read, from the parameters as they are now."""
        parameters = {name: tf.convert_to_tensor(value) for name, value in self._parameters.items()}
        movies = parameters[_MOVIE] + self._facts_of_movies(self._genres, self._years)
        bias, _, key = tf.split(movies, [1, self._settings.factors, self._settings.key_size], axis=1)
        explicit, implicit = tf.split(parameters[_HISTORY], 2, axis=1)
        of_history = {
            scoring.HISTORY_BIAS: bias[:, 0], scoring.HISTORY_KEY: key, scoring.EXPLICIT: explicit,
            scoring.IMPLICIT: implicit,
        }  # fmt: skip
        return {**parameters, **of_history, MEAN: tf.convert_to_tensor(self._mean)}

    def movie_vectors(self, movie_index: np.ndarray, genres: np.ndarray, year_index: np.ndarray) -> tf.Tensor:
        """[N], [N, G] and [N] of the catalog -> [N, 1 + D + A]: bias, factors and key."""
        return tf.gather(self._parameters[_MOVIE], movie_index) + self._facts_of_movies(_normalised(genres), year_index)

    def call(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """[R], stars, unclipped."""
        settings, tables = self._settings, self.tables()
        user, movie = features[f.USER_INDEX.name], features[_MOVIE]
        facts = {name: features[name] for name in _names(FACTS)}
        times = {name: features[name] for name in _names(TIMES)}
        history, movie_id = features[f.HISTORY_MOVIE_INDEX.name], movie
        if training:
            user = self._dropped(user, settings.user_dropout, f.OOV_INDEX)
            movie_id = self._dropped(movie, settings.movie_dropout, f.OOV_INDEX)
            has_history = self._random.uniform(tf.shape(user)) >= settings.history_dropout
            history = tf.where(has_history[:, None], history, f.PADDING_INDEX)
            times = {name: tf.where(has_history, index, f.OOV_INDEX) for name, index in times.items()}
            is_kept = self._random.uniform(tf.shape(user)) >= settings.fact_dropout
            facts = {name: tf.where(is_kept, index, f.OOV_INDEX) for name, index in facts.items()}
        seen = {**features, **facts, **times, f.USER_INDEX.name: user, f.HISTORY_MOVIE_INDEX.name: history}
        # A dropped id leaves the movie its genres and year.
        side = tf.gather(self._facts_of_movies(self._genres, self._years), movie)
        movies = side + tf.gather(tables[_MOVIE], movie_id)
        return scoring.stars_of(tables, scoring.query_of(tables, seen), movies[:, None, :])[:, 0]

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
        """Replaces a share of [R] at random."""
        return tf.where(self._random.uniform(tf.shape(index)) < rate, tf.constant(instead, index.dtype), index)

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
        movies = tf.gather(self._movies, row)
        return scoring.stars_of(self._tables, scoring.query_of(self._tables, query), movies)


def fit(data: RankingData, values: Mapping[str, Any], seed: int) -> Fitted:
    """Finds the number of epochs on eval, then fits a new model on train and eval with it.

    Args:
      data: the rows and the catalog.
      values: of hyperparameters.DeepRanking; those not named keep their defaults.
      seed: the same seed gives the same model on the same machine.

    Raises:
      ValueError: an unknown hyperparameter or a value it cannot take, or no epoch had a finite eval RMSE.
    """
    settings = hyperparameters.parse(hyperparameters.DeepRanking, values)
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
