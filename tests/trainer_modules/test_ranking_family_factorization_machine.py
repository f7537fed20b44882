"""The ranking family factorization_machine: what every family must do; test_langevin.py has its sampler."""

from ranking_family_suite import RankingFamilySuite


class TestFactorizationMachine(RankingFamilySuite):
    family = "factorization_machine"
    hyperparameters = {"factors": 3, "num_steps": 500, "num_tuning_steps": 300, "burn_in_steps": 200}  # noqa: RUF012
