"""What every retrieval family hands over, and what it is asked: score = query vector . candidate vector.

B requests, N candidates, D coordinates, L = HISTORY_LENGTH.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer_modules.snapshot import History


class Query(NamedTuple):
    """Users, and what is known of them."""

    user_index: tf.Tensor
    """int64 [B]; OOV_INDEX for a user without fit rows."""
    history: History
    """Ragged [B, None]: every row of the state, oldest first."""
    newest: History
    """[B, L]: the newest of them, padded on the left."""
    age_bucket: tf.Tensor
    """int64 [B, L]: features.HISTORY_AGE_BUCKET of the newest."""
    facts: tf.Tensor
    """int64 [B, 3]: features.USER_FACT_INDICES; OOV_INDEX for what is not known."""


class Towers(NamedTuple):
    """A trained family."""

    candidate_vectors: np.ndarray
    """float32 [N, D], in catalog order."""
    query_tower: tf.Module
    """Called with a Query and the candidate vectors as they lie in the served model, float32 [N, D]; gives float32
    [B, D]."""
    num_taste_coordinates: int | None = None
    """The first so many coordinates say what a movie is like: `similar` compares them. The rest says how good it is for
    everyone. None: all of them."""
    new_candidates: tf.Module | None = None
    """Gives movies that nobody has rated their vectors, as new_candidates.NewCandidates does; None: the family knows
    no movie that it was not fitted on, and its index cannot grow without a training."""
    epochs: tuple[dict[str, float | str], ...] = ()
    """What was measured after each epoch of tuning and of the refit, for the model run's folder."""
