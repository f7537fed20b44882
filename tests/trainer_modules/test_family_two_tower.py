"""The family two_tower does what every family must."""

import numpy as np
import pytest
from conftest import RETRIEVAL_CONFIG
from retrieval_family_suite import RetrievalFamilySuite

from trainer_modules import contract as c

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


class TestTwoTower(RetrievalFamilySuite):
    family = "two_tower"
    hyperparameters = RETRIEVAL_CONFIG["hyperparameters"]
    continues = True

    @pytest.fixture(scope="class")
    def model_path(self, retrieval_path):
        """Trained with these hyperparameters already."""
        return retrieval_path

    def test_the_same_seed_gives_the_same_vectors(self, model, retrieval_again_path, family_world):
        again, movies = tf.saved_model.load(retrieval_again_path), list(family_world.movies)
        vectors = [one.embed_candidate(movies)[c.EMBEDDING].numpy() for one in (model, again)]
        np.testing.assert_array_equal(*vectors)
