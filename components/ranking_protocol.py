"""How a ranking model is judged: RMSE and MAE in stars on the test split, by TFMA; and what it has to beat."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma

from components import ranking_figures, ranking_slices
from components.evaluation_data import Catalog, UserStates
from components.evaluation_report import outside_corridor
from trainer_modules import baselines, contract, features

MARGIN = 0.01
"""Share by which the RMSE may exceed the last blessed model's: no more than another seed of the same model moves it."""
WORST_SLICE_LIMIT = 1.25
"""How many times the whole's RMSE a slice's may be, where the gates do not say. Seen on ml-100k: 1.14 (films of the
fourth decile, fold u1), 1.12 (users of 18 to 24, global_time) and 1.06 (women, leave_last_out), and about the same of
biases alone."""
_MSE, _MAE, _COUNT = "mean_squared_error", "mean_absolute_error", "example_count"


def eval_config(gates: Mapping[str, Mapping[str, float | None]]) -> tfma.EvalConfig:
    """What TFMA measures and checks of the whole split.

    Args:
      gates: "rmse" and "mae" -> {"min", "max"}, stars. TFMA checks the squared error in the root's place. Other metrics
        are not TFMA's to check.
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
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[tfma.MetricsSpec(metrics=measured)],
    )


def with_everything(config: tfma.EvalConfig, max_stars: float) -> tfma.EvalConfig:
    """The same and all that TFMA can tell, on every slice; for the examples of ranking_slices.write_examples.

    Its NDCG counts 1 for a user with one test row; the slice LISTED = yes is without them, as ours is.

    Args:
      config: from eval_config.
      max_stars: of the calibration plot.
    """
    full = tfma.EvalConfig()
    full.CopyFrom(config)
    for kind in ranking_slices.KINDS:
        full.slicing_specs.add(feature_keys=[ranking_slices.feature_key(kind)])
    plot = {"num_buckets": math.ceil(max_stars / ranking_figures.BUCKET_STARS), "left": 0.0, "right": max_stars}
    for class_name, settings in (
        ("Calibration", {}), ("MeanPrediction", {}), ("MeanLabel", {}), ("SquaredPearsonCorrelation", {}),
        ("CalibrationPlot", plot),
    ):  # fmt: skip
        full.metrics_specs[0].metrics.add(class_name=class_name, config=json.dumps(settings))
    ordered = {"gain_key": ranking_slices.GAIN, "top_k_list": [ranking_figures.LIST_LENGTH]}
    ndcg = tfma.MetricConfig(class_name="NDCG", config=json.dumps(ordered))
    full.metrics_specs.append(tfma.MetricsSpec(metrics=[ndcg], query_key=features.USER_ID.name))
    return full


def without_change_thresholds(config: tfma.EvalConfig) -> tfma.EvalConfig:
    """The same, but the baseline is only shown."""
    shown = tfma.EvalConfig()
    shown.CopyFrom(config)
    for spec in shown.metrics_specs:
        for metric in spec.metrics:
            for one in metric.per_slice_thresholds:
                one.threshold.ClearField("change_threshold")
    return shown


def whole(evaluation_uri: str, model_name: str) -> dict[str, float]:
    """TFMA's figures of one model on the whole split: {"num" (rows), "rmse", "mae" (stars)}.

    Args:
      evaluation_uri: where TFMA wrote.
      model_name: tfma.CANDIDATE_KEY or tfma.BASELINE_KEY; "" where TFMA measured a single model.
    """
    measured = dict(tfma.load_eval_result(evaluation_uri, model_name=model_name).slicing_metrics)[()]
    value = {name: float(one["doubleValue"]) for name, one in measured[""][""].items()}
    return {"num": value[_COUNT], "rmse": math.sqrt(value[_MSE]), "mae": value[_MAE]}


def floor(rows: Mapping[str, np.ndarray], catalog: Catalog, states: UserStates) -> dict[str, np.ndarray]:
    """What needs no model: the mean of the fit rows, and that mean with a bias per user and movie.

    Args:
      rows: the test rows' user_id and movie_id, each [R].
      catalog: names the movies.
      states: the fit rows.

    Returns:
      {"bias": [R], "mean": [R]}, predicted stars, clipped to the range of the fit rows' stars.
    """
    movie = catalog.positions(states.movie_id)
    known = movie >= 0
    fitted = baselines.fit_biases(
        states.row_user[known], movie[known], states.rating[known], len(states.user_id), catalog.num_movies
    )
    by_bias = fitted.predict(
        states.users(rows[features.USER_ID.name]), catalog.positions(rows[features.MOVIE_ID.name])
    )
    by_bias = np.clip(by_bias, states.rating.min(), states.rating.max())
    return {"bias": by_bias, "mean": np.full(len(by_bias), fitted.mean)}


def refusals(
    candidate: Mapping[str, float],
    bias: Mapping[str, float],
    last_blessed: Mapping[str, Any] | None,
    worst: Mapping[str, Any] | None,
    gates: Mapping[str, Mapping[str, float | None]],
) -> list[str]:
    """One line for each reason not to bless.

    Args:
      candidate: ranking_figures.figures.
      bias: the same of biases alone.
      last_blessed: the same under "metrics", "version" and whether it is "gated"; or None.
      worst: from ranking_slices.worst.
      gates: any of the candidate's metrics -> {"min", "max"}.
    """
    lines = outside_corridor(
        candidate, {name: gate for name, gate in gates.items() if name != ranking_slices.WORST_SLICE}
    )
    if worst and worst["limit"] is not None and not worst["ratio"] <= worst["limit"]:
        lines.append(
            f"rmse {worst['rmse']:.4f} of the {worst['num']} rows with {worst['slice']} is {worst['ratio']:.2f} times"
            f" the whole's; the limit is {worst['limit']:g}"
        )
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


def slice_limit(gates: Mapping[str, Mapping[str, float | None]]) -> float | None:
    """How many times the whole's RMSE a slice's may be; None: it is not bounded."""
    return gates.get(ranking_slices.WORST_SLICE, {}).get("max", WORST_SLICE_LIMIT)


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
