"""Raw features to indices: the Transform module file. The graph it becomes is reused word for word in serving.

Every output depends on as few inputs as it can, so that the graph also applies to parts of an example: to a
catalog row (movie_id, movie_title, movie_genres) or to what a client sends (user_id, history_*).
"""

from __future__ import annotations

import tensorflow as tf
import tensorflow_transform as tft

from trainer_modules import features as f

WORD_FREQUENCY_THRESHOLD = 2
"""Transform sees rows, not the catalog: a word in one title that was rated twice passes. A model that wants the words
which several movies share counts them in the catalog."""

FIRST_YEAR_BIN = 1890
YEARS_PER_BIN = 5
_WEEKDAY_OF_1970 = 3
"""1970 began on a Thursday; Monday is 0."""
_YEAR = r"\((\d{4})(?:[-–]\d{0,4})?\)\s*$"
"""The "(1994)", "(1994-)" or "(1994-1996)" that ends a title."""


def preprocessing_fn(inputs: dict[str, tf.Tensor | tf.SparseTensor]) -> dict[str, tf.Tensor | tf.SparseTensor]:
    """Turns a batch of rating examples into the features that features.py lists under "What Transform makes of them".

    Args:
      inputs: the features of RATING_EXAMPLE by name: dense [B] and [B, HISTORY_LENGTH], SparseTensors for the ones of
        any number of values. Optional user facts may be missing altogether.

    Returns:
      The transformed features by name, and user_rating and history_rating (stars) and timestamp (s) as they came.
    """
    user_id, movie_id = inputs[f.USER_ID.name], inputs[f.MOVIE_ID.name]
    history_movie_id = inputs[f.HISTORY_MOVIE_ID.name]
    timestamp, is_item = inputs[f.TIMESTAMP.name], history_movie_id != ""
    hour_index, weekday_index = hour_and_weekday_index(inputs[f.HISTORY_TIMESTAMP.name], is_item)

    movies = _vocabulary(movie_id, f.MOVIE_VOCABULARY)
    users = _vocabulary(user_id, f.USER_VOCABULARY)
    return {
        f.USER_INDEX.name: _index(user_id, users),
        f.MOVIE_INDEX.name: _index(movie_id, movies),
        f.HISTORY_MOVIE_INDEX.name: _padded_index(history_movie_id, movies),
        f.HISTORY_RATING.name: inputs[f.HISTORY_RATING.name],
        f.HISTORY_AGE_BUCKET.name: age_bucket(inputs[f.HISTORY_TIMESTAMP.name], is_item),
        f.HISTORY_HOUR_INDEX.name: hour_index,
        f.HISTORY_WEEKDAY_INDEX.name: weekday_index,
        f.MOVIE_GENRE_INDEX.name: _genre_index(inputs[f.MOVIE_GENRES.name]),
        f.MOVIE_YEAR_INDEX.name: year_index(inputs[f.MOVIE_TITLE.name]),
        f.MOVIE_WORD_INDEX.name: _word_index(inputs[f.MOVIE_TITLE.name]),
        f.USER_AGE_INDEX.name: _user_age_index(inputs),
        f.USER_GENDER_INDEX.name: _user_gender_index(inputs),
        f.USER_OCCUPATION_INDEX.name: _user_occupation_index(inputs),
        f.TIME_BUCKET.name: tft.bucketize(timestamp, num_buckets=f.NUM_TIME_BUCKETS),
        f.USER_RATING.name: inputs[f.USER_RATING.name],
        f.TIMESTAMP.name: timestamp,
    }


def age_bucket(timestamp: tf.Tensor, is_movie: tf.Tensor) -> tf.Tensor:
    """How long before the newest item of its history each item was rated, on a logarithmic scale.

    Args:
      timestamp: int64 [..., H], seconds since 1970-01-01 UTC.
      is_movie: bool [..., H], False where padded.

    Returns:
      int64 [..., H]: floor(log2(1 + seconds before the newest)), 0 to NUM_AGE_BUCKETS - 1; 0 where padded.
    """
    newest = tf.reduce_max(tf.where(is_movie, timestamp, 0), axis=-1, keepdims=True)
    gap_s = tf.where(is_movie, newest - timestamp, 0)
    # Counting powers of two is exact where a logarithm in floating point is not.
    powers = [2.0**i for i in range(1, f.NUM_AGE_BUCKETS)]
    return tf.cast(tf.raw_ops.Bucketize(input=tf.cast(gap_s + 1, tf.float64), boundaries=powers), tf.int64)


