"""Fills in the rating matrix with the mean prediction of many factorisation machines, drawn from their posterior.

U users, N movies, A and G side features.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from trainer_modules import hyperparameters
from trainer_modules.langevin import STEPS_PER_CYCLE, Chain, Draw
from trainer_modules.likelihoods import Likelihood
from trainer_modules.low_rank import Filled
from trainer_modules.ranking_watch import Watch, predict_from
from trainer_modules.rating_matrix import RatingMatrix

_LOG = logging.getLogger("movierec.ranking")

_MAX_RESTARTS = 6
_STEPS_PER_NOTE = 100

Likelihoods = Callable[[RatingMatrix, int], Sequence[Likelihood]]
"""Cells and a seed -> a likelihood for each machine that is sampled."""


def fill(
    cells: RatingMatrix,
    likelihoods: Likelihoods,
    p: hyperparameters.Sampling,
    num_steps: int,
    implicit: bool,
    watch: Watch,
    seed: int,
) -> Filled:
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
      ValueError: no step size keeps the chain finite, or none of its steps is left after the burn-in.
    """
    if num_steps <= p.burn_in_steps:
        raise ValueError(f"{num_steps} steps with a burn-in of {p.burn_in_steps} leave no sample: ask for more steps.")
    order = np.lexsort((cells.movie, cells.user))
    cells = cells._replace(user=cells.user[order], movie=cells.movie[order], stars=cells.stars[order])
    step_size = p.step_size
    for _ in range(_MAX_RESTARTS):
        watch.notes.clear()
        machines = likelihoods(cells, seed)
        chain = Chain(cells, machines, p.factors, step_size, implicit, seed, p.start_stddev)
        filled = _run(chain, machines, cells, p, num_steps, watch)
        if filled is not None:
            return filled
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
) -> Filled | None:
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
        stars = everything(draws[0], likelihoods[0])
        for draw, likelihood in zip(draws[1:], likelihoods[1:], strict=True):
            stars += everything(draw, likelihood)
        stars /= len(draws)
        if not is_burn_in:
            noises.append(float(np.mean(np.square(mean + stars[cells.user, cells.movie] - cells.stars))))
            total = stars if len(noises) == 1 else np.add(total, stars, out=total)
        if notes:
            watch(step + STEPS_PER_CYCLE, predict_from(mean + (stars if is_burn_in else total / len(noises))))
    return Filled(mean, total / len(noises), float(np.mean(noises)))


def everything(draw: Draw, likelihood: Likelihood) -> np.ndarray:
    """float32 [U + 1 + A, N + 1 + G], stars above the mean.

    What a side feature adds is the difference that it makes to a user, or a movie, of whom nothing else is known.
    """
    users = np.concatenate([draw.user, draw.new_user[None], draw.new_user + draw.user_side])
    movies = np.concatenate([draw.movie, draw.new_movie[None], draw.new_movie + draw.movie_side])
    left = np.concatenate([users, np.ones((len(users), 1), np.float32)], axis=1)
    right = np.concatenate([movies[:, :-1], np.ones((len(movies), 1), np.float32), movies[:, -1:]], axis=1)
    stars = likelihood.expected(left @ right.T)
    new_user, new_movie = len(draw.user), len(draw.movie)
    stars[new_user + 1 :] -= stars[new_user]
    stars[:, new_movie + 1 :] -= stars[:, new_movie : new_movie + 1]
    return stars
