"""What families that learn in epochs have in common: tuned on eval, fitted anew on train + eval, each epoch noted."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer_modules import features as f
from trainer_modules import metrics, retrieval_evaluation
from trainer_modules.epochs import Note
from trainer_modules.inputs import UserStates
from trainer_modules.retrieval_data import RetrievalData
from trainer_modules.retrieval_evaluation import Queries
from trainer_modules.towers import Towers

_LOG = logging.getLogger("movierec")


class Epoch(NamedTuple):
    """A family after an epoch."""

    towers: Towers
    train_rmse: float
    """Root of the mean squared error on the rows it is fitted on, in the target's unit."""


Fit = Callable[[UserStates], Iterator[Epoch]]
"""Fits the family to some rows from scratch, epoch by epoch, without an end of its own."""
TargetOf = Callable[[np.ndarray], np.ndarray]
"""float32 [P] stars of rows -> float32 [P], what the family wants their scores to be."""


def tune_and_refit(
    fit: Fit, data: RetrievalData, max_epochs: int, target_of: TargetOf, by_error: bool = False
) -> Towers:
    """Picks the number of epochs by the eval rows, the fewest of equals, and refits with it.

    Args:
      fit: the family's.
      data: all of it.
      max_epochs: at most.
      target_of: for the error on the eval rows.
      by_error: whether the RMSE of the eval rows decides, for a family that predicts them; else NDCG@10.

    Returns:
      What is served, with a note of every epoch.

    Raises:
      ValueError: no rows to train on or to tune on.
    """
    if not len(data.held_out.position):
        raise ValueError("The eval split has no rows, so nothing can be tuned on it: choose a split that fills it.")
    if not len(data.train.position):
        raise ValueError("There are no rows to train on.")
    is_known = np.diff(data.train.row_splits) > 0
    asked = retrieval_evaluation.queries(
        data.train, np.where(is_known, data.train.user_index, f.OOV_INDEX), data.held_out
    )
    notes: list[Note] = []
    found: dict[int, tuple[float, float]] = {}

    # The tower is the same object in every epoch: one trace.
    @functools.lru_cache(maxsize=1)
    def compiled(tower: tf.Module) -> Callable[..., tf.Tensor]:
        return tf.function(tower, autograph=False)

    for number, epoch, rate in _timed(fit, data.train, max_epochs):
        query = compiled(epoch.towers.query_tower)(asked.asked, tf.constant(epoch.towers.candidate_vectors))
        ndcg = retrieval_evaluation.ndcg_at_10(query, epoch.towers.candidate_vectors, asked)
        eval_rmse = held_out_rmse(query, epoch.towers.candidate_vectors, asked, target_of)
        notes.append({
            "phase": "tuning", "epoch": number, "train_rmse": epoch.train_rmse, "eval_rmse": eval_rmse,
            "eval_ndcg_at_10": ndcg,
        })
        found[number] = (-eval_rmse if by_error else ndcg), ndcg
        _LOG.info(
            "retrieval tuning: epoch %d/%d, train rmse %.4f, eval rmse %.4f, eval ndcg_at_10 %.4f, %.0f examples/s",
            number, max_epochs, epoch.train_rmse, eval_rmse, ndcg, rate,
        )  # fmt: skip
    best = max(found, key=lambda number: (found[number][0], -number))
    data.on_tuned(found[best][1])
    _LOG.info("retrieval: epoch %d was best on eval; fitting anew on train + eval", best)
    for number, epoch, rate in _timed(fit, data.fit, best):
        notes.append({"phase": "refit", "epoch": number, "train_rmse": epoch.train_rmse})
        _LOG.info(
            "retrieval refit: epoch %d/%d, train rmse %.4f, %.0f examples/s", number, best, epoch.train_rmse, rate
        )
    return epoch.towers._replace(epochs=tuple(notes))


def held_out_rmse(
    query_vectors: tf.Tensor, candidate_vectors: np.ndarray, asked: Queries, target_of: TargetOf
) -> float:
    """Root of the mean squared difference of the held-out rows' scores and targets; not clipped to any range.

    Args:
      query_vectors: float32 [Q, D].
      candidate_vectors: float32 [N, D].
      asked: the queries.
      target_of: stars -> target.
    """
    query = np.asarray(query_vectors)[np.repeat(np.arange(len(asked.num_relevant)), asked.num_relevant)]
    score = np.einsum("pd,pd->p", query, candidate_vectors[asked.positive])
    return metrics.rmse(target_of(asked.positive_rating), score)


def _timed(fit: Fit, states: UserStates, num_epochs: int) -> Iterator[tuple[int, Epoch, float]]:
    """Each epoch with its number from 1 and the rows it went through per second."""
    start_s = time.monotonic()
    for number, epoch in enumerate(fit(states), start=1):
        yield number, epoch, len(states.position) / (time.monotonic() - start_s)
        if number == num_epochs:
            return
        start_s = time.monotonic()
