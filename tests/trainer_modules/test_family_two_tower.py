"""The family two_tower does what every family must."""

from conftest import RETRIEVAL_CONFIG
from retrieval_family_suite import RetrievalFamilySuite


class TestTwoTower(RetrievalFamilySuite):
    family = "two_tower"
    hyperparameters = RETRIEVAL_CONFIG["hyperparameters"]
    continues = True
