"""RankingEvaluation: TFX's Evaluator on the test split, then judged against biases alone and by slice as well.

TFMA measures the whole split, checks the gates and compares with the last blessed model; asked for everything, it
measures slices, calibration and order, too. Around it stands what it does not know: that a baseline artifact may hold
no model, or one that has seen today's test rows, that a ranking model has to beat a mean with one bias per user and
movie, and that no kind of users or movies may fare much worse than the whole.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow as tf
import tensorflow_model_analysis as tfma
from ml_metadata import proto as mlmd
from tfx import types
from tfx.components.evaluator import executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils, proto_utils

from components import baseline as baselines_of
from components import evaluation_data, evaluation_report, ranking_figures, ranking_protocol, ranking_slices
from trainer_modules import contract, features

_LOG = logging.getLogger("movierec.evaluation")


class RankingEvaluationSpec(component_spec.ComponentSpec):
    """Model and data in, evaluation and blessing out."""

    PARAMETERS: ClassVar = {
        standard_component_specs.EXAMPLE_SPLITS_KEY: component_spec.ExecutionParameter(type=str),
        "gates": component_spec.ExecutionParameter(type=str),
        "full_evaluation": component_spec.ExecutionParameter(type=int),
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


class Executor(executor.Executor):
    """TFX's Evaluator, and our judgement before and after it."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        examples_uri = artifact_utils.get_single_uri(input_dict["examples"])
        model_uri = artifact_utils.get_single_uri(input_dict["model"])
        catalog = evaluation_data.read_catalog(artifact_utils.get_single_uri(input_dict["catalog"]))
        user_state_uri = artifact_utils.get_single_uri(input_dict["user_state"])
        states = evaluation_data.read_user_states(user_state_uri, features.FIT_SPLITS)
        rows = evaluation_data.read(examples_uri, features.TEST, ranking_slices.COLUMNS)
        user_id, stars = rows[features.USER_ID.name], rows[features.USER_RATING.name]
        kinds = ranking_slices.kinds(rows, catalog, states)

        last_blessed = next(iter(input_dict.get("baseline_model") or ()), None)
        baseline = baselines_of.find(last_blessed.uri) if last_blessed else None
        fault = _fault(baseline, examples_uri) if baseline else ""
        note = fault
        pairs = evaluation_data.pairs(user_id, rows[features.MOVIE_ID.name])
        warm_start = baselines_of.warm_start(model_uri, pairs)
        if baseline and not fault:
            note = baselines_of.objection(baseline, pairs)

        stock_inputs = {name: input_dict[name] for name in ("model", "examples")}
        compares = baseline is not None and not fault
        if compares:
            stock_inputs["baseline_model"] = [last_blessed]
        # Made here: on Kubeflow the gates are a parameter of each run, and what was compiled knows the default alone.
        gates = json.loads(exec_properties["gates"])
        config = ranking_protocol.eval_config(gates)
        if note:
            config = ranking_protocol.without_change_thresholds(config)
        if exec_properties["full_evaluation"]:
            config = ranking_protocol.with_everything(config, float(states.rating.max()))
            stock_inputs["examples"] = [self._sliced(input_dict["examples"][0], kinds, stars)]
        super().Do(stock_inputs, output_dict, _stock_properties(exec_properties, config))

        evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
        whole = ranking_protocol.whole(evaluation.uri, tfma.CANDIDATE_KEY if compares else "")
        predicted = {
            "candidate": ranking_figures.predictions(baselines_of.saved_model_path(model_uri), examples_uri),
            **ranking_protocol.floor(rows, catalog, states),
        }
        measured = {name: ranking_figures.figures(user_id, stars, values) for name, values in predicted.items()}
        candidate = measured.pop("candidate") | {name: whole[name] for name in ("rmse", "mae")}
        by_slice = ranking_slices.by_slice(
            kinds, user_id, stars, {name: predicted[name] for name in ("candidate", "bias")}
        )
        worst = ranking_slices.worst(by_slice, candidate["rmse"], ranking_protocol.slice_limit(gates))
        compared: dict[str, Any] | None = None
        if baseline:
            before = ranking_protocol.whole(evaluation.uri, tfma.BASELINE_KEY) if compares else {}
            before.pop("num", None)
            compared = {"version": baseline.version, "metrics": before, "gated": not note, "note": note}
        reasons = ranking_protocol.refusals(candidate, measured["bias"], compared, worst, gates)
        reasons = reasons or ranking_protocol.not_explained(evaluation.uri)
        reasons += baselines_of.refusal(warm_start)
        shown = {"candidate": candidate, **measured} | ({"last blessed": compared["metrics"]} if compared else {})
        _LOG.info(
            "ranking, %d test rows, RMSE: %s",
            len(stars),
            ", ".join(f"{name} {value['rmse']:.4f}" for name, value in shown.items() if value),
        )
        report = {
            "model": contract.RANKING,
            "split": features.TEST,
            "num_rows": len(stars),
            "metrics": candidate,
            "baselines": measured,
            "last_blessed": compared,
            "warm_start": warm_start,
            "slices": by_slice,
            "worst_slice": worst,
            "calibration_buckets": ranking_figures.calibration_buckets(stars, predicted["candidate"]),
            "blessed": not reasons,
            "reasons": reasons,
        }
        evaluation_report.write_report(evaluation, report)
        evaluation_report.write_blessing(
            artifact_utils.get_single_instance(output_dict["blessing"]),
            artifact_utils.get_single_instance(input_dict["model"]),
            last_blessed if compared else None,
            not reasons,
        )


    def _sliced(self, examples: types.Artifact, kinds: Mapping[str, evaluation_data.Ragged], stars: Any) -> Any:
        """A copy of the test split, with what TFMA is to slice by, for the time of this execution."""
        copy = standard_artifacts.Examples()
        # Not copy_from: of an artifact out of ML Metadata it ends the process (protobuf's C++ map, "IsMapValid").
        serialized = examples.mlmd_artifact.SerializeToString()
        copy.set_mlmd_artifact(mlmd.Artifact.FromString(serialized))
        copy.uri = f"{self._get_tmp_dir().rstrip('/')}/examples"
        ranking_slices.write_examples(examples.uri, kinds, stars, copy.uri)
        return copy


