"""RecommenderTrainer: TFX's Trainer, whose run_fn is also told where the catalog and the user states lie.

A Trainer passes examples, transform graph and schema to run_fn and nothing else; a Channel put into custom_config
arrives empty. So two real inputs, and an executor that adds their addresses to fn_args.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tfx import types
from tfx.components.trainer import component, executor, fn_args_utils
from tfx.dsl.components.base import executor_spec
from tfx.proto import trainer_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils

from trainer_modules import features

EXTRA_INPUTS: dict[str, component_spec.ChannelParameter] = {
    "catalog": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    "user_state": component_spec.ChannelParameter(type=standard_artifacts.Examples),
}
"""What the Trainer and the Tuner read beside what TFX's own do."""


def add_uris(fn_args: fn_args_utils.FnArgs, input_dict: dict[str, list[types.Artifact]]) -> None:
    """Adds `catalog_uri` and `user_state_uri`, of EXTRA_INPUTS, to fn_args."""
    fn_args.catalog_uri = artifact_utils.get_single_uri(input_dict["catalog"])
    fn_args.user_state_uri = artifact_utils.get_single_uri(input_dict["user_state"])


class RecommenderTrainerSpec(component_spec.ComponentSpec):
    """The Trainer's spec and two more inputs."""

    PARAMETERS: ClassVar = standard_component_specs.TrainerSpec.PARAMETERS
    INPUTS: ClassVar = {**standard_component_specs.TrainerSpec.INPUTS, **EXTRA_INPUTS}
    OUTPUTS: ClassVar = standard_component_specs.TrainerSpec.OUTPUTS
    TYPE_ANNOTATION: ClassVar = standard_component_specs.TrainerSpec.TYPE_ANNOTATION


class Executor(executor.GenericExecutor):
    """Adds `catalog_uri` and `user_state_uri` to fn_args."""

    def _GetFnArgs(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> fn_args_utils.FnArgs:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        add_uris(fn_args, input_dict)
        return fn_args


class RecommenderTrainer(component.Trainer):
    """Outputs `model` (standard Model, SavedModel in Format-Serving) and `model_run`."""

    SPEC_CLASS = RecommenderTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        catalog: types.BaseChannel,
        user_state: types.BaseChannel,
        transform_graph: types.BaseChannel,
        schema: types.BaseChannel,
        run_fn: str,
        custom_config: dict[str, Any],
        base_model: types.BaseChannel | None = None,
        hyperparameters: types.BaseChannel | None = None,
    ):
        """Makes the component.

        Args:
          examples: transformed rating examples; run_fn is given the splits train and eval.
          catalog: one example per movie.
          user_state: one example per user and split.
          transform_graph: what transformed them.
          schema: of the raw examples.
          run_fn: dotted path of the training function. The cache sees its name only: put a digest of its code into
            custom_config.
          custom_config: JSON-able; run_fn finds it in fn_args.custom_config.
          base_model: of a LastBlessed, to start from; run_fn finds its SavedModel's place in fn_args.base_model.
          hyperparameters: best ones of a RecommenderTuner; run_fn finds them in fn_args.hyperparameters.
        """
        spec = RecommenderTrainerSpec(
            examples=examples,
            catalog=catalog,
            user_state=user_state,
            transform_graph=transform_graph,
            schema=schema,
            base_model=base_model,
            hyperparameters=hyperparameters,
            run_fn=run_fn,
            custom_config=json_utils.dumps(custom_config),
            train_args=trainer_pb2.TrainArgs(splits=[features.TRAIN]),
            eval_args=trainer_pb2.EvalArgs(splits=[features.EVAL]),
            model=types.Channel(type=standard_artifacts.Model),
            model_run=types.Channel(type=standard_artifacts.ModelRun),
        )
        # Past the Trainer's own constructor, which would build the Trainer's own spec.
        super(component.Trainer, self).__init__(spec=spec)
