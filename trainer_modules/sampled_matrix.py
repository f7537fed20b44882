"""Fills in the rating matrix with the mean prediction of many factorisation machines, drawn from their posterior.

U users, N movies, A and G side features.
"""

from __future__ import annotations

import logging

import numpy as np
import tensorflow as tf

from trainer_modules import hyperparameters
from trainer_modules.langevin import STEPS_PER_CYCLE, Chain, Draw
from trainer_modules.low_rank import Filled
from trainer_modules.ranking_watch import Watch, predict_from
from trainer_modules.rating_matrix import RatingMatrix

_LOG = logging.getLogger("movierec.ranking")

_MAX_RESTARTS = 6
_STEPS_PER_NOTE = 100
_DIVERGED = 4.0
"""A draw whose squared error is so many times the stars' variance is on its way to infinity."""


def fill(
    cells: RatingMatrix, p: hyperparameters.Sampling, num_steps: int, implicit: bool, watch: Watch, seed: int
) -> Filled:
    """Runs a chain; one that leaves the finite is begun anew with half the step size.

    Args:
      cells: the observed ones.
      p: hyperparameters.
      num_steps: of the chain, burn-in included.
      implicit: as Chain's.
      watch: told every _STEPS_PER_NOTE steps.
      seed: the same seed gives the same draws on the same machine.

    Raises:
      ValueError: no step size keeps the chain finite, or none of its steps is left after the burn-in.
    """
    if num_steps <= p.burn_in_steps:
        raise ValueError(f"{num_steps} steps with a burn-in of {p.burn_in_steps} leave no sample: ask for more steps.")
    step_size = p.step_size
    for _ in range(_MAX_RESTARTS):
        watch.notes.clear()
        filled = _run(Chain(cells, p.factors, step_size, implicit, seed, p.start_stddev), cells, p, num_steps, watch)
        if filled is not None:
            return filled
        step_size /= 2.0
        _LOG.warning("ranking: the chain diverged; beginning anew with step size %g", step_size)
    raise ValueError(f"The chain diverges at every step size from {p.step_size:g} down to {step_size:g}.")


def _run(
    chain: Chain, cells: RatingMatrix, p: hyperparameters.Sampling, num_steps: int, watch: Watch
) -> Filled | None:
    """None: it diverged."""
    total, noises = np.zeros(0, np.float32), []
    variance = float(np.var(cells.stars))
    for number in range(num_steps // STEPS_PER_CYCLE):
        step = number * STEPS_PER_CYCLE
        is_burn_in = step < p.burn_in_steps
        mean_squared_error, draw = chain.cycle(tf.constant(number), tf.constant(is_burn_in))
        if not float(mean_squared_error) < _DIVERGED * max(variance, 1.0):
            return None
        notes = (step + STEPS_PER_CYCLE) % _STEPS_PER_NOTE == 0
        stars = everything(draw) if notes or not is_burn_in else total
        if not is_burn_in:
            noises.append(1.0 / float(chain.alpha))
            total = stars if len(noises) == 1 else np.add(total, stars, out=total)
        if notes:
            seen = stars if is_burn_in else total / len(noises)
            watch(step + STEPS_PER_CYCLE, predict_from(chain.mean + seen))
    return Filled(chain.mean, total / len(noises), float(np.mean(noises)))


def everything(draw: Draw) -> np.ndarray:
    """float32 [U + 1 + A, N + 1 + G], stars above the mean."""
    users = np.concatenate([draw.user, draw.new_user[None], draw.user_side])
    movies = np.concatenate([draw.movie, draw.new_movie[None], draw.movie_side])
    # A bias counts once for every whole on the other side; what side features add is no whole.
    wholes = [np.arange(len(side)) <= len(known) for side, known in ((users, draw.user), (movies, draw.movie))]
    left = np.concatenate([users, wholes[0][:, None]], axis=1, dtype=np.float32)
    right = np.concatenate([movies[:, :-1], wholes[1][:, None], movies[:, -1:]], axis=1, dtype=np.float32)
    return left @ right.T
