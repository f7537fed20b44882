"""The last blessed model as an evaluation finds it: beside its SavedModel, a note of where it came from."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
from tfx.dsl.io import fileio

from components import evaluation_data
from trainer_modules import features, fit_pairs

BASELINE_FILE = "baseline.json"
SAVED_MODEL_FOLDER = "Format-Serving"
MAX_KNOWN_SHARE = 0.01
"""Of the test rows. Learned by heart, that many lift NDCG by no more than itself."""


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A model that the candidate must not fall behind."""

    saved_model_path: str
    version: str
    """The first version it was pushed under; "" where it never was."""
    user_state_uri: str
    """What it was fitted on."""
    model_uri: str = ""
    """Of the artifact: beside the SavedModel stand hashes of the rows that it was fitted on."""


def find(uri: str) -> Baseline | None:
    """The baseline in a LastBlessed artifact's folder; None where it holds no model."""
    path = saved_model_path(uri)
    if not fileio.exists(f"{path}/saved_model.pb"):
        return None
    with fileio.open(f"{uri}/{BASELINE_FILE}") as file:
        origin = json.loads(file.read())
    return Baseline(path, origin["version"], origin["user_state_uri"], uri)


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
    num_known = num_fitted_on(baseline.model_uri, test_pairs)
    if num_known is None:
        try:
            state = evaluation_data.read_user_states(baseline.user_state_uri, features.FIT_SPLITS)
        except ValueError as error:
            return f"shown, not gated on: what it was fitted on cannot be read ({error})"
        known = evaluation_data.pairs(state.user_id[state.row_user], state.movie_id)
        num_known = int(np.isin(test_pairs, known).sum())
    if num_known:
        return f"shown, not gated on: it was fitted on {num_known} of today's {len(test_pairs)} test rows"
    return ""


def num_fitted_on(model_uri: str, test_pairs: np.ndarray) -> int | None:
    """How many of the test rows a model, or one it was warm-started from, was fitted on; None: it is not known."""
    known = fit_pairs.read(model_uri)
    return None if known is None else int(np.isin(fit_pairs.hashes(test_pairs), known).sum())


def warm_start(model_uri: str, test_pairs: np.ndarray) -> dict[str, Any] | None:
    """What a report says of a candidate that was fitted on test rows, by way of a warm start; None where it was not.

    Time alone does not make it: rows that were eval or train rows of an older, differently cut data set may be test
    rows today. A few of them (a rating that a user corrected) are told; more than MAX_KNOWN_SHARE are no test.

    Returns:
      {"num_known": test rows, "note": a line, "refused": bool}.
    """
    num_known = num_fitted_on(model_uri, test_pairs)
    if not num_known:
        return None
    share = num_known / len(test_pairs)
    note = f"its warm start had been fitted on {num_known} of today's {len(test_pairs)} test rows ({share:.2%})"
    return {"num_known": num_known, "note": note, "refused": share > MAX_KNOWN_SHARE}


def refusal(found: dict[str, Any] | None) -> list[str]:
    """Why a warm-started candidate is not blessed; nothing where it may be."""
    if not found or not found["refused"]:
        return []
    return [f"{found['note']}, and more than {MAX_KNOWN_SHARE:.0%} are no test: run it without --warm-start"]


def cannot_answer(error: Exception) -> str:
    """The note of a baseline that failed when it was asked."""
    # TensorFlow begins with where, over many lines, and ends with what.
    words = " ".join(str(error).split())[-200:]
    return f"shown without figures, not gated on: it cannot answer today's requests ({type(error).__name__}: {words})"
