"""Every feature's name, type and shape, written once. Standard library only.

Three kinds of tf.Example leave the ExampleGen:

* a **rating** example, one per rating, with what was known of the user before it;
* a **catalog** example, one per movie;
* a **user state** example, one per user and split, with every row the user has in that split.

Transform turns the strings and numbers of the first into indices; the names of its outputs end the file.
"""

from __future__ import annotations

import dataclasses

# Splits of the rating examples and of the user state. The catalog has one split, ALL.
TRAIN = "train"
EVAL = "eval"
TEST = "test"
SPLITS = (TRAIN, EVAL, TEST)
FIT_SPLITS = (TRAIN, EVAL)  # what the pushed model is fitted on
ALL = "all"

HISTORY_LENGTH = 50
"""Movies in a rating example's history: the newest that many, oldest first, padded on the left."""


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a tf.Example."""

    name: str
    dtype: str
    """"string", "int64" or "float32": TensorFlow's names."""
    shape: tuple[int, ...] | None = ()
    """() one value, (n,) exactly n values, None any number of values, zero included."""
    optional: bool = False
    """True: some editions or rows do not have it, and then it is absent, never invented."""


USER_ID = Feature("user_id", "string")
MOVIE_ID = Feature("movie_id", "string")
MOVIE_TITLE = Feature("movie_title", "string")
MOVIE_GENRES = Feature("movie_genres", "string", shape=None)
USER_RATING = Feature("user_rating", "float32")
"""Stars."""
TIMESTAMP = Feature("timestamp", "int64")
"""Seconds since 1970-01-01 UTC."""
SOURCE_LINE = Feature("source_line", "int64")
"""Line of the ratings file the row stood on, from 1: breaks ties of equal timestamps."""

# What an edition may know of its users, with the names TFDS gives them.
RAW_USER_AGE = Feature("raw_user_age", "float32", shape=None, optional=True)
"""Years."""
BUCKETIZED_USER_AGE = Feature("bucketized_user_age", "float32", shape=None, optional=True)
"""The lower end of ml-1m's age groups: 1, 18, 25, 35, 45, 50 or 56."""
USER_GENDER = Feature("user_gender", "int64", shape=None, optional=True)
"""1 male, 0 female, as TFDS has it."""
USER_OCCUPATION_LABEL = Feature("user_occupation_label", "int64", shape=None, optional=True)
"""ml-1m's code, 0 to 21."""
USER_OCCUPATION_TEXT = Feature("user_occupation_text", "string", shape=None, optional=True)
USER_ZIP_CODE = Feature("user_zip_code", "string", shape=None, optional=True)

HISTORY_MOVIE_ID = Feature("history_movie_id", "string", shape=(HISTORY_LENGTH,))
""""" where padded."""
HISTORY_RATING = Feature("history_rating", "float32", shape=(HISTORY_LENGTH,))
"""Stars; 0 where padded."""
HISTORY_TIMESTAMP = Feature("history_timestamp", "int64", shape=(HISTORY_LENGTH,))
"""Seconds since 1970-01-01 UTC; 0 where padded."""

STATE_MOVIE_ID = Feature("state_movie_id", "string", shape=None)
STATE_RATING = Feature("state_rating", "float32", shape=None)
STATE_TIMESTAMP = Feature("state_timestamp", "int64", shape=None)

USER_FACTS = (
    RAW_USER_AGE,
    BUCKETIZED_USER_AGE,
    USER_GENDER,
    USER_OCCUPATION_LABEL,
    USER_OCCUPATION_TEXT,
    USER_ZIP_CODE,
)
MOVIE_FACTS = (MOVIE_ID, MOVIE_TITLE, MOVIE_GENRES)
HISTORY = (HISTORY_MOVIE_ID, HISTORY_RATING, HISTORY_TIMESTAMP)
STATE = (STATE_MOVIE_ID, STATE_RATING, STATE_TIMESTAMP)

RATING_EXAMPLE = (USER_ID, *MOVIE_FACTS, USER_RATING, TIMESTAMP, *USER_FACTS, SOURCE_LINE, *HISTORY)
CATALOG_EXAMPLE = MOVIE_FACTS
USER_STATE_EXAMPLE = (USER_ID, *USER_FACTS, *STATE)
"""State lists are oldest first, uncapped; the splits' lists put one after the other are the user's whole past.

A user with facts but no ratings has one example, in the train split, with empty lists."""

# ---- What Transform makes of them -------------------------------------------------------------------
PADDING_INDEX = 0
OOV_INDEX = 1
"""Every vocabulary's bucket for what the fit rows never showed."""
FIRST_INDEX = 2
"""Index of a vocabulary's first known entry; the last is FIRST_INDEX + size - 1."""

USER_INDEX = Feature("user_index", "int64")
MOVIE_INDEX = Feature("movie_index", "int64")
HISTORY_MOVIE_INDEX = Feature("history_movie_index", "int64", shape=(HISTORY_LENGTH,))
HISTORY_AGE_BUCKET = Feature("history_age_bucket", "int64", shape=(HISTORY_LENGTH,))
"""floor(log2(1 + seconds before the newest history item)), 0 to NUM_AGE_BUCKETS - 1; 0 where padded."""
NUM_AGE_BUCKETS = 32
HISTORY_HOUR_INDEX = Feature("history_hour_index", "int64")
"""When the newest history item was rated: FIRST_INDEX + the three hours of the day, UTC; OOV_INDEX: no history."""
NUM_HOUR_INDICES = FIRST_INDEX + 8
HISTORY_WEEKDAY_INDEX = Feature("history_weekday_index", "int64")
"""The same of the day of the week, from FIRST_INDEX: Monday, UTC."""
NUM_WEEKDAY_INDICES = FIRST_INDEX + 7
MOVIE_GENRE_INDEX = Feature("movie_genre_index", "int64", shape=None)
MOVIE_YEAR_INDEX = Feature("movie_year_index", "int64")
"""Release years in bins of five, from the "(1994)" at a title's end; OOV_INDEX where there is none."""
NUM_YEAR_INDICES = FIRST_INDEX + 28
MOVIE_WORD_INDEX = Feature("movie_word_index", "int64", shape=None)
"""Words of the title, the year left out, that the fit rows' titles hold at least twice (other words are dropped)."""
USER_AGE_INDEX = Feature("user_age_index", "int64")
"""OOV_INDEX: age unknown; else FIRST_INDEX + number of AGE_BOUNDARIES at or below the age."""
AGE_BOUNDARIES = (18.0, 25.0, 35.0, 45.0, 50.0, 56.0)
NUM_USER_AGE_INDICES = FIRST_INDEX + len(AGE_BOUNDARIES) + 1
USER_GENDER_INDEX = Feature("user_gender_index", "int64")
"""OOV_INDEX: unknown; FIRST_INDEX: female; FIRST_INDEX + 1: male."""
NUM_USER_GENDER_INDICES = FIRST_INDEX + 2
USER_OCCUPATION_INDEX = Feature("user_occupation_index", "int64")
TIME_BUCKET = Feature("time_bucket", "int64")
"""Quantile of the timestamp among the fit rows, 0 to NUM_TIME_BUCKETS - 1."""
NUM_TIME_BUCKETS = 16

USER_VOCABULARY = "user_id"
MOVIE_VOCABULARY = "movie_id"
GENRE_VOCABULARY = "movie_genres"
WORD_VOCABULARY = "movie_title_words"
OCCUPATION_VOCABULARY = "user_occupation_text"
"""Names of the vocabulary files in the transform graph."""
