"""RetrievalEvaluation: the candidate on the test split, beside popularity and the last blessed model, and its blessing.

The Evaluator of TFX would do it in half a minute to a minute; ranking every movie for every user takes seconds.
"""

from __future__ import annotations

import json
import logging
import posixpath
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from components import baseline as baselines_of
from components import evaluation_data, evaluation_report, retrieval_protocol, retrieval_slices
from components.evaluation_data import Catalog, Ragged
from components.retrieval_protocol import Queries
from trainer_modules import baselines, contract, features, metrics

GATED = "ndcg_at_10"
"""What popularity and the last blessed model must be beaten in."""
RECENT_HALF_LIFE_DAYS = 3.0
LAST_BLESSED = "last_blessed"
NEVER_BLESSED = ("popularity",)
"""Families that are the baselines themselves, whatever their half-life."""

_LOG = logging.getLogger("movierec.evaluation")


class RetrievalEvaluationSpec(component_spec.ComponentSpec):
    """Model and data in, evaluation and blessing out."""

    PARAMETERS: ClassVar = {
        "gates": component_spec.ExecutionParameter(type=str),
        "family": component_spec.ExecutionParameter(type=str, optional=True),
        "code": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "catalog": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "user_state": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS: ClassVar = {
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class Executor(base_executor.BaseExecutor):
    """Measures, judges, writes metrics.json and the blessing."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        model = artifact_utils.get_single_instance(input_dict["model"])
        last_blessed = next(iter(input_dict.get("baseline_model") or ()), None)
        report = evaluate(
            saved_model_path=baselines_of.saved_model_path(model.uri),
            baseline=baselines_of.find(last_blessed.uri) if last_blessed else None,
            examples_uri=artifact_utils.get_single_uri(input_dict["examples"]),
            catalog_uri=artifact_utils.get_single_uri(input_dict["catalog"]),
            user_state_uri=artifact_utils.get_single_uri(input_dict["user_state"]),
            gates=json.loads(exec_properties["gates"]),
            family=exec_properties.get("family") or "",
        )
        evaluation_report.write_report(artifact_utils.get_single_instance(output_dict["evaluation"]), report)
        evaluation_report.write_blessing(
            artifact_utils.get_single_instance(output_dict["blessing"]),
            model,
            last_blessed if report["last_blessed"] else None,
            report["blessed"],
        )


def evaluate(
    saved_model_path: str,
    baseline: baselines_of.Baseline | None,
    examples_uri: str,
    catalog_uri: str,
    user_state_uri: str,
    gates: Mapping[str, Mapping[str, float | None]],
    family: str = "",
) -> dict[str, Any]:
    """Measures and judges a model on the test split.

    Args:
      saved_model_path: the candidate.
      baseline: the last blessed model, or None.
      examples_uri: rating examples; only the test split is read.
      catalog_uri: what is ranked.
      user_state_uri: only the splits train and eval are read.
      gates: metric -> {"min", "max"}.
      family: of the candidate; one of NEVER_BLESSED is measured and refused.

    Returns:
      The content of metrics.json (evaluation_report.write_report) and "users_per_s"; "intervals": metric -> low and
      high end of the candidate's, "differences": popularity, recent_popularity and last_blessed -> metric -> mean, low
      and high end of candidate less that, all of 95 % and paired over users; and the last blessed model's record also
      holds "difference", that in GATED.
    """
    catalog = evaluation_data.read_catalog(catalog_uri)
    queries = retrieval_protocol.read_queries(examples_uri, user_state_uri, catalog)
    seen = retrieval_protocol.seen_positions(queries, catalog)
    started_s = time.monotonic()
    recommended = retrieval_protocol.recommend(saved_model_path, queries, catalog)
    users_per_s = len(queries.user_id) / (time.monotonic() - started_s)
    measured = retrieval_protocol.measure(recommended, queries.positives)

    position = catalog.positions(queries.states.movie_id)
    timestamp = queries.states.timestamp[position >= 0]
    position = position[position >= 0]
    popular = baselines.popularity(position, catalog.num_movies)
    recent = baselines.recent_popularity(position, timestamp, catalog.num_movies, RECENT_HALF_LIFE_DAYS)
    lists, floor, differences = {"candidate": recommended}, {}, {}
    for name, score in (("popularity", popular), ("recent_popularity", recent)):
        lists[name] = retrieval_protocol.recommend_by_score(score, queries, seen)
        of_score = retrieval_protocol.measure(lists[name], queries.positives)
        floor[name] = _summary(lists[name], of_score, catalog)
        differences[name] = _difference(measured, of_score)

    candidate = _summary(recommended, measured, catalog)
    movie_id = catalog.movie_id[queries.positives.values]
    test_pairs = evaluation_data.pairs(np.repeat(queries.user_id, queries.positives.lengths), movie_id)
    warm_start = baselines_of.warm_start(posixpath.dirname(saved_model_path), test_pairs)
    compared = None
    if baseline:
        compared, differences[LAST_BLESSED], of_baseline = _compare(baseline, measured, queries, catalog, test_pairs)
        lists |= {} if of_baseline is None else {LAST_BLESSED: of_baseline}
    reasons = [
        *([f"the family {family} is a baseline and is never blessed"] if family in NEVER_BLESSED else []),
        *_faults(recommended, seen),
        *evaluation_report.outside_corridor(candidate, gates),
        *(
            f"{GATED} {candidate[GATED]:.4f} does not beat {name}'s {value[GATED]:.4f}"
            for name, value in floor.items()
            if not candidate[GATED] > value[GATED]
        ),
        *_worse_than_baseline(compared),
        *baselines_of.refusal(warm_start),
    ]
    shown = {"candidate": candidate, **floor} | ({LAST_BLESSED: compared["metrics"]} if compared else {})
    _LOG.info(
        "retrieval, %d test users, NDCG@10: %s",
        len(queries.user_id),
        ", ".join(f"{name} {value[GATED]:.4f}" for name, value in shown.items() if value),
    )
    return {
        "model": contract.RETRIEVAL,
        "split": features.TEST,
        "num_queries": len(queries.user_id),
        "metrics": candidate,
        "baselines": floor,
        "last_blessed": compared,
        "warm_start": warm_start,
        "intervals": _interval(measured),
        "differences": {name: found for name, found in differences.items() if found},
        "slices": retrieval_slices.slices(lists, queries, catalog, catalog_uri, popular.astype(int)),
        "blessed": not reasons,
        "reasons": reasons,
        "users_per_s": round(users_per_s, 1),
    }


def _summary(recommended: np.ndarray, measured: dict[str, np.ndarray], catalog: Catalog) -> dict[str, float]:
    return {
        **retrieval_protocol.summary(measured),
        retrieval_protocol.COVERAGE: metrics.coverage_at_k(recommended, catalog.num_movies, 10),
        retrieval_protocol.GINI: metrics.gini_at_k(recommended, catalog.num_movies, 10),
    }


def _interval(measured: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Metric -> low and high end."""
    low, high = retrieval_protocol.bootstrap_interval(np.stack(list(measured.values()), axis=1))
    return {name: {"low": float(low[n]), "high": float(high[n])} for n, name in enumerate(measured)}


def _difference(measured: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Metric -> mean, low and high end of candidate less other, user by user."""
    difference = {name: measured[name] - other[name] for name in measured}
    return {
        name: {"mean": float(difference[name].mean()), **ends} for name, ends in _interval(difference).items()
    }


def _compare(
    baseline: baselines_of.Baseline,
    measured: dict[str, np.ndarray],
    queries: Queries,
    catalog: Catalog,
    test_pairs: np.ndarray,
) -> tuple[dict[str, Any], dict[str, dict[str, float]], np.ndarray | None]:
    """The last blessed model on the same queries: its record, the differences, its lists."""
    try:
        recommended = retrieval_protocol.recommend(baseline.saved_model_path, queries, catalog)
    except Exception as error:  # whatever is wrong with an old model must not keep a new one back
        note = baselines_of.cannot_answer(error)
        return {"version": baseline.version, "metrics": {}, "gated": False, "note": note, "difference": None}, {}, None
    of_baseline = retrieval_protocol.measure(recommended, queries.positives)
    differences = _difference(measured, of_baseline)
    note = baselines_of.objection(baseline, test_pairs)
    record = {
        "version": baseline.version,
        "metrics": _summary(recommended, of_baseline, catalog),
        "gated": not note,
        "note": note,
        "difference": differences[GATED],
    }
    return record, differences, recommended


def _worse_than_baseline(compared: dict[str, Any] | None) -> list[str]:
    if not compared or not compared["gated"] or compared["difference"]["high"] >= 0:
        return []
    difference, name = compared["difference"], compared["version"] or "never pushed"
    return [
        f"{GATED} is {-difference['mean']:.4f} below the last blessed model's (version {name}), beyond noise: the 95 %"
        f" interval of the difference is {difference['low']:.4f} to {difference['high']:.4f}"
    ]


def _faults(recommended: np.ndarray, seen: Ragged) -> list[str]:
    """Lists that break the protocol: their metrics would mean nothing."""
    faults = []
    num_seen = int(metrics.hits(recommended, seen.values, seen.row_splits).any(axis=1).sum())
    if num_seen:
        faults.append(f"{num_seen} of {len(recommended)} lists show what the user has already seen")
    ordered = np.sort(recommended, axis=1)
    num_repeating = int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1).sum())
    if num_repeating:
        faults.append(f"{num_repeating} of {len(recommended)} lists name a movie twice")
    return faults


class RetrievalEvaluation(base_component.BaseComponent):
    """Outputs `evaluation` (metrics.json) and `blessing`, a ModelBlessing as TFX's own Evaluator writes it."""

    SPEC_CLASS = RetrievalEvaluationSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        catalog: types.BaseChannel,
        user_state: types.BaseChannel,
        baseline_model: types.BaseChannel | None = None,
        gates: str | Mapping[str, Mapping[str, float | None]] = "{}",
        family: str = "",
        code: str = "",
    ):
        """Makes the component.

        Args:
          model: the candidate.
          examples: rating examples; their test split is the judge.
          catalog: one example per movie: what is ranked.
          user_state: one example per user and split.
          baseline_model: output of LastBlessed.
          gates: metric -> {"min", "max"}, or that as JSON. Whatever they say, the candidate must beat popularity and
            recent popularity and not be worse than the baseline.
          family: of the candidate.
          code: digest of the code behind this component, for the cache.
        """
        spec = RetrievalEvaluationSpec(
            model=model,
            baseline_model=baseline_model,
            examples=examples,
            catalog=catalog,
            user_state=user_state,
            gates=gates if isinstance(gates, str) else json.dumps(gates, sort_keys=True),
            family=family,
            code=code,
            evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)
