"""The family tutorial: what every family must do, less what a model without histories cannot."""

import numpy as np
import pytest
from conftest import RETRIEVAL_CONFIG
from retrieval_family_suite import RetrievalFamilySuite, movies

from trainer_modules import retrieval_data, tutorial_retrieval

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


class TestTutorial(RetrievalFamilySuite):
    family = "tutorial"
    hyperparameters = {"embedding_dimension": 8, "num_epochs": 60, "batch_size": 64}  # noqa: RUF012

    def test_a_stranger_with_a_history_is_answered_from_it(self, ask, states):
        """It is not: strangers have one vector, whatever they have seen."""
        users = ["u0", "u1"]
        lists = movies(ask(users, 1000, stranger=True, rows=[[], []]))
        seen = [{row[0] for row in states[user] if row[4] in ("train", "eval")} for user in users]
        expected = [[movie for movie in lists[0] if movie not in hidden] for hidden in seen]
        assert movies(ask(users, 1000, stranger=True)) == expected


def test_the_loss_is_the_softmax_over_the_batch_summed():
    tf.keras.utils.set_random_seed(1)
    model = tutorial_retrieval.TutorialModel(5, 4, 3)
    user, title = np.array([2, 3, 2]), np.array([0, 1, 1])
    scores = (model.user_embedding.numpy()[user] * 20) @ model.title_embedding.numpy()[title].T
    model.user_embedding.assign(model.user_embedding * 20)
    expected = np.sum(np.log(np.exp(scores).sum(axis=1)) - np.diag(scores))
    assert model.compute_loss({"user": user, "title": title}).numpy() == pytest.approx(expected, rel=1e-5)


def test_movies_of_one_title_have_one_vector(artifacts):
    data = retrieval_data.load(artifacts.fn_args("unused", {}))
    data.catalog.movie_title[3] = data.catalog.movie_title[5]
    towers = tutorial_retrieval.train(data, {"num_epochs": 1}, RETRIEVAL_CONFIG["seed"])
    vectors = towers.candidate_vectors
    np.testing.assert_array_equal(vectors[3], vectors[5])
    assert len(np.unique(vectors, axis=0)) == len(vectors) - 1
    assert [(note["phase"], note["epoch"]) for note in towers.epochs] == [("refit", 1)]
