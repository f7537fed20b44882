"""How a ranking model is measured: RMSE and MAE in stars on the test split, by TFMA; and what it has to beat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma

from components import evaluation_data
from components.evaluation_report import outside_corridor
from trainer_modules import baselines, contract, features, metrics

MARGIN = 0.01
"""Share by which the RMSE may exceed the last blessed model's: no more than another seed of the same model moves it."""
SLICED_BY = (features.USER_GENDER, features.MOVIE_GENRES)
_MSE, _MAE, _COUNT = "mean_squared_error", "mean_absolute_error", "example_count"


def eval_config(gates: Mapping[str, Mapping[str, float | None]]) -> tfma.EvalConfig:
    """What TFMA measures and checks. Thresholds bind the whole split; slices are only shown.

    Args:
      gates: "rmse" and "mae" -> {"min", "max"}, stars. TFMA checks the squared error in the root's place.
    """
    squared = {bound: None if value is None else value**2 for bound, value in gates.get("rmse", {}).items()}
    not_worse = tfma.GenericChangeThreshold(
        relative={"value": (1 + MARGIN) ** 2 - 1}, direction=tfma.MetricDirection.LOWER_IS_BETTER
    )
    measured = [
        _metric("MeanSquaredError", tfma.MetricThreshold(value_threshold=_bounds(squared), change_threshold=not_worse)),
        _metric("MeanAbsoluteError", tfma.MetricThreshold(value_threshold=_bounds(gates.get("mae", {})))),
        tfma.MetricConfig(class_name="ExampleCount"),
    ]
    model = tfma.ModelSpec(
        signature_name=contract.SERVING_DEFAULT,
        label_key=features.USER_RATING.name,
        model_type="tf_generic",  # else TFMA tries to load it as a Keras model first
    )
    return tfma.EvalConfig(
        model_specs=[model],
        slicing_specs=[tfma.SlicingSpec(), *(tfma.SlicingSpec(feature_keys=[feature.name]) for feature in SLICED_BY)],
        metrics_specs=[tfma.MetricsSpec(metrics=measured)],
    )


def without_change_thresholds(config: tfma.EvalConfig) -> tfma.EvalConfig:
    """The same, but the baseline is only shown."""
    shown = tfma.EvalConfig()
    shown.CopyFrom(config)
    for spec in shown.metrics_specs:
        for metric in spec.metrics:
            for one in metric.per_slice_thresholds:
                one.threshold.ClearField("change_threshold")
    return shown


def results(evaluation_uri: str, model_name: str) -> list[dict[str, Any]]:
    """TFMA's figures of one model: [{"slice", "num", "metrics": {"rmse", "mae"}}], the whole split first, named "".

    Args:
      evaluation_uri: where TFMA wrote.
      model_name: tfma.CANDIDATE_KEY or tfma.BASELINE_KEY; "" where TFMA measured a single model.
    """
    found = []
    for key, by_output in tfma.load_eval_result(evaluation_uri, model_name=model_name).slicing_metrics:
        value = {name: float(one["doubleValue"]) for name, one in by_output[""][""].items()}
        found.append(
            {
                "slice": ",".join(f"{column}={cell}" for column, cell in key),
                "num": int(value[_COUNT]),
                "metrics": {"rmse": math.sqrt(value[_MSE]), "mae": value[_MAE]},
            }
        )
    return sorted(found, key=lambda part: part["slice"])


def floor(rows: Mapping[str, np.ndarray], catalog_uri: str, user_state_uri: str) -> dict[str, dict[str, float]]:
    """What needs no model: the mean of the fit rows, and that mean with a bias per user and movie.

    Args:
      rows: the test rows' user_id, movie_id and user_rating, each [R].
      catalog_uri: names the movies.
      user_state_uri: the splits train and eval are the fit rows.

    Returns:
      {"bias": {"rmse", "mae"}, "mean": ...}, clipped to the range of the fit rows' stars.
    """
    catalog = evaluation_data.read_catalog(catalog_uri)
    states = evaluation_data.read_user_states(user_state_uri, features.FIT_SPLITS)
    movie = catalog.positions(states.movie_id)
    known = movie >= 0
    fitted = baselines.fit_biases(
        states.row_user[known], movie[known], states.rating[known], len(states.user_id), catalog.num_movies
    )
    stars = rows[features.USER_RATING.name]
    by_bias = fitted.predict(
        states.users(rows[features.USER_ID.name]), catalog.positions(rows[features.MOVIE_ID.name])
    )
    by_bias = np.clip(by_bias, states.rating.min(), states.rating.max())
    predicted = {"bias": by_bias, "mean": np.full(len(stars), fitted.mean)}
    return {
        name: {"rmse": metrics.rmse(stars, value), "mae": metrics.mae(stars, value)}
        for name, value in predicted.items()
    }


def refusals(
    candidate: Mapping[str, float],
    bias: Mapping[str, float],
    last_blessed: Mapping[str, Any] | None,
    gates: Mapping[str, Mapping[str, float | None]],
) -> list[str]:
    """One line for each reason not to bless.

    Args:
      candidate: {"rmse", "mae"}.
      bias: the same of biases alone.
      last_blessed: the same under "metrics", "version" and whether it is "gated"; or None.
      gates: as in eval_config.
    """
    lines = outside_corridor(candidate, gates)
    if not candidate["rmse"] < bias["rmse"]:
        lines.append(f"rmse {candidate['rmse']:.4f} does not beat biases alone, {bias['rmse']:.4f}")
    if last_blessed and last_blessed["gated"]:
        before = last_blessed["metrics"]["rmse"]
        if candidate["rmse"] > before * (1 + MARGIN):
            lines.append(
                f"rmse {candidate['rmse']:.4f} is more than {MARGIN:.0%} above the last blessed model's {before:.4f}"
                f" (version {last_blessed['version'] or 'never pushed'})"
            )
    return lines


def not_explained(evaluation_uri: str) -> list[str]:
    """What TFMA's own validation found wrong, in its words; empty where it found nothing."""
    validation = tfma.load_validation_result(evaluation_uri)
    if validation.validation_ok:
        return []
    failures = [one for part in validation.metric_validations_per_slice for one in part.failures]
    words = [f"{one.metric_key.name} {one.metric_value.double_value.value:.4f} {one.message}" for one in failures]
    return [f"TensorFlow Model Analysis did not validate it: {'; '.join(words) or 'no metric was computed'}"]


def _bounds(gate: Mapping[str, float | None]) -> tfma.GenericValueThreshold:
    # TFX judges nothing where no threshold stands; 0, which no error is below, always does.
    low, high = gate.get("min"), gate.get("max")
    threshold = tfma.GenericValueThreshold(lower_bound={"value": low or 0.0})
    if high is not None:
        threshold.upper_bound.value = high
    return threshold


def _metric(class_name: str, threshold: tfma.MetricThreshold) -> tfma.MetricConfig:
    # A plain threshold would bind every slice.
    overall = tfma.PerSliceMetricThreshold(slicing_specs=[tfma.SlicingSpec()], threshold=threshold)
    return tfma.MetricConfig(class_name=class_name, per_slice_thresholds=[overall])
