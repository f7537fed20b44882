"""The ranking family matrix_factorization: what every family must do."""

from ranking_family_suite import RankingFamilySuite

from trainer_modules import bayesian_factorization, bias_ranking, ranking_data, tuning


class TestMatrixFactorization(RankingFamilySuite):
    family = "matrix_factorization"
    hyperparameters = {"factors": 3, "num_steps": 500, "num_tuning_steps": 300, "burn_in_steps": 200}  # noqa: RUF012

    def test_a_short_chain_is_judged_by_what_it_would_serve(self, star_artifacts):
        data = ranking_data.load(star_artifacts.fn_args("", {"rating_range": [1.0, 5.0]}))
        short = {"factors": 2, "num_steps": 60, "num_tuning_steps": 60, "burn_in_steps": 30}
        figure = tuning.figure_of(bayesian_factorization.fit, data, short, seed=3)
        by_bias = tuning.figure_of(bias_ranking.fit, data, {}, seed=3)
        assert 0.1 < figure < 1.3 * by_bias
