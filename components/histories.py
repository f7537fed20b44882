"""What a rating example may know of its user's past, by index arithmetic over whole columns.

A train row sees the user's earlier train rows; an eval row all of the user's train rows; a test row the train and
eval rows. Nothing of its own held-out split or a later one, and never itself.

In a split that time has no part in, a train row sees the user's other train rows, later ones too: eval and test rows
see rows of any time there, and a history in training has to look like theirs.
"""

from __future__ import annotations

import numpy as np

from components.splits import EVAL_CODE, TEST_CODE, TRAIN_CODE

PADDING = -1
"""In place of a row where the past is shorter than the history."""


class PastRows:
    """The past of every row of a set of whole users."""

    def __init__(self, user_index: np.ndarray, split: np.ndarray, is_timeless: bool = False) -> None:
        """Args:
        user_index: int [R], rising: rows stand user by user, oldest first (by timestamp, then source line).
        split: int8 [R], codes of components.splits.
        is_timeless: whether the split goes without regard to time.
        """
        self._is_timeless = is_timeless
        is_first = np.diff(user_index, prepend=-1) != 0
        starts = np.flatnonzero(is_first)
        ends = np.append(starts[1:], len(user_index))
        which = np.cumsum(is_first) - 1
        self._user_start, self._user_end = starts[which], ends[which]
        self._train = _Subset(split == TRAIN_CODE)
        self._fit = _Subset((split == TRAIN_CODE) | (split == EVAL_CODE))

    def newest(self, rows: np.ndarray, split_code: int, length: int) -> np.ndarray:
        """The newest rows that each of these may know.

        Args:
          rows: int [B], all of one split.
          split_code: that split.
          length: H.

        Returns:
          int64 [B, H], oldest first, padded with PADDING on the left.
        """
        known = self._fit if split_code == TEST_CODE else self._train
        until = rows if split_code == TRAIN_CODE and not self._is_timeless else self._user_end[rows]
        begin, end = known.num_before[self._user_start[rows]], known.num_before[until]
        ordinal = end[:, np.newaxis] + np.arange(-length, 0)
        if split_code == TRAIN_CODE and self._is_timeless:
            # The row itself is left out: it and what is older move up by one.
            ordinal -= ordinal <= known.num_before[rows][:, np.newaxis]
        is_known = ordinal >= begin[:, np.newaxis]
        if not known.rows.size:
            return np.full(ordinal.shape, PADDING)
        return np.where(is_known, known.rows[np.where(is_known, ordinal, 0)], PADDING)


class _Subset:
    """Some of the rows: where they stand, and for every row (and the end) how many of them stand before it."""

    def __init__(self, is_member: np.ndarray) -> None:
        self.rows = np.flatnonzero(is_member)
        self.num_before = np.concatenate([[0], np.cumsum(is_member)])
