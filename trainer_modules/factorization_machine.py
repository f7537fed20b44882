"""The ranking family "factorization_machine": flipped SVD++ with side features, sampled, blended with item-AutoRec.

langevin.py has the model and its formula. Two machines are sampled, one that takes the stars for numbers with noise
and one that takes them for an order; they err in different places, so their mean is better than either. The mean
prediction over the draws and that of the autoencoder are added with a weight found on eval. What is served is the
filled-in matrix in low rank: one product of a user's and a movie's vector.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer_modules import hyperparameters, item_autorec, rating_matrix, sampled_matrix
from trainer_modules.likelihoods import Likelihood, Normal, Ordered
from trainer_modules.low_rank import LowRankScorer, check_size, fit_moods, truncated
from trainer_modules.ranking_data import RankingData
from trainer_modules.ranking_scorer import Fitted
from trainer_modules.ranking_watch import Watch, predict_from
from trainer_modules.rating_matrix import RatingMatrix

_LOG = logging.getLogger("movierec.ranking")

_BLENDS = np.linspace(0.0, 0.5, 11)
"""Weights of the autoencoder that are tried."""


def fit(data: RankingData, values: Mapping[str, Any], seed: int) -> Fitted:
    """Finds the blend on eval with a short chain, then samples train and eval together with a long one.

    Args:
      data: the rows and the catalog.
      values: of hyperparameters.FactorizationMachine; those not named keep their defaults.
      seed: the same seed gives the same model on the same machine.

    Raises:
      ValueError: more rows or cells than this family can take, or a chain that always diverges.
    """
    p = hyperparameters.parse(hyperparameters.FactorizationMachine, values)
    train, fit_cells = rating_matrix.of_rows(data.train, data), rating_matrix.of_rows(data.fit, data)
    held_out = rating_matrix.of_rows(data.tuned_on, data)
    num_users, num_movies = len(train.user_side), len(train.movie_side)
    check_size(len(fit_cells.stars), num_users, num_movies, "factorization_machine")

    tuning = Watch(p.num_tuning_steps, train, held_out, data.rating_range, "step")
    sampled = sampled_matrix.fill(
        train, _likelihoods, p, p.num_tuning_steps, implicit=True, watch=tuning, seed=seed
    )
    known = sampled.mean + sampled.stars[:num_users, :num_movies]
    encoded = _encoded(train, p, seed)
    errors = [
        tuning.error(predict_from((1 - blend) * known + blend * encoded), held_out) for blend in _BLENDS
    ]
    blend = float(_BLENDS[np.argmin(errors)])
    sampled.stars[:num_users, :num_movies] = (1 - blend) * known + blend * encoded - sampled.mean
    moods = fit_moods(truncated(sampled, num_users, num_movies, p.rank, seed), data)
    _LOG.info(
        "ranking: eval RMSE %.4f with %.2f of autorec, moods %s; fitting anew on train + eval",
        min(errors), blend, np.round(moods, 3),
    )  # fmt: skip
    data.on_tuned(min(errors))

    refit = Watch(p.num_steps, fit_cells, None, data.rating_range, "step")
    sampled = sampled_matrix.fill(fit_cells, _likelihoods, p, p.num_steps, implicit=True, watch=refit, seed=seed)
    known = sampled.stars[:num_users, :num_movies]
    known += blend * (_encoded(fit_cells, p, seed) - sampled.mean - known)
    low_rank = truncated(sampled, num_users, num_movies, p.rank, seed)._replace(moods=moods)
    return Fitted(LowRankScorer(low_rank, data), (*tuning.notes, *refit.notes))


def _likelihoods(cells: RatingMatrix, seed: int) -> tuple[Likelihood, ...]:
    return Normal(cells, seed), Ordered(cells)


def _encoded(cells: RatingMatrix, p: hyperparameters.FactorizationMachine, seed: int) -> np.ndarray:
    """float32 [U, N], stars: item-AutoRec's, with its default settings."""
    *_, model = item_autorec.epochs(cells, hyperparameters.ItemAutoRec(), seed)
    return model.filled_in(cells)
