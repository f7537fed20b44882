"""What every ranking family hands over: a scorer to be served, and a note of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import tensorflow as tf

from trainer_modules.epochs import Note


class Scorer(Protocol):
    """A fitted family: a tf.Module that holds all it needs, in variables, and stock operations only."""

    def __call__(self, query: Mapping[str, tf.Tensor], position: tf.Tensor) -> tf.Tensor:
        """Predicts stars.

        Args:
          query: the features of ranking_data.QUERY by name, [B] and [B, HISTORY_LENGTH]: what is known of each user.
          position: int32 [B, M], catalog positions, -1 for a movie that is not in the catalog.

        Returns:
          float32 [B, M], stars: finite; they are clipped to the rating range elsewhere.
        """


class Fitted(NamedTuple):
    """A family after its training."""

    scorer: Scorer
    """What is served."""
    epochs: tuple[Note, ...] = ()
    """For the learning curves."""
