"""The ranking family deep: what every family must do; test_ranking_deep.py has the rest."""

from ranking_family_suite import RankingFamilySuite


class TestDeep(RankingFamilySuite):
    family = "deep"
    hyperparameters = {  # noqa: RUF012
        "batch_size": 32, "max_epochs": 8, "learning_rate": 0.02, "factor_l2": 1.0, "bias_l2": 1.0,
    }  # fmt: skip
    continues = True
