"""Fills in the rating matrix with the mean prediction of many factorisation machines, drawn from their posterior.

U users, N movies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer_modules import hyperparameters
from trainer_modules.langevin import STEPS_PER_CYCLE, Chain, Draw
from trainer_modules.likelihoods import Likelihood
from trainer_modules.ranking_watch import Watch, predict_from
from trainer_modules.rating_matrix import RatingMatrix

_LOG = logging.getLogger("movierec.ranking")

_MAX_RESTARTS = 6
_STEPS_PER_NOTE = 100

Likelihoods = Callable[[RatingMatrix, int], Sequence[Likelihood]]
"""Cells and a seed -> a likelihood for each machine that is sampled."""


class Sampled(NamedTuple):
    """The mean over the draws."""

    stars: np.ndarray
    """float32 [U, N]."""
    noise: float
    """Variance of the cells' stars around a draw's."""


def fill(
    cells: RatingMatrix,
    likelihoods: Likelihoods,
    p: hyperparameters.Sampling,
    num_steps: int,
    implicit: bool,
    watch: Watch,
    seed: int,
) -> Sampled:
    """Runs a chain; one that leaves the finite is begun anew with half the step size.

    Args:
      cells: the observed ones.
      likelihoods: what is sampled; the machines' predictions count alike.
      p: hyperparameters.
      num_steps: of the chain, burn-in included.
      implicit: as Chain's.
      watch: told every _STEPS_PER_NOTE steps.
      seed: the same seed gives the same draws on the same machine.

    Raises:
      ValueError: no step size keeps the chain finite.
    """
    order = np.lexsort((cells.movie, cells.user))
    cells = cells._replace(user=cells.user[order], movie=cells.movie[order], stars=cells.stars[order])
    step_size = p.step_size
    for _ in range(_MAX_RESTARTS):
        watch.notes.clear()
        machines = likelihoods(cells, seed)
        chain = Chain(cells, machines, p.factors, step_size, implicit, seed, p.start_stddev)
        sampled = _run(chain, machines, cells, p, num_steps, watch)
        if sampled is not None:
            return sampled
        step_size /= 2.0
        _LOG.warning("ranking: the chain diverged; beginning anew with step size %g", step_size)
    raise ValueError(f"The chain diverges at every step size from {p.step_size:g} down to {step_size:g}.")


def _run(
    chain: Chain,
    likelihoods: Sequence[Likelihood],
    cells: RatingMatrix,
    p: hyperparameters.Sampling,
    num_steps: int,
    watch: Watch,
) -> Sampled | None:
    """None: it diverged."""
    mean = float(cells.stars.mean())
    total, noises = np.zeros(0, np.float32), []
    for number in range(num_steps // STEPS_PER_CYCLE):
        step = number * STEPS_PER_CYCLE
        is_burn_in = step < p.burn_in_steps
        misfit, draws = chain.cycle(tf.constant(number), tf.constant(is_burn_in))
        if not float(misfit) < 1.0:
            return None
        notes = (step + STEPS_PER_CYCLE) % _STEPS_PER_NOTE == 0
        if is_burn_in and not notes:
            continue
        stars = above_mean(draws[0], likelihoods[0])
        for draw, likelihood in zip(draws[1:], likelihoods[1:], strict=True):
            stars += above_mean(draw, likelihood)
        stars /= len(draws)
        stars += mean
        if not is_burn_in:
            noises.append(float(np.mean(np.square(stars[cells.user, cells.movie] - cells.stars))))
            total = stars if len(noises) == 1 else np.add(total, stars, out=total)
        if notes:
            watch(step + STEPS_PER_CYCLE, predict_from(stars if is_burn_in else total / len(noises)))
    return Sampled(total / len(noises), float(np.mean(noises)))


def above_mean(draw: Draw, likelihood: Likelihood) -> np.ndarray:
    """float32 [U, N], stars above the cells' mean."""
    return likelihood.expected(draw.user.numpy() @ draw.movie.numpy().T)
