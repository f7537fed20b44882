"""The retrieval SavedModel at its limits and without our code, and the training that made it."""

import csv
import re

import numpy as np
import pytest
import toy_world
from conftest import ONLY_IN_TEST, RETRIEVAL_CONFIG
from retrieval_requests import ask_in_a_fresh_process, known, movies, request

from trainer_modules import contract as c
from trainer_modules import features as f
from trainer_modules import inputs, retrieval

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


@pytest.fixture(scope="module")
def model(retrieval_path):
    return tf.saved_model.load(retrieval_path)


@pytest.fixture(scope="module")
def states(checkerboard):
    return toy_world.leave_last_out(checkerboard)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({c.K: [0]}, "k is at least 1, not"),
        ({c.K: [c.MAX_K + 1]}, f"k is at most {c.MAX_K}, not"),
        ({c.K: [3, 3]}, "k needs as many rows as the other inputs, not"),
        ({c.SEEN_MOVIE_ID: np.full([1, c.MAX_EXCLUDE + 1], "m1")}, f"seen_movie_id has at most {c.MAX_EXCLUDE}"),
        ({c.HISTORY_RATING: np.zeros([1, 2], np.float32)}, "are equally long, not"),
    ],
)
def test_requests_beyond_the_limits_are_refused_with_the_reason(model, states, changes, message):
    asked = {**request(["u0"], [known(states, "u0")]), **changes}
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(message)):
        model.recommend_for_history(**asked)


def test_batches_beyond_the_limit_are_refused(model):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {c.MAX_BATCH} requests in a batch, not"):
        model.popular([1] * (c.MAX_BATCH + 1))


def test_an_empty_batch_is_answered(model):
    answer = model.recommend([], np.zeros([0, 0], str), np.zeros([0], np.int32))
    assert answer[c.MOVIE_ID].shape == [0, 0]


def test_a_fresh_process_without_our_code_gives_the_same_answers(retrieval_path, model, states):
    """TensorFlow alone, by both loaders: so all operations are stock ones."""
    asked = request(["u0", "u3", "stranger"], [known(states, "u0"), known(states, "u3"), []], k=[3, 9, 6])
    told = ask_in_a_fresh_process(retrieval_path, asked)
    assert told["ours"] == []
    here = model.recommend_for_history(**asked)
    for loader in ("eager", "session"):
        found, score = told[loader]
        assert found == here[c.MOVIE_ID].numpy().astype(str).tolist()
        np.testing.assert_allclose(score, here[c.SCORE], rtol=1e-5)


def test_training_says_how_it_goes(retrieval_training):
    epochs, said = RETRIEVAL_CONFIG["hyperparameters"]["num_epochs"], retrieval_training["said"]
    tuning = [line for line in said if re.match(r"retrieval tuning: epoch \d+/\d+, loss \d", line)]
    assert len(tuning) == epochs
    assert all(re.search(r"eval ndcg_at_10 [01]\.\d{4}, \d+ examples/s$", line) for line in tuning)
    assert float(re.search(r"eval ndcg_at_10 ([\d.]+)", tuning[-1])[1]) == pytest.approx(1.0, abs=0.05)
    assert len([line for line in said if line.startswith("retrieval refit: epoch")]) == epochs
    with open(retrieval_training["path"] + "-run/epochs.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["tuning"] * epochs + ["refit"] * epochs
    assert float(rows[epochs - 1]["train_loss"]) < float(rows[0]["train_loss"])
    assert float(rows[epochs - 1]["eval_loss"]) < float(rows[0]["eval_loss"])


def test_same_seed_same_model_and_no_snapshot_changes_no_explicit_answer(retrieval_again_path, states, model):
    again = tf.saved_model.load(retrieval_again_path)
    asked = request(["u0", "u1", "stranger"], [known(states, "u0"), known(states, "u1"), []], k=18)
    one, other = model.recommend_for_history(**asked), again.recommend_for_history(**asked)
    assert movies(one) == movies(other)
    np.testing.assert_array_equal(one[c.SCORE], other[c.SCORE])
    # Every user is one without rows now.
    answer = again.recommend(["u0"], [[]], [18])
    assert movies(answer) == movies(again.recommend_for_history(**request(["u0"], [[]], k=18)))
    assert movies(answer) != movies(model.recommend(["u0"], [[]], [18]))


def test_bad_configurations_are_refused_before_anything_is_read(artifacts, tmp_path):
    with pytest.raises(ValueError, match="No retrieval family 'als'"):
        retrieval.run_fn(artifacts.fn_args(tmp_path, {**RETRIEVAL_CONFIG, "family": "als"}))
    wrong = {**RETRIEVAL_CONFIG, "hyperparameters": {"learning_rat": 0.1}}
    with pytest.raises(ValueError, match="no hyperparameter learning_rat"):
        retrieval.run_fn(artifacts.fn_args(tmp_path, wrong))


def test_without_eval_rows_nothing_can_be_tuned(artifacts, tmp_path):
    world = toy_world.World([("a", "m0", 3.0, 5), ("b", "m1", 3.0, 6)], {}, {})
    toy_world.write_examples(toy_world.user_state_examples(world), tmp_path / "state")
    arguments = artifacts.fn_args(tmp_path / "model", RETRIEVAL_CONFIG)
    arguments.user_state_uri = str(tmp_path / "state")
    with pytest.raises(ValueError, match="eval split has no rows"):
        retrieval.run_fn(arguments)


def test_a_model_that_holds_dicts_is_saved(model, tmp_path):
    """tf.Module wraps dicts that are put on it; both the wrapped and their tensors must survive saving."""

    class Holder(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights_by_name = {"a": tf.Variable(2.0), "nested": {"b": [tf.Variable(3.0)]}}
            self.settings = {"plain": 1}

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32)], autograph=False)
        def product(self, x):
            return {"y": x * self.weights_by_name["a"] * self.weights_by_name["nested"]["b"][0]}

    holder = Holder()
    tf.saved_model.save(holder, str(tmp_path), signatures={"product": holder.product})
    assert tf.saved_model.load(str(tmp_path)).signatures["product"](x=tf.constant(2.0))["y"].numpy() == 12.0


def test_test_rows_train_nothing(artifacts, model):
    """A movie with test rows alone has its facts' vector: the unknown id's and nothing else."""
    catalog = inputs.load_catalog(artifacts.catalog_uri, artifacts.transform_output)
    assert catalog.movie_index[17] == f.OOV_INDEX
    assert ONLY_IN_TEST not in movies(model.popular([20]))[0]