def _stock_properties(exec_properties: Mapping[str, Any], config: tfma.EvalConfig) -> dict[str, Any]:
    """What the stock Evaluator is told."""
    splits = standard_component_specs.EXAMPLE_SPLITS_KEY
    told = {standard_component_specs.EVAL_CONFIG_KEY: proto_utils.proto_to_json(config)}
    return {**told, splits: exec_properties[splits]}


def _fault(baseline: baselines_of.Baseline, examples_uri: str) -> str:
    """Why the last blessed model cannot answer today's examples, which would end TFMA; "" where it can."""
    files = tf.io.gfile.glob(f"{examples_uri}/Split-{features.TEST}/*")
    first = next(iter(tf.data.TFRecordDataset(files, compression_type="GZIP").batch(8)))
    try:
        model = tf.saved_model.load(baseline.saved_model_path)
        model.signatures[contract.SERVING_DEFAULT](**{contract.EXAMPLES: first})
    except Exception as error:  # whatever is wrong with an old model must not keep a new one back
        return baselines_of.cannot_answer(error)
    return ""


class RankingEvaluation(base_beam_component.BaseBeamComponent):
    """Outputs `evaluation` (TFMA's files and metrics.json) and `blessing`, as TFX's Evaluator does."""

    SPEC_CLASS = RankingEvaluationSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        catalog: types.BaseChannel,
        user_state: types.BaseChannel,
        baseline_model: types.BaseChannel | None = None,
        gates: str | Mapping[str, Mapping[str, float | None]] = "{}",
        full_evaluation: bool = False,
        code: str = "",
    ):
        """Makes the component.

        Args:
          model: the candidate.
          examples: rating examples; their test split is the judge.
          catalog: one example per movie.
          user_state: one example per user and split; biases are fitted on train and eval.
          baseline_model: output of LastBlessed.
          gates: metric of ranking_figures.figures -> {"min", "max"}, or that as JSON; also "worst_slice", the largest
            RMSE of a slice as a multiple of the whole's. Whatever they say, the candidate must beat biases alone and
            not be worse than the baseline by more than ranking_protocol.MARGIN.
          full_evaluation: whether TFMA measures and plots everything on every slice. It decides nothing more.
          code: digest of the code behind this component, for the cache.
        """
        gates_json = gates if isinstance(gates, str) else json.dumps(gates, sort_keys=True)
        spec = RankingEvaluationSpec(
            model=model,
            baseline_model=baseline_model,
            examples=examples,
            catalog=catalog,
            user_state=user_state,
            example_splits=json_utils.dumps([features.TEST]),
            gates=gates_json,
            full_evaluation=int(full_evaluation),
            code=code,
            evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)
