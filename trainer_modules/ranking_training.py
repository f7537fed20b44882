"""Fits a tfrs.Model for ranking: first on train, to see on eval how many epochs it takes; then anew on both."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer_modules import distribution
from trainer_modules import features as f
from trainer_modules.epochs import Note
from trainer_modules.hyperparameters import RankingTraining
from trainer_modules.ranking_data import Rows
from trainer_modules.training import OnTuned, compiled_step, compiled_test_step

_LOG = logging.getLogger("movierec.ranking")

_EVAL_BATCH = 4096
_LAST_RATE = 0.02
"""Share of the learning rate that is left after max_epochs."""
_WORTH_STOPPING = 0.01
"""Share of the last epoch's eval RMSE by which an earlier one must be better to be preferred: the rate falls until the
last, and less is the noise of an eval split with a hundred users, as it is where users are split by time."""


def tune_and_refit(
    build: Callable[[Rows], tfrs.Model],
    train: Rows,
    eval_rows: Rows,
    fit: Rows,
    settings: RankingTraining,
    seed: int,
    on_tuned: OnTuned,
    whole_users: bool = False,
) -> tuple[tfrs.Model, tuple[Note, ...]]:
    """Trains twice.

    Args:
      build: rows that will be fitted -> a new, untrained model with a metric named "rmse" and one named "mean_loss".
      train: columns of the rows for tuning.
      eval_rows: columns of the rows it is judged on.
      fit: columns of both.
      settings: the hyperparameters.
      seed: of the order of the rows, and of what build draws through TensorFlow.
      on_tuned: told the first model's RMSE after these epochs.
      whole_users: whether a user's rows follow each other in the batches.

    Returns:
      The second model, fitted on train and eval for as many epochs as the first: all of them, where none before was
      better by _WORTH_STOPPING; and a note of every epoch.

    Raises:
      ValueError: no epoch had a finite eval RMSE.
    """
    num_epochs, notes = _tuned_num_epochs(_built(build, train, seed), train, eval_rows, settings, seed, whole_users)
    eval_rmse = float(notes[num_epochs - 1]["eval_rmse"])
    on_tuned(eval_rmse)
    _LOG.info("ranking: eval RMSE %.4f after %d epochs; fitting anew on train + eval", eval_rmse, num_epochs)
    model = _built(build, fit, seed)
    epochs = _epochs(model, fit, settings, seed, whole_users)
    for number in range(1, num_epochs + 1):
        loss, rmse, rows_per_s = next(epochs)
        notes.append({"phase": "refit", "epoch": number, "train_rmse": rmse})
        _LOG.info("ranking refit: epoch %d/%d, loss %.4f, %.0f examples/s", number, num_epochs, loss, rows_per_s)
    return model, tuple(notes)


def batches(rows: Rows, batch_size: int, seed: int | None = None, whole_users: bool = False) -> tf.data.Dataset:
    """Columns [R] and [R, ...] -> batches of them; in another order each time where a seed is given.

    whole_users: the users are put in an order, and not their rows: but for those at its ends, a batch has all of them.
    """
    num_rows = len(rows[f.USER_RATING.name])
    columns = {name: tf.constant(values) for name, values in rows.items()}
    order = tf.data.Dataset.range(num_rows)
    if whole_users:
        user = rows[f.USER_INDEX.name]
        of_user = tf.RaggedTensor.from_value_rowids(np.argsort(user, kind="stable"), np.sort(user))
        users = tf.data.Dataset.from_tensor_slices(of_user).shuffle(int(of_user.nrows()), seed=seed)
        order = users.flat_map(tf.data.Dataset.from_tensor_slices)
    elif seed is not None:
        order = order.shuffle(num_rows, seed=seed)
    # Whole batches are gathered: a dataset of single rows would spend more time on them than the training step does.
    return order.batch(batch_size).map(lambda row: {name: tf.gather(values, row) for name, values in columns.items()})


def _built(build: Callable[[Rows], tfrs.Model], rows: Rows, seed: int) -> tfrs.Model:
    # Also of the order of the rows: a dataset's own seed is mixed with the seed that the process was left with.
    tf.keras.utils.set_random_seed(seed)
    with distribution.together():
        return build(rows)


class _Epoch(NamedTuple):
    """What one pass over the rows gave."""

    loss: float
    rmse: float
    """As the training saw the rows: with what it drops of them, before each step."""
    rows_per_s: float


def _epochs(
    model: tfrs.Model, rows: Rows, settings: RankingTraining, seed: int, whole_users: bool = False
) -> Iterator[_Epoch]:
    """Trains the model further, an epoch each time one is asked for."""
    num_rows = len(rows[f.USER_RATING.name])
    num_steps = -(-num_rows // settings.batch_size)
    # The same fall per epoch in tuning and refit, though the refit may stop before its end.
    rate = tf.keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, settings.max_epochs * num_steps, alpha=_LAST_RATE
    )
    with distribution.together():
        model.compile(optimizer=tf.keras.optimizers.Adam(rate, beta_2=0.99))
        # A step that makes no variables is traced once and not twice.
        model.optimizer.build(model.trainable_variables)
    dataset = batches(rows, settings.batch_size, seed, whole_users).prefetch(2)
    step = compiled_step(model, dataset)
    while True:
        start_s = time.perf_counter()
        model.reset_metrics()
        for batch in dataset:
            seen = step(batch)
        yield _Epoch(float(seen["mean_loss"]), float(seen["rmse"]), num_rows / (time.perf_counter() - start_s))


def _tuned_num_epochs(
    model: tfrs.Model, train: Rows, eval_rows: Rows, settings: RankingTraining, seed: int, whole_users: bool = False
) -> tuple[int, list[Note]]:
    """Trains for max_epochs; the number of epochs to train for, and a note of each."""
    judged = batches(eval_rows, _EVAL_BATCH).cache()
    judge = compiled_test_step(model, judged)
    epochs = _epochs(model, train, settings, seed, whole_users)
    notes: list[Note] = []
    for number in range(1, settings.max_epochs + 1):
        loss, train_rmse, rows_per_s = next(epochs)
        model.reset_metrics()
        for batch in judged:
            rmse = float(judge(batch)["rmse"])
        notes.append({"phase": "tuning", "epoch": number, "train_rmse": train_rmse, "eval_rmse": rmse})
        _LOG.info(
            "ranking tuning: epoch %d/%d, loss %.4f, eval RMSE %.4f, %.0f examples/s",
            number, settings.max_epochs, loss, rmse, rows_per_s,
        )  # fmt: skip
        if not math.isfinite(rmse):
            break
    errors = np.array([note["eval_rmse"] for note in notes], float)
    if not np.isfinite(errors).any():
        raise ValueError(
            "Training diverged: no epoch has a finite eval RMSE. Set a learning_rate below"
            f" {settings.learning_rate:g} in the ranking hyperparameters."
        )
    return chosen_epoch(errors), notes


def chosen_epoch(errors: np.ndarray) -> int:
    """From 1: the last, or an earlier one that is better by _WORTH_STOPPING.

    Args:
      errors: float [epochs], eval RMSE; a last one that is not finite is never chosen.
    """
    best = int(np.nanargmin(errors))
    return len(errors) if errors[-1] * (1.0 - _WORTH_STOPPING) <= errors[best] else best + 1
