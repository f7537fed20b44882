"""Kinds of test rows, figures on each, the worst of them, and the copy that TFMA slices."""

import math

import numpy as np
import pytest
import tensorflow as tf
import toy_ring

from components import evaluation_data, ranking_figures, ranking_slices
from trainer_modules import features as f
from trainer_modules import metrics


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cold user with one test row, who asks for a movie without fit rows, and for one that everybody rated."""
    rows = toy_ring.ring_world(num_cold_users=0)
    rows.train = [row for row in rows.train if row[1] != 7]
    rows.eval = [row for row in rows.eval if row[1] != 7]
    rows.test = [row for row in rows.test if row[1] != 7] + [("cold0", 7, 1.0, 2 * 10**9), ("cold0", 8, 5.0, 2 * 10**9)]
    return toy_ring.write_world(tmp_path_factory.mktemp("world"), rows)


@pytest.fixture(scope="module")
def kinds(world):
    rows = evaluation_data.read(world["examples"], f.TEST, ranking_slices.COLUMNS)
    states = evaluation_data.read_user_states(world["user_state"], f.FIT_SPLITS)
    return rows, ranking_slices.kinds(rows, evaluation_data.read_catalog(world["catalog"]), states)


def test_each_row_is_told_apart(kinds):
    rows, found = kinds
    assert set(found) == set(ranking_slices.KINDS)
    cold_movie, warm_movie = (len(rows["user_id"]) - 2, len(rows["user_id"]) - 1)
    for kind, at_cold, at_warm in (
        ("user", b"cold", b"cold"), ("movie", b"cold", b"warm"), ("listed", b"yes", b"yes"),
        ("genre", b"Drama", b"Drama"),
    ):  # fmt: skip
        assert (found[kind].values[cold_movie], found[kind].values[warm_movie]) == (at_cold, at_warm)
    assert found["popularity_decile"].values[cold_movie] == b"0" != found["popularity_decile"].values[warm_movie]
    assert set(found["listed"].values[:-2]) == {b"no"} and set(found["user"].values[:-2]) == {b"warm"}
    assert found["user_gender"].lengths[-2:].tolist() == [0, 0] and set(found["user_age"].values) == {b""}


def test_the_copy_has_the_kinds_and_everything_else(world, kinds, tmp_path):
    rows, found = kinds
    ranking_slices.write_examples(world["examples"], found, rows["user_rating"], str(tmp_path))
    [path] = evaluation_data.files(str(tmp_path), f.TEST)
    copied = [*tf.data.TFRecordDataset(path, compression_type="GZIP").as_numpy_iterator()]
    example = tf.train.Example.FromString(copied[-1]).features.feature
    assert example["slice_user"].bytes_list.value == [b"cold"]
    assert example["slice_genre"].bytes_list.value == [b"Drama"]
    assert example["gain"].float_list.value == [31.0] and not example["slice_user_gender"].bytes_list.value
    assert example["movie_id"].bytes_list.value == [b"m8"] and len(example["history_movie_id"].bytes_list.value) == 50

    # A model reads the copy as it reads its rows: a parser that finds another type in a feature's place ends there.
    raw = tf.io.parse_example(copied, {f.USER_GENDER.name: tf.io.RaggedFeature(tf.int64)})[f.USER_GENDER.name]
    np.testing.assert_array_equal(raw.values, rows[f.USER_GENDER.name].values)
    assert len(raw.values) > 0


def test_slices_are_parts_of_the_whole_and_the_worst_is_a_large_one(kinds, monkeypatch):
    rows, found = kinds
    stars = rows["user_rating"]
    predicted = {"candidate": np.full(len(stars), 3.0), "bias": stars + 1.0}
    parts = {part["slice"]: part for part in ranking_slices.by_slice(found, rows["user_id"], stars, predicted)}
    cold, warm = parts["user=cold"], parts["user=warm"]
    assert cold["metrics"]["rmse"] == pytest.approx(2.0) and cold["num"] == 2
    assert cold["metrics"]["calibration"] == pytest.approx(1.0) and "ndcg_at_10" not in warm["metrics"]
    assert [part["beside"]["bias"]["rmse"] for part in parts.values()] == pytest.approx([1.0] * len(parts))
    whole = metrics.rmse(stars, predicted["candidate"])
    assert (4 * 2 + warm["metrics"]["rmse"] ** 2 * warm["num"]) / len(stars) == pytest.approx(whole**2)
    assert not [name for name in parts if name.startswith("listed")]
    assert ranking_slices.worst(list(parts.values()), whole, 1.25) is None
    monkeypatch.setattr(ranking_slices, "MIN_ROWS", 2)
    worst = ranking_slices.worst(list(parts.values()), whole, 1.25)
    assert worst["rmse"] == pytest.approx(2.0) and worst["num"] == 2 and worst["ratio"] == pytest.approx(2 / whole)


def test_stars_whose_mean_is_not_above_0_have_no_calibration():
    """As where movies are rated from -1 to 1: nothing can be so many times 0."""
    stars, predicted = np.array([0.0, 0.0, -1.0, 4.0]), np.array([0.2, 0.3, 0.1, 4.0])
    assert [one["calibration"] for one in ranking_figures.calibration_buckets(stars, predicted)] == [None, 1.0]
    users = np.array([b"u1", b"u1", b"u2"])
    assert set(ranking_figures.figures(users, stars[:3], predicted[:3])) == {"rmse", "mae"}


def test_the_most_stars_end_the_last_bucket():
    lower, last = ranking_figures.calibration_buckets(np.array([4.0, 5.0, 4.0]), np.array([4.4, 4.6, 5.0]))
    assert (lower["from"], lower["num"], last["from"], last["to"], last["num"]) == (4.0, 1, 4.5, 5.0, 2)


def test_calibration_by_what_is_predicted():
    low, high = ranking_figures.calibration_buckets(np.array([2.0, 1.0, 5.0]), np.array([1.5, 1.9, 4.75]))
    assert (low["from"], low["to"], low["num"], low["prediction"]) == (1.5, 2.0, 2, pytest.approx(1.7))
    assert low["calibration"] == pytest.approx(1.7 / 1.5) and high["calibration"] == pytest.approx(0.95)


def test_graded_ndcg_by_hand():
    gain, score = np.array([1.0, 3.0, 7.0, 1.0, 3.0]), np.array([0.9, 0.8, 0.1, 0.2, 0.3])
    found = metrics.graded_ndcg_at_k(gain, score, np.array([0, 0, 0, 1, 1]), 2)
    worst = (1 + 3 / math.log2(3)) / (7 + 3 / math.log2(3))
    assert found == pytest.approx([worst, 1.0])
    assert metrics.graded_ndcg_at_k(gain, gain, np.array([1, 0, 1, 0, 1]), 10) == pytest.approx([1.0, 1.0])


def test_an_order_is_judged_where_there_is_something_to_gain():
    user, stars = np.array([b"a", b"a", b"b", b"b"]), np.array([0.0, 0.0, 0.0, 4.0])
    found = ranking_figures.figures(user, stars, np.array([1.0, 2.0, 1.0, 2.0]))
    assert found["ndcg_at_10"] == pytest.approx(1.0)
    assert "ndcg_at_10" not in ranking_figures.figures(user, stars - 2.0, stars)
