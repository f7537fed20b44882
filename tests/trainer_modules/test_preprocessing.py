"""What the transform graph makes of raw features: whole examples, parts of them, and what it has never seen."""

import datetime

import numpy as np
import pytest
import toy_world
from conftest import NEVER_RATED, ONLY_IN_TEST

from trainer_modules import features as f
from trainer_modules import inputs, preprocessing

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)
import tensorflow_transform as tft  # isort: skip

INDICES = {
    feature.name: feature
    for feature in (
        f.USER_INDEX, f.MOVIE_INDEX, f.HISTORY_MOVIE_INDEX, f.HISTORY_AGE_BUCKET, f.MOVIE_GENRE_INDEX,
        f.MOVIE_YEAR_INDEX, f.MOVIE_WORD_INDEX, f.USER_AGE_INDEX, f.USER_GENDER_INDEX, f.USER_OCCUPATION_INDEX,
        f.HISTORY_HOUR_INDEX, f.HISTORY_WEEKDAY_INDEX, f.TIME_BUCKET, f.USER_RATING, f.TIMESTAMP, f.HISTORY_RATING,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def layer(artifacts):
    return artifacts.transform_output.transform_features_layer()


def catalog_row(movie_id, title, *genres):
    return {
        f.MOVIE_ID.name: tf.constant([movie_id]),
        f.MOVIE_TITLE.name: tf.constant([title]),
        f.MOVIE_GENRES.name: tf.sparse.from_dense([list(genres)] if genres else tf.zeros([1, 0], tf.string)),
    }


def vocabulary(artifacts, name):
    return [token.decode() for token in artifacts.transform_output.vocabulary_by_name(name)]


def test_output_is_what_features_py_says(artifacts):
    spec = artifacts.transform_output.transformed_feature_spec()
    assert set(spec) == set(INDICES)
    for name, parsed in spec.items():
        assert parsed.dtype == tf.as_dtype(INDICES[name].dtype)
        assert getattr(parsed, "shape", None) == (None if INDICES[name].shape is None else list(INDICES[name].shape))


def test_vocabularies_hold_the_fit_rows_alone(artifacts):
    movies = vocabulary(artifacts, f.MOVIE_VOCABULARY)
    assert set(movies) == {f"m{n}" for n in range(16)}
    assert NEVER_RATED not in movies
    assert ONLY_IN_TEST not in movies
    assert "nobody" not in vocabulary(artifacts, f.USER_VOCABULARY)
    assert set(vocabulary(artifacts, f.GENRE_VOCABULARY)) == {"even", "odd"}
    assert vocabulary(artifacts, f.OCCUPATION_VOCABULARY) == ["student"]


def test_transformed_rows_name_the_movies_they_came_from(artifacts, checkerboard):
    movies = vocabulary(artifacts, f.MOVIE_VOCABULARY)
    rows = inputs.load_ratings(artifacts.transformed_files("train"), artifacts.transform_output)
    examples = [
        (row[0], [past[0] for past in history[max(0, n - f.HISTORY_LENGTH) : n]])
        for history in toy_world.leave_last_out(checkerboard).values()
        for n, row in enumerate(history)
        if row[4] == "train"
    ]
    assert len(rows[f.MOVIE_INDEX.name]) == len(examples)
    for index, history, (movie, past) in zip(
        rows[f.MOVIE_INDEX.name], rows[f.HISTORY_MOVIE_INDEX.name], examples, strict=True
    ):
        assert movies[index - f.FIRST_INDEX] == movie
        assert [movies[i - f.FIRST_INDEX] for i in history if i != f.PADDING_INDEX] == past
        assert (history[: f.HISTORY_LENGTH - len(past)] == f.PADDING_INDEX).all()
    assert rows[f.TIME_BUCKET.name].min() == 0
    assert rows[f.TIME_BUCKET.name].max() == f.NUM_TIME_BUCKETS - 1
    order = np.argsort(rows[f.TIMESTAMP.name], kind="stable")
    assert (np.diff(rows[f.TIME_BUCKET.name][order]) >= 0).all()


def test_a_catalog_row_alone_is_enough_for_its_features(layer, artifacts):
    result = layer(catalog_row("m3", "Movie odd 3 (1993)", "odd"))
    assert set(result) == {
        f.MOVIE_INDEX.name, f.MOVIE_GENRE_INDEX.name, f.MOVIE_YEAR_INDEX.name, f.MOVIE_WORD_INDEX.name,
    }  # fmt: skip
    words = vocabulary(artifacts, f.WORD_VOCABULARY)
    found = result[f.MOVIE_WORD_INDEX.name]
    assert [words[i - f.FIRST_INDEX] for i in found.values.numpy()] == ["movie", "odd", "3"]
    assert result[f.MOVIE_INDEX.name].shape == [1]
    genres = vocabulary(artifacts, f.GENRE_VOCABULARY)
    assert [genres[i - f.FIRST_INDEX] for i in result[f.MOVIE_GENRE_INDEX.name].values.numpy()] == ["odd"]


def test_the_unknown_maps_to_oov_and_unknown_words_are_dropped(layer):
    result = layer(catalog_row("nope", "Unheard of", "Musical", "even"))
    assert result[f.MOVIE_INDEX.name].numpy().tolist() == [f.OOV_INDEX]
    assert result[f.MOVIE_GENRE_INDEX.name].values.numpy()[0] == f.OOV_INDEX
    assert result[f.MOVIE_GENRE_INDEX.name].values.numpy()[1] >= f.FIRST_INDEX
    assert result[f.MOVIE_YEAR_INDEX.name].numpy().tolist() == [f.OOV_INDEX]
    assert result[f.MOVIE_WORD_INDEX.name].values.shape == [0]


def user_row(**facts):
    row = {f.USER_ID.name: tf.constant(["u0"])}
    for feature in f.USER_FACTS:
        value = [[facts[feature.name]]] if feature.name in facts else tf.zeros([1, 0], feature.dtype)
        dense = tf.constant(value, tf.as_dtype(feature.dtype))
        places = tf.constant([[0, 0]] if feature.name in facts else tf.zeros([0, 2], tf.int64), tf.int64)
        row[feature.name] = tf.SparseTensor(places, tf.reshape(dense, [-1]), dense.shape)
    return row


@pytest.mark.parametrize(
    ("facts", "age", "gender", "occupation"),
    [
        ({}, 1, 1, 1),
        ({"raw_user_age": 17.9, "user_gender": 0, "user_occupation_text": "student"}, 2, 2, 2),
        ({"raw_user_age": 18.0, "user_gender": 1, "user_occupation_text": "never heard of"}, 3, 3, 1),
        ({"raw_user_age": 99.0}, 8, 1, 1),
        ({"bucketized_user_age": 25.0, "user_gender": 7}, 4, 1, 1),
        ({"raw_user_age": 56.0, "bucketized_user_age": 1.0}, 8, 1, 1),
    ],
)
def test_user_facts(layer, facts, age, gender, occupation):
    result = layer(user_row(**facts))
    assert result[f.USER_AGE_INDEX.name].numpy().tolist() == [age]
    assert result[f.USER_GENDER_INDEX.name].numpy().tolist() == [gender]
    assert result[f.USER_OCCUPATION_INDEX.name].numpy().tolist() == [occupation]


def test_a_history_alone_as_a_client_sends_it(layer):
    pad = f.HISTORY_LENGTH - 3
    result = layer(
        {
            f.USER_ID.name: tf.constant(["stranger"]),
            f.HISTORY_MOVIE_ID.name: tf.constant([[""] * pad + ["m1", "nope", "m2"]]),
            f.HISTORY_TIMESTAMP.name: tf.constant([[0] * pad + [1000, 1006, 1007]], tf.int64),
        }
    )
    assert result[f.USER_INDEX.name].numpy().tolist() == [f.OOV_INDEX]
    assert result[f.HISTORY_MOVIE_INDEX.name].numpy()[0, :pad].max() == f.PADDING_INDEX
    assert result[f.HISTORY_MOVIE_INDEX.name].numpy()[0, -2] == f.OOV_INDEX
    assert result[f.HISTORY_AGE_BUCKET.name].numpy()[0].tolist() == [0] * pad + [3, 1, 0]


def test_hour_and_weekday_are_those_of_the_newest_item():
    times = ("1970-01-01T00:00", "1998-03-07T23:59", "2026-11-22T12:00", "1969-12-31T02:59")
    moments = [datetime.datetime.fromisoformat(f"{time}:00+00:00") for time in times]
    timestamp = np.array([[0, int(moment.timestamp()) - 90_000, int(moment.timestamp())] for moment in moments])
    is_item = np.array([[False, True, True]] * len(times))
    hour, weekday = preprocessing.hour_and_weekday_index(tf.constant(timestamp), tf.constant(is_item))
    assert hour.numpy().tolist() == [f.FIRST_INDEX + moment.hour // 3 for moment in moments]
    assert weekday.numpy().tolist() == [f.FIRST_INDEX + moment.weekday() for moment in moments]
    for unknown in preprocessing.hour_and_weekday_index(tf.constant(timestamp), tf.zeros_like(is_item)):
        assert unknown.numpy().tolist() == [f.OOV_INDEX] * len(times)


def test_age_bucket_is_exact_at_every_power_of_two():
    gaps = np.array([0, *(2**n + d for n in range(1, 34) for d in (-2, -1))])
    newest = 2**35
    timestamps = np.append(newest - gaps, newest)[None]
    buckets = preprocessing.age_bucket(tf.constant(timestamps), tf.fill(timestamps.shape, True))
    expected = [min(int(gap + 1).bit_length() - 1, f.NUM_AGE_BUCKETS - 1) for gap in gaps]
    assert buckets.numpy()[0, :-1].tolist() == expected


@pytest.mark.parametrize(
    ("title", "index"),
    [
        ("Toy Story (1995)", 2 + 21),
        ("Old (1889)", 2),
        ("First (1890)", 2),
        ("(500) Days of Summer (2009) ", 2 + 23),
        ("Series (2006-2007)", 2 + 23),
        ("Series (2006–)", 2 + 23),
        ("2001: A Space Odyssey", f.OOV_INDEX),
        ("Later (2999)", f.NUM_YEAR_INDICES - 1),
        ("", f.OOV_INDEX),
    ],
)
def test_year_index(title, index):
    assert preprocessing.year_index(tf.constant([title])).numpy().tolist() == [index]


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Monsters, Inc. (2001)", ["monsters", "inc"]),
        ("2001: A Space Odyssey (1968)", ["2001", "a", "space", "odyssey"]),
        ("Cité des ENFANTS perdus, La (1995)", ["cité", "des", "enfants", "perdus", "la"]),
        ("Я (1990)", ["я"]),
        ("(1994)", []),
        ("", []),
    ],
)
def test_title_words(title, words):
    assert [word.decode() for word in preprocessing.title_words(tf.constant([title]))[0].numpy()] == words


def test_an_edition_without_user_facts(tmp_path):
    """Its schema does not name them, so preprocessing_fn is not given them: every user's are unknown."""
    world = toy_world.World([("a", "1", 3.0, 5), ("b", "1", 3.0, 6)], {"1": ("One (2000)", [])}, {})
    toy_world.write_examples(toy_world.rating_examples(world), tmp_path / "examples")
    features = [feature for feature in f.RATING_EXAMPLE if feature not in f.USER_FACTS]
    toy_world.transform(str(tmp_path / "examples"), str(tmp_path / "graph"), None, str(tmp_path / "tmp"), features)
    output = tft.TFTransformOutput(str(tmp_path / "graph"))
    result = output.transform_features_layer()({f.USER_ID.name: tf.constant(["a", "z"])})
    assert result[f.USER_AGE_INDEX.name].numpy().tolist() == [f.OOV_INDEX] * 2
    assert result[f.USER_GENDER_INDEX.name].numpy().tolist() == [f.OOV_INDEX] * 2
    assert result[f.USER_OCCUPATION_INDEX.name].numpy().tolist() == [f.OOV_INDEX] * 2
    assert set(output.transformed_feature_spec()) == set(INDICES)
