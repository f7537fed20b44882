"""What must not be blessed: a model that learned from shuffled labels, and one whose embeddings are mixed up."""

import dataclasses

import numpy as np
import pytest
from conftest import RETRIEVAL_CONFIG

from components import baseline, retrieval_evaluation
from trainer_modules import index_growth, retrieval, retrieval_data, retrieval_model

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

FAMILY, SEED = "two_tower", RETRIEVAL_CONFIG["seed"]


def with_shuffled_movies(states):
    """Each movie is rated as often as it was, each user rates as often: who rated what is left to chance."""
    shuffled = np.random.default_rng(3).permutation(len(states.position))
    return dataclasses.replace(states, position=states.position[shuffled])


@pytest.fixture(scope="module")
def data(artifacts):
    return retrieval_data.load(artifacts.fn_args("unused", {}))


@pytest.fixture(scope="module")
def towers_of_shuffled_labels(data):
    shuffled = dataclasses.replace(data, train=with_shuffled_movies(data.train), fit=with_shuffled_movies(data.fit))
    return retrieval.FAMILIES[FAMILY](shuffled, RETRIEVAL_CONFIG["hyperparameters"], SEED)


@pytest.fixture(scope="module")
def towers_with_permuted_embeddings(data, retrieval_path):
    """Those of the model that is blessed, but for this."""
    towers = index_growth.grown(tf.saved_model.load(retrieval_path), data.catalog, data.catalog.num_movies)
    permuted = np.random.default_rng(3).permutation(len(towers.candidate_vectors))
    return towers._replace(candidate_vectors=towers.candidate_vectors[permuted])


def evaluate(path, artifacts, last_blessed=None):
    return retrieval_evaluation.evaluate(
        str(path), last_blessed, artifacts.examples, artifacts.catalog_uri, artifacts.user_state_uri,
        gates={"ndcg_at_10": {"min": 0.8}}, family=FAMILY,
    )  # fmt: skip


def test_the_model_as_it_is_is_blessed(retrieval_path, artifacts):
    assert evaluate(retrieval_path, artifacts)["blessed"]


@pytest.mark.parametrize("broken", ["towers_of_shuffled_labels", "towers_with_permuted_embeddings"])
def test_a_model_that_learned_nothing_is_refused_in_readable_lines(
    broken, request, data, artifacts, retrieval_path, tmp_path
):
    towers = request.getfixturevalue(broken)
    retrieval_model.export(data, towers, str(tmp_path / "model"), user_snapshot=False)
    last = baseline.Baseline(retrieval_path, "1", artifacts.user_state_uri)
    report = evaluate(tmp_path / "model", artifacts, last)
    assert not report["blessed"]
    gate, *_, worse = report["reasons"]
    assert gate.endswith("is below its gate of 0.8: not good enough")
    assert "below the last blessed model's (version 1), beyond noise: the 95 % interval" in worse
    assert all("\n" not in reason and len(reason) < 200 for reason in report["reasons"])
