"""The ranking family deep: what every family must do; test_ranking_deep.py has the rest."""

import pytest
from conftest import DEEP_CONFIG
from ranking_family_suite import RankingFamilySuite


class TestDeep(RankingFamilySuite):
    family = "deep"
    hyperparameters = DEEP_CONFIG["hyperparameters"]
    continues = True

    @pytest.fixture(scope="class")
    def model_path(self, deep_path):
        """Trained with these hyperparameters already."""
        return deep_path
