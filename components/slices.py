"""By what evaluations slice: kinds of users and of movies. Both evaluations call them alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from components.evaluation_data import Ragged
from trainer_modules import features as f

NUM_DECILES = 10


def first_values(column: Ragged, name_of: Callable[[float], str], otherwise: Ragged | None = None) -> np.ndarray:
    """The first value of each row, named; "" where there is none here and none in `otherwise`.

    Args:
      column: R lists.
      name_of: a value's name.
      otherwise: R lists, looked at where the first are empty.

    Returns:
      object [R], strings.
    """
    known = column.lengths > 0
    names = np.full(len(known), "", dtype=object)
    names[known] = [name_of(value) for value in column.values[column.row_splits[:-1][known]]]
    if otherwise is not None:
        names = np.where(known, names, first_values(otherwise, name_of))
    return names


def age_group(years: float) -> str:
    """The name of ml-1m's age group: "0-17", "18-24", ... "56+"."""
    bounds = [0, *map(int, f.AGE_BOUNDARIES)]
    index = int(np.searchsorted(bounds, years, side="right")) - 1
    return f"{bounds[index]}-{bounds[index + 1] - 1}" if index + 1 < len(bounds) else f"{bounds[index]}+"


def popularity_deciles(num_fit_rows: np.ndarray) -> np.ndarray:
    """Into which tenth of the movies each belongs, by the number of its fit rows.

    Args:
      num_fit_rows: int [N], of each movie.

    Returns:
      int [N]: 1, the least rated tenth of the movies with fit rows, to 10, the most rated; equals are together, in the
      decile of the first of them. 0: a movie without fit rows.
    """
    rated = np.sort(num_fit_rows[num_fit_rows > 0])
    place = np.searchsorted(rated, num_fit_rows, side="left") / max(len(rated), 1)
    decile = 1 + np.minimum((NUM_DECILES * place).astype(int), NUM_DECILES - 1)
    return np.where(num_fit_rows > 0, decile, 0)
