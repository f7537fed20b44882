"""How far a training is, on the log and for the learning curves: errors on the rows it is fitted on and on eval."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import numpy as np

from trainer_modules import metrics
from trainer_modules.epochs import Note
from trainer_modules.rating_matrix import RatingMatrix

_LOG = logging.getLogger("movierec.ranking")

TUNING, REFIT = "tuning", "refit"

Predict = Callable[[RatingMatrix], np.ndarray]
"""The users and movies of T cells -> float [T], stars, unclipped."""


def predict_from(stars: np.ndarray) -> Predict:
    """Reads the predictions off a filled-in matrix, [U, N] or with more rows and columns behind."""
    return lambda cells: stars[cells.user, cells.movie]


class Watch:
    """Notes a phase of a training."""

    def __init__(
        self,
        last: int,
        fitted: RatingMatrix,
        held_out: RatingMatrix | None,
        rating_range: tuple[float, float],
        unit: str = "epoch",
    ) -> None:
        """Begins a phase.

        Args:
          last: number of the last epoch or step.
          fitted: the cells it is fitted on.
          held_out: the eval cells while tuning, None in the refit.
          rating_range: fewest and most stars, to which predictions are clipped.
          unit: what is counted.
        """
        self.notes: list[Note] = []
        self._last, self._unit, self._range = last, unit, rating_range
        self._fitted, self._held_out = fitted, held_out
        self._start_s = time.monotonic()

    def error(self, predict: Predict, cells: RatingMatrix) -> float:
        """RMSE of clipped predictions, in stars."""
        return metrics.rmse(cells.stars, np.clip(predict(cells), *self._range))

    def __call__(self, number: int, predict: Predict) -> float:
        """Notes what there is after so many epochs or steps; the RMSE on eval, NaN in a refit."""
        note: Note = {"phase": REFIT if self._held_out is None else TUNING, "epoch": number}
        train_rmse = note["train_rmse"] = self.error(predict, self._fitted)
        eval_rmse, told = math.nan, ""
        if self._held_out is not None:
            eval_rmse = note["eval_rmse"] = self.error(predict, self._held_out)
            told = f", eval RMSE {eval_rmse:.4f}"
        self.notes.append(note)
        rows_per_s = number * len(self._fitted.stars) / max(time.monotonic() - self._start_s, 1e-9)
        _LOG.info(
            "ranking %s: %s %d/%d, train RMSE %.4f%s, %.0f examples/s",
            note["phase"], self._unit, number, self._last, train_rmse, told, rows_per_s,
        )  # fmt: skip
        return eval_rmse
