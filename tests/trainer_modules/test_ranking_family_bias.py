"""The ranking family bias: what every family must do; test_low_rank.py has its formula."""

from ranking_family_suite import RankingFamilySuite


class TestBias(RankingFamilySuite):
    family = "bias"
    hyperparameters = {}  # noqa: RUF012
    learns_taste = False
