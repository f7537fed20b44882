"""What both evaluations write: metrics.json, slices.csv, the blessing as TFX's Evaluator leaves it, a line to log."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfx import types
from tfx.dsl.io import fileio

METRICS_FILE = "metrics.json"
SLICES_FILE = "slices.csv"
BLESSED_FILE = "BLESSED"
NOT_BLESSED_FILE = "NOT_BLESSED"
LOWER_IS_BETTER = ("rmse", "mae")
ONE_IS_BEST = ("calibration",)

_LOG = logging.getLogger("movierec.evaluation")


def write_report(evaluation: types.Artifact, report: Mapping[str, Any]) -> None:
    """Writes metrics.json and slices.csv into the ModelEvaluation artifact's folder and tells the log the verdict.

    Args:
      evaluation: the artifact.
      report: {"model", "split", "num_queries" or "num_rows", "metrics": {name: value}, "baselines": {name: metrics},
        "last_blessed": {"version", "metrics", "gated", "note"} or None, "warm_start": {"num_known", "note", "refused"}
        or None, "slices": [{"slice", "num", "metrics", and maybe "beside": {name: metrics}}],
        "calibration_buckets" and "worst_slice", of ranking: ranking_figures and ranking_slices say what,
        "blessed": bool, "reasons": [one line per refusal]}.
    """
    fileio.makedirs(evaluation.uri)
    with fileio.open(f"{evaluation.uri}/{METRICS_FILE}", "w") as file:
        file.write(json.dumps(report, indent=1) + "\n")
    with fileio.open(f"{evaluation.uri}/{SLICES_FILE}", "w") as file:
        file.write(_slices_csv(report["slices"]))
    if report["blessed"]:
        _LOG.info("%s model blessed", report["model"])
    for reason in report["reasons"]:
        _LOG.warning("%s model not blessed: %s", report["model"], reason)


def _slices_csv(slices: Sequence[Mapping[str, Any]]) -> str:
    """One line for each slice and each model that was measured on it."""
    names = list(dict.fromkeys(name for part in slices for name in part["metrics"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["slice", "num", "model", *names], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for part in slices:
        for model, found in {"candidate": part["metrics"], **part.get("beside", {})}.items():
            writer.writerow({"slice": part["slice"], "num": part["num"], "model": model, **found})
    return text.getvalue()


def write_blessing(
    blessing: types.Artifact, model: types.Artifact, baseline: types.Artifact | None, blessed: bool
) -> None:
    """Marks a ModelBlessing artifact as TFX's Evaluator does, so that its Pusher and resolvers understand it.

    Args:
      blessing: the artifact; a verdict that stands there already is replaced.
      model: the candidate.
      baseline: what it was compared with, or None.
      blessed: the verdict.
    """
    blessing.set_string_custom_property("current_model", model.uri)
    blessing.set_int_custom_property("current_model_id", model.id)
    if baseline is not None:
        blessing.set_string_custom_property("baseline_model", baseline.uri)
        blessing.set_int_custom_property("baseline_model_id", baseline.id)
    blessing.set_int_custom_property("blessed", int(blessed))
    fileio.makedirs(blessing.uri)
    for name, wanted in ((BLESSED_FILE, blessed), (NOT_BLESSED_FILE, not blessed)):
        path = f"{blessing.uri}/{name}"
        if wanted:
            with fileio.open(path, "w") as file:
                file.write("")
        elif fileio.exists(path):
            fileio.remove(path)


def is_blessed(blessing: types.Artifact) -> bool:
    """The verdict of a ModelBlessing or InfraBlessing artifact."""
    return blessing.get_int_custom_property("blessed") == 1


def outside_corridor(metrics: Mapping[str, float], gates: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """One line for every gated metric that is missing, not a number, below its `min` or above its `max`.

    One of the two bounds asks for quality; the other is there because a figure that is too good is a leak.

    Args:
      metrics: name -> value.
      gates: name -> {"min": value or None, "max": value or None}; a bound that is None or absent does not bind.
    """
    return [line for name, gate in gates.items() for line in _outside(name, metrics.get(name), gate)]


def _outside(name: str, value: float | None, gate: Mapping[str, float | None]) -> Iterable[str]:
    low, high = gate.get("min"), gate.get("max")
    too_low, too_high = "not good enough", "too good to be true, look for a leak"
    if name in LOWER_IS_BETTER:
        too_low, too_high = too_high, too_low
    if name in ONE_IS_BEST:
        too_high = too_low
    if value is None:
        yield f"{name} is gated but was not measured"
    elif math.isnan(value):
        yield f"{name} is not a number"
    elif low is not None and value < low:
        yield f"{name} {value:.4f} is below its gate of {low:g}: {too_low}"
    elif high is not None and value > high:
        yield f"{name} {value:.4f} is above its gate of {high:g}: {too_high}"
