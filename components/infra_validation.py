"""InfraValidation: before they are pushed, the blessed candidates answer real requests from a fresh server process.

TFX's own InfraValidator knows Docker and Kubernetes only. This one takes whatever server the machine has, and leaves a
standard InfraBlessing. Beside it lie the requests, to warm up whatever server loads the models later.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.components.base import base_driver as dsl_driver
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as portable_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from components import baseline, evaluation_data, evaluation_report, infra_server
from trainer_modules import contract, features

BLESSED_FILE = "INFRA_BLESSED"
NOT_BLESSED_FILE = "INFRA_NOT_BLESSED"
WARM_UP_FOLDER = "warm_up"
"""Beside BLESSED_FILE: MODEL/assets.extra/..., what each model is pushed with. The property `warm_up` names it."""

_LOG = logging.getLogger("movierec.infra_validation")


class InfraValidationSpec(component_spec.ComponentSpec):
    """Models, their blessings and real users in, blessing out."""

    PARAMETERS: ClassVar = {
        "rating_min": component_spec.ExecutionParameter(type=float),
        "rating_max": component_spec.ExecutionParameter(type=float),
        "start_timeout_s": component_spec.ExecutionParameter(type=float),
        "first_answer_s": component_spec.ExecutionParameter(type=float),
        "answer_s": component_spec.ExecutionParameter(type=float),
        "memory_mib": component_spec.ExecutionParameter(type=int),
        "force": component_spec.ExecutionParameter(type=int, optional=True),
        "num_refusals": component_spec.ExecutionParameter(type=int, optional=True),
        "code": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar = {
        "retrieval_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "ranking_model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "both_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "retrieval_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
        "ranking_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        "user_state": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS: ClassVar = {"blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing)}


class Driver(dsl_driver.BaseDriver, portable_driver.BaseDriver):
    """Has a refusal tried again by the next run: the cache keeps successes only, for a busy machine refuses too."""

    def __init__(self, handle: metadata.Metadata):
        dsl_driver.BaseDriver.__init__(self, handle)
        portable_driver.BaseDriver.__init__(self, handle)

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        models = _ids(execution_info.input_dict)
        node = f"{execution_info.pipeline_info.id}.{execution_info.pipeline_node.node_info.id}"
        with self._mlmd_connection as handle:
            context = handle.store.get_context_by_type_and_name("node", node)
            known = handle.store.get_artifacts_by_context(context.id)
        # Artifacts of other kinds do not have the property.
        refused = [one for one in known if one.custom_properties["refused_models"].string_value == models]
        output = driver_output_pb2.DriverOutput()
        output.exec_properties["num_refusals"].int_value = len(refused)
        return output


class Executor(base_executor.BaseExecutor):
    """Starts the server, asks, blesses or says why not."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        models = _models(input_dict)
        not_blessed = [
            name
            for name in contract.MODELS
            if name in models
            and not evaluation_report.is_blessed(artifact_utils.get_single_instance(input_dict[f"{name}_blessing"]))
        ]
        if not_blessed and not exec_properties.get("force"):
            reason = f"not tried: the evaluation did not bless the {' and the '.join(not_blessed)} model"
            _LOG.info("infra validation %s", reason)
        else:
            verdict = infra_server.validate(
                {
                    name: baseline.saved_model_path(artifact_utils.get_single_uri(input_dict[f"{name}_model"]))
                    for name in models
                },
                evaluation_data.read_user_states(
                    artifact_utils.get_single_uri(input_dict["user_state"]), features.FIT_SPLITS
                ),
                (exec_properties["rating_min"], exec_properties["rating_max"]),
                infra_server.Limits(
                    start_timeout_s=exec_properties["start_timeout_s"],
                    first_answer_s=exec_properties["first_answer_s"],
                    answer_s=exec_properties["answer_s"],
                    memory_mib=exec_properties["memory_mib"],
                ),
            )
            reason = verdict.reason
            if reason:
                blessing.set_string_custom_property("refused_models", _ids(input_dict))
                _LOG.warning("infra validation refuses the models: %s", reason)
            else:
                infra_server.write_warm_up(verdict.asked, f"{blessing.uri}/{WARM_UP_FOLDER}")
                blessing.set_string_custom_property("warm_up", WARM_UP_FOLDER)
                blessing.set_int_custom_property("memory_mib", verdict.memory_mib)
        blessing.set_string_custom_property("reason", reason)
        blessing.set_int_custom_property("blessed", int(not reason))
        fileio.makedirs(blessing.uri)
        with fileio.open(f"{blessing.uri}/{NOT_BLESSED_FILE if reason else BLESSED_FILE}", "w") as file:
            file.write(reason)


def _models(input_dict: Any) -> list[str]:
    """The candidates' names."""
    return [name for name in contract.SERVED if input_dict.get(f"{name}_model")]


def _ids(input_dict: Any) -> str:
    """The candidates' artifact ids."""
    models = _models(input_dict)
    ids = [artifact_utils.get_single_instance(list(input_dict[f"{name}_model"])).id for name in models]
    return " ".join(map(str, ids))


class InfraValidation(base_component.BaseComponent):
    """Outputs `blessing`, a standard InfraBlessing: `reason` says why not, `memory_mib` what the server needed."""

    SPEC_CLASS = InfraValidationSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        models: Mapping[str, types.BaseChannel],
        blessings: Mapping[str, types.BaseChannel],
        user_state: types.BaseChannel,
        rating_min: float,
        rating_max: float,
        start_timeout_s: float = infra_server.Limits.start_timeout_s,
        first_answer_s: float = infra_server.Limits.first_answer_s,
        answer_s: float = infra_server.Limits.answer_s,
        memory_mib: int = infra_server.Limits.memory_mib,
        force: bool = False,
        code: str = "",
    ):
        """Makes the component.

        Args:
          models: ranking, retrieval or not, the one-call model or not: name -> candidate, served beside the others.
          blessings: ranking and retrieval -> the evaluations' verdicts; without one of them no server is started,
            unless forced.
          user_state: real users; requests name some of them, with histories that are made up.
          rating_min: fewest stars an answer may hold.
          rating_max: most.
          start_timeout_s: for the server to load the models.
          first_answer_s: for each answer; a model's first ones are slow.
          answer_s: for each answer to one user when it is asked for again: what clients wait by default. One that
            comes later is asked for a second time.
          memory_mib: the most the server may need: the container's limit in serving/deploy/kubernetes.
          force: whether models that are not blessed are tried too.
          code: digest of the code behind this component, for the cache.
        """
        spec = InfraValidationSpec(
            **{f"{name}_model": channel for name, channel in models.items()},
            **{f"{name}_blessing": channel for name, channel in blessings.items()},
            user_state=user_state,
            rating_min=float(rating_min),
            rating_max=float(rating_max),
            start_timeout_s=start_timeout_s,
            first_answer_s=first_answer_s,
            answer_s=answer_s,
            memory_mib=memory_mib,
            force=int(force),
            code=code,
            blessing=types.Channel(type=standard_artifacts.InfraBlessing),
        )
        super().__init__(spec=spec)
