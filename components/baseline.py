"""The last blessed model as an evaluation finds it: beside its SavedModel, a note of where it came from."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
from tfx.dsl.io import fileio

from components import evaluation_data
from trainer_modules import features

BASELINE_FILE = "baseline.json"
SAVED_MODEL_FOLDER = "Format-Serving"


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A model that the candidate must not fall behind."""

    saved_model_path: str
    version: str
    """The first version it was pushed under; "" where it never was."""
    user_state_uri: str
    """What it was fitted on."""


def find(uri: str) -> Baseline | None:
    """The baseline in a LastBlessed artifact's folder; None where it holds no model."""
    path = saved_model_path(uri)
    if not fileio.exists(f"{path}/saved_model.pb"):
        return None
    with fileio.open(f"{uri}/{BASELINE_FILE}") as file:
        origin = json.loads(file.read())
    return Baseline(path, origin["version"], origin["user_state_uri"])


def saved_model_path(model_uri: str) -> str:
    """The SavedModel of a Model artifact."""
    return f"{model_uri.rstrip('/')}/{SAVED_MODEL_FOLDER}"


def objection(baseline: Baseline, test_pairs: np.ndarray) -> str:
    """Why a candidate cannot be held to this baseline on these test rows; "" where it can.

    A model that was fitted on rows that are test rows today has seen the answers.

    Args:
      baseline: the last blessed model.
      test_pairs: bytes [R], evaluation_data.pairs of the test rows.
    """
    try:
        state = evaluation_data.read_user_states(baseline.user_state_uri, features.FIT_SPLITS)
    except ValueError as error:
        return f"shown, not gated on: what it was fitted on cannot be read ({error})"
    fit_pairs = evaluation_data.pairs(state.user_id[state.row_user], state.movie_id)
    num_known = int(np.isin(test_pairs, fit_pairs).sum())
    if num_known:
        return f"shown, not gated on: it was fitted on {num_known} of today's {len(test_pairs)} test rows"
    return ""


def cannot_answer(error: Exception) -> str:
    """The note of a baseline that failed when it was asked."""
    # TensorFlow begins with where, over many lines, and ends with what.
    words = " ".join(str(error).split())[-200:]
    return f"shown without figures, not gated on: it cannot answer today's requests ({type(error).__name__}: {words})"