def hour_and_weekday_index(timestamp: tf.Tensor, is_item: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """When the newest item of a history was rated: int64 [B, H] and bool [B, H], as age_bucket's -> int64 [B] each."""
    newest = tf.reduce_max(tf.where(is_item, timestamp, timestamp.dtype.min), axis=1)
    has_any = tf.reduce_any(is_item, axis=1)
    hours = newest // 3600
    weekday = (hours // 24 + _WEEKDAY_OF_1970) % 7
    return (
        tf.where(has_any, f.FIRST_INDEX + hours % 24 // 3, f.OOV_INDEX),
        tf.where(has_any, f.FIRST_INDEX + weekday, f.OOV_INDEX),
    )


def title_words(title: tf.Tensor) -> tf.RaggedTensor:
    """string [B] -> ragged string [B, None]: lower-cased words and numbers of the titles without their years."""
    name = tf.strings.lower(tf.strings.regex_replace(title, _YEAR, ""), encoding="utf-8")
    return tf.strings.split(tf.strings.regex_replace(name, r"[^\p{L}\p{N}]+", " "))


def release_year(title: tf.Tensor) -> tf.Tensor:
    """string [B] -> int64 [B]: the (first) year at the title's end, 0 where there is none."""
    has_year = tf.strings.regex_full_match(title, r"(?s).*" + _YEAR)
    year_text = tf.strings.regex_replace(title, r"(?s).*" + _YEAR, r"\1")
    return tf.strings.to_number(tf.where(has_year, year_text, "0"), tf.int64)


def year_index(title: tf.Tensor) -> tf.Tensor:
    """string [B] -> int64 [B]: bin of the release year, 0-based bins of YEARS_PER_BIN after FIRST_INDEX."""
    year = release_year(title)
    year_bin = tf.clip_by_value((year - FIRST_YEAR_BIN) // YEARS_PER_BIN, 0, f.NUM_YEAR_INDICES - f.FIRST_INDEX - 1)
    return tf.where(year > 0, f.FIRST_INDEX + year_bin, f.OOV_INDEX)


def _vocabulary(tokens: tf.Tensor | tf.SparseTensor, name: str, frequency_threshold: int | None = None) -> tf.Tensor:
    """The tokens by frequency, as tft.vocabulary has them.

    Each weighs 1: TFT then adds up a batch's tokens in the graph, where it would count one by one in Python.
    """
    values = tokens.values if isinstance(tokens, tf.SparseTensor) else tokens
    ones = tf.ones_like(values, tf.float32)
    return tft.vocabulary(values, weights=ones, vocab_filename=name, frequency_threshold=frequency_threshold)


def _index(tokens: tf.Tensor | tf.SparseTensor, vocabulary: tf.Tensor) -> tf.Tensor | tf.SparseTensor:
    """OOV_INDEX for unknown tokens; the vocabulary's entries follow from FIRST_INDEX in order of frequency."""
    index = tft.apply_vocabulary(tokens, vocabulary, default_value=f.OOV_INDEX - f.FIRST_INDEX)
    if isinstance(index, tf.SparseTensor):
        return index.with_values(index.values + f.FIRST_INDEX)
    return index + f.FIRST_INDEX


def _padded_index(tokens: tf.Tensor, vocabulary: tf.Tensor) -> tf.Tensor:
    return tf.where(tokens == "", tf.constant(f.PADDING_INDEX, tf.int64), _index(tokens, vocabulary))


def _genre_index(genres: tf.SparseTensor) -> tf.SparseTensor:
    return _index(genres, _vocabulary(genres, f.GENRE_VOCABULARY))


def _word_index(title: tf.Tensor) -> tf.SparseTensor:
    words = title_words(title)
    vocabulary = _vocabulary(words.values, f.WORD_VOCABULARY, WORD_FREQUENCY_THRESHOLD)
    index = words.with_values(_index(words.values, vocabulary))
    return tf.ragged.boolean_mask(index, index >= f.FIRST_INDEX).to_sparse()


def _first(inputs: dict[str, tf.SparseTensor], feature: f.Feature, missing: float | int | str) -> tf.Tensor:
    """[B]: each example's first value of an optional feature, `missing` where it has none."""
    if feature.name not in inputs:
        return tf.fill(tf.shape(inputs[f.USER_ID.name]), tf.constant(missing, tf.as_dtype(feature.dtype)))
    values = inputs[feature.name]
    # The user id counts the batch: it is never missing where user facts are.
    num_rows = tf.shape(inputs[f.USER_ID.name], tf.int64)[0]
    resized = tf.sparse.SparseTensor(values.indices, values.values, [num_rows, tf.maximum(values.dense_shape[1], 1)])
    return tf.sparse.to_dense(resized, default_value=tf.constant(missing, values.dtype))[:, 0]


def _user_age_index(inputs: dict[str, tf.Tensor | tf.SparseTensor]) -> tf.Tensor:
    unknown = -1.0
    raw_age = _first(inputs, f.RAW_USER_AGE, unknown)
    age = tf.where(raw_age == unknown, _first(inputs, f.BUCKETIZED_USER_AGE, unknown), raw_age)
    group = tf.raw_ops.Bucketize(input=age, boundaries=list(f.AGE_BOUNDARIES))
    return tf.where(age == unknown, tf.constant(f.OOV_INDEX, tf.int64), f.FIRST_INDEX + tf.cast(group, tf.int64))


def _user_gender_index(inputs: dict[str, tf.Tensor | tf.SparseTensor]) -> tf.Tensor:
    gender = _first(inputs, f.USER_GENDER, -1)
    is_known = (gender == 0) | (gender == 1)
    return tf.where(is_known, f.FIRST_INDEX + gender, f.OOV_INDEX)


def _user_occupation_index(inputs: dict[str, tf.Tensor | tf.SparseTensor]) -> tf.Tensor:
    occupation = _first(inputs, f.USER_OCCUPATION_TEXT, "")
    return _index(occupation, _vocabulary(occupation, f.OCCUPATION_VOCABULARY))
