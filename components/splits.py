"""Which rating is for training, which for tuning, which for the test: pure functions of whole columns.

A split is a code: 0 train, 1 eval, 2 test, the positions in features.SPLITS.
"""

from __future__ import annotations

import numpy as np

from components.errors import InputError
from trainer_modules.features import EVAL, SPLITS, TEST, TRAIN

LEAVE_LAST_OUT = "leave_last_out"
GLOBAL_TIME = "global_time"
RANDOM = "random"
NAMES = (LEAVE_LAST_OUT, GLOBAL_TIME, RANDOM)
TIMELESS = (RANDOM,)
"""Splits that go without regard to time."""

EVAL_FRACTION = 0.1
TEST_FRACTION = 0.1
"""Of the rows, in the splits that do not go by user."""

TRAIN_CODE, EVAL_CODE, TEST_CODE = SPLITS.index(TRAIN), SPLITS.index(EVAL), SPLITS.index(TEST)


def assign(
    name: str, *, user_index: np.ndarray, timestamp: np.ndarray, source_line: np.ndarray, seed: int
) -> np.ndarray:
    """The split of every row.

    Args:
      name: one of NAMES.
      user_index: int [N], which user, from 0.
      timestamp: int64 [N], seconds.
      source_line: int64 [N], no two alike.
      seed: of the random split; the others need none.

    Returns:
      int8 [N], codes.

    Raises:
      InputError: there is no split of that name.
    """
    if name == LEAVE_LAST_OUT:
        return leave_last_out(user_index, timestamp, source_line)
    if name == GLOBAL_TIME:
        return global_time(timestamp, source_line)
    if name == RANDOM:
        return random(source_line, seed)
    raise InputError(f"There is no split {name!r}. Choose one of: {', '.join(NAMES)}.")


def leave_last_out(user_index: np.ndarray, timestamp: np.ndarray, source_line: np.ndarray) -> np.ndarray:
    """Each user's last row by (timestamp, source line) is test, the one before it eval, all others train.

    A user with two rows has one for training and one for the test; one with a single row is in training alone.

    Args:
      user_index: int [N], which user, from 0.
      timestamp: int64 [N], seconds.
      source_line: int64 [N], breaks ties of equal timestamps.

    Returns:
      int8 [N], codes.
    """
    order = np.lexsort((source_line, timestamp, user_index))
    user_sorted = user_index[order]
    num_rows = np.bincount(user_index)[user_sorted] if len(user_index) else np.zeros(0, int)
    num_later = np.searchsorted(user_sorted, user_sorted, side="right") - 1 - np.arange(len(order))
    codes = np.full(len(order), TRAIN_CODE, np.int8)
    codes[(num_later == 0) & (num_rows >= 2)] = TEST_CODE
    codes[(num_later == 1) & (num_rows >= 3)] = EVAL_CODE
    result = np.empty_like(codes)
    result[order] = codes
    return result


def global_time(timestamp: np.ndarray, source_line: np.ndarray) -> np.ndarray:
    """The oldest eight tenths of all rows by (timestamp, source line) are train, the next tenth eval, the newest test.

    Nothing that is fitted then lies in the future of what is held out. Many held-out users have no earlier row.

    Args:
      timestamp: int64 [N], seconds.
      source_line: int64 [N], breaks ties of equal timestamps.

    Returns:
      int8 [N], codes.
    """
    num_rows = len(timestamp)
    num_fit = round((1 - TEST_FRACTION) * num_rows)
    num_train = round((1 - TEST_FRACTION - EVAL_FRACTION) * num_rows)
    oldest_first = np.lexsort((source_line, timestamp))
    codes = np.full(num_rows, TEST_CODE, np.int8)
    codes[oldest_first[:num_fit]] = EVAL_CODE
    codes[oldest_first[:num_train]] = TRAIN_CODE
    return codes


def random(source_line: np.ndarray, seed: int) -> np.ndarray:
    """A tenth of the rows, drawn at random, is test, another tenth eval, whatever the users and times.

    Args:
      source_line: int64 [N]; the draw goes by the order of the lines, not of the rows given.
      seed: another seed, another draw.

    Returns:
      int8 [N], codes.
    """
    num_rows = len(source_line)
    drawn = np.argsort(source_line, kind="stable")[np.random.default_rng(seed).permutation(num_rows)]
    num_test, num_eval = round(TEST_FRACTION * num_rows), round(EVAL_FRACTION * num_rows)
    codes = np.full(num_rows, TRAIN_CODE, np.int8)
    codes[drawn[:num_test]] = TEST_CODE
    codes[drawn[num_test : num_test + num_eval]] = EVAL_CODE
    return codes
