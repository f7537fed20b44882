"""The ranking family "factorization_machine": flipped SVD++ with side features, sampled, blended with item-AutoRec.

langevin.py has the model and its formula. Two machines are sampled, one that takes the stars for numbers with noise
and one that takes them for an order; they err in different places, so their mean is better than either. The mean
prediction over the draws and that of the autoencoder are added with a weight found on eval. What is served is the
filled-in matrix in low rank: one product of a user's and a movie's vector. Unknown users and movies get what biases
with side features say: in time they come out better so than from the machines.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer_modules import bias_ranking, hyperparameters, item_autorec, rating_matrix, sampled_matrix
from trainer_modules.likelihoods import Likelihood, Normal, Ordered
from trainer_modules.low_rank import LowRankScorer, check_size, fit_moods, truncated
from trainer_modules.ranking_data import RankingData
from trainer_modules.ranking_scorer import Fitted
from trainer_modules.ranking_watch import Watch
from trainer_modules.rating_matrix import RatingMatrix
from trainer_modules.sampled_matrix import Sampled

_LOG = logging.getLogger("movierec.ranking")

_BLENDS = np.linspace(0.0, 0.5, 11)
"""Weights of the autoencoder that are tried."""
_MAX_LEVELS = 20
"""Different stars for which there is a machine that takes them as an order: each is a cut, and part of its graph."""


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

    def sampled_from(cells: RatingMatrix, num_steps: int, watch: Watch) -> Sampled:
        return sampled_matrix.fill(cells, _likelihoods, p, num_steps, implicit=True, watch=watch, seed=seed)

    tuning = Watch(p.num_tuning_steps, train, held_out, data.rating_range, "step")
    sampled, encoded = sampled_from(train, p.num_tuning_steps, tuning), _encoded(train, seed)
    filled = bias_ranking.filled_around(train, sampled.stars, sampled.noise)
    with_encoded = bias_ranking.filled_around(train, encoded, sampled.noise)
    without, alone = filled.of(held_out), with_encoded.of(held_out)

    def error(blend: float) -> float:
        return tuning.error(lambda _: (1.0 - blend) * without + blend * alone, held_out)

    errors = [error(blend) for blend in _BLENDS]
    blend = float(_BLENDS[np.argmin(errors)])
    blended = filled._replace(stars=(1.0 - blend) * filled.stars + blend * with_encoded.stars)
    moods = fit_moods(truncated(blended, num_users, num_movies, p.rank, seed), data)
    _LOG.info(
        "ranking: eval RMSE %.4f with %.2f of autorec, moods %s; fitting anew on train + eval",
        min(errors), blend, np.round(moods, 3),
    )  # fmt: skip
    data.on_tuned(min(errors))

    refit = Watch(p.num_steps, fit_cells, None, data.rating_range, "step")
    sampled, encoded = sampled_from(fit_cells, p.num_steps, refit), _encoded(fit_cells, seed)
    stars = (1.0 - blend) * sampled.stars + blend * encoded
    filled = bias_ranking.filled_around(fit_cells, stars, sampled.noise)
    low_rank = truncated(filled, num_users, num_movies, p.rank, seed)._replace(moods=moods)
    return Fitted(LowRankScorer(low_rank, data), (*tuning.notes, *refit.notes))


def _likelihoods(cells: RatingMatrix, seed: int) -> tuple[Likelihood, ...]:
    num_levels = len(np.unique(cells.stars))
    if num_levels > _MAX_LEVELS:
        _LOG.info("ranking: %d different stars: as an order up to %d are taken", num_levels, _MAX_LEVELS)
        return (Normal(cells, seed),)
    return Normal(cells, seed), Ordered(cells)


def _encoded(cells: RatingMatrix, seed: int) -> np.ndarray:
    """float32 [U, N], stars: item-AutoRec's, with its default settings."""
    *_, model = item_autorec.epochs(cells, hyperparameters.ItemAutoRec(), seed)
    return model.filled_in(cells)
