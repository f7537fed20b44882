"""The ranking family matrix_factorization: what every family must do."""

from ranking_family_suite import RankingFamilySuite


class TestMatrixFactorization(RankingFamilySuite):
    family = "matrix_factorization"
    hyperparameters = {"factors": 3, "num_steps": 500, "num_tuning_steps": 300, "burn_in_steps": 200}  # noqa: RUF012
