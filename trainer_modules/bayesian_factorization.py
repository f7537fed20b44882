"""The ranking family "matrix_factorization": stars = mean + b_u + b_i + p_u . q_i on the observed cells.

Fitted by sampling (Salakhutdinov, Mnih, Bayesian Probabilistic Matrix Factorization using Markov Chain Monte Carlo,
ICML 2008): the chain of langevin.py with normal noise, without side features and implicit feedback. Unknown users and
movies get what biases with side features say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer_modules import bias_ranking, hyperparameters, rating_matrix, sampled_matrix
from trainer_modules.likelihoods import Likelihood, Normal
from trainer_modules.low_rank import LowRankScorer, check_size, truncated
from trainer_modules.ranking_data import RankingData
from trainer_modules.ranking_scorer import Fitted
from trainer_modules.ranking_watch import Watch
from trainer_modules.rating_matrix import RatingMatrix
from trainer_modules.sampled_matrix import Sampled


def fit(data: RankingData, values: Mapping[str, Any], seed: int) -> Fitted:
    """Runs a short chain on train, to see its error on eval, then a long one on both.

    Args:
      data: the rows and the catalog.
      values: of hyperparameters.RankingMatrixFactorization; those not named keep their defaults.
      seed: the same seed gives the same model on the same machine.

    Raises:
      ValueError: more rows or cells than this family can take, or a chain that always diverges.
    """
    p = hyperparameters.parse(hyperparameters.RankingMatrixFactorization, values)
    train, cells = rating_matrix.of_rows(data.train, data), rating_matrix.of_rows(data.fit, data)
    num_users, num_movies = len(cells.user_side), len(cells.movie_side)
    check_size(len(cells.stars), num_users, num_movies, "matrix_factorization")
    held_out = rating_matrix.of_rows(data.tuned_on, data)
    tuning = Watch(p.num_tuning_steps, train, held_out, data.rating_range, "step")

    def sampled_from(cells: RatingMatrix, num_steps: int, watch: Watch) -> Sampled:
        return sampled_matrix.fill(_ids_alone(cells), _likelihoods, p, num_steps, False, watch, seed)

    sampled = sampled_from(train, p.num_tuning_steps, tuning)
    served = bias_ranking.filled_around(train, sampled.stars, sampled.noise)
    data.on_tuned(tuning.error(served.of, held_out))
    refit = Watch(p.num_steps, cells, None, data.rating_range, "step")
    sampled = sampled_from(cells, p.num_steps, refit)
    filled = bias_ranking.filled_around(cells, sampled.stars, sampled.noise)
    low_rank = truncated(filled, num_users, num_movies, p.rank, seed)
    return Fitted(LowRankScorer(low_rank, data), (*tuning.notes, *refit.notes))


def _likelihoods(cells: RatingMatrix, seed: int) -> tuple[Likelihood, ...]:
    return (Normal(cells, seed),)


def _ids_alone(cells: RatingMatrix) -> RatingMatrix:
    return cells._replace(user_side=cells.user_side[:, :0], movie_side=cells.movie_side[:, :0])
