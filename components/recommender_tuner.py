"""RecommenderTuner: TFX's Tuner, whose tuner_fn is also told where the catalog and the user states lie."""

from __future__ import annotations

from typing import Any, ClassVar

from tfx import types
from tfx.components.trainer import fn_args_utils
from tfx.components.tuner import component, executor
from tfx.components.util import udf_utils
from tfx.dsl.components.base import executor_spec
from tfx.proto import trainer_pb2
from tfx.types import component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils

from components import recommender_trainer
from trainer_modules import features


class RecommenderTunerSpec(component_spec.ComponentSpec):
    """The Tuner's spec and two more inputs."""

    PARAMETERS: ClassVar = standard_component_specs.TunerSpec.PARAMETERS
    INPUTS: ClassVar = {**standard_component_specs.TunerSpec.INPUTS, **recommender_trainer.EXTRA_INPUTS}
    OUTPUTS: ClassVar = standard_component_specs.TunerSpec.OUTPUTS
    TYPE_ANNOTATION: ClassVar = standard_component_specs.TunerSpec.TYPE_ANNOTATION


class Executor(executor.Executor):
    """Adds `catalog_uri`, `user_state_uri` and a `model_run_dir` to fn_args, and prints no tables."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        fn_args = fn_args_utils.get_common_fn_args(input_dict, exec_properties, self._get_tmp_dir())
        recommender_trainer.add_uris(fn_args, input_dict)
        fn_args.model_run_dir = fn_args.working_dir
        found = udf_utils.get_fn(exec_properties, standard_component_specs.TUNER_FN_KEY)(fn_args)
        found.tuner.search(**found.fit_kwargs)
        executor.write_best_hyperparameters(found.tuner, output_dict)


class RecommenderTuner(component.Tuner):
    """Outputs `best_hyperparameters` (standard HyperParameters) and `tuner_results`."""

    SPEC_CLASS = RecommenderTunerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        catalog: types.BaseChannel,
        user_state: types.BaseChannel,
        transform_graph: types.BaseChannel,
        schema: types.BaseChannel,
        tuner_fn: str,
        custom_config: dict[str, Any],
        base_model: types.BaseChannel | None = None,
    ):
        """Makes the component.

        Args:
          examples: transformed rating examples; tuner_fn is given the splits train and eval.
          catalog: one example per movie.
          user_state: one example per user and split.
          transform_graph: what transformed the examples.
          schema: of the raw examples.
          tuner_fn: dotted path of the function that prepares the search. The cache sees its name only: put a digest of
            its code into custom_config.
          custom_config: JSON-able; tuner_fn finds it in fn_args.custom_config.
          base_model: of a LastBlessed, for trainings to start from.
        """
        spec = RecommenderTunerSpec(
            examples=examples,
            catalog=catalog,
            user_state=user_state,
            transform_graph=transform_graph,
            schema=schema,
            base_model=base_model,
            tuner_fn=tuner_fn,
            custom_config=json_utils.dumps(custom_config),
            train_args=trainer_pb2.TrainArgs(splits=[features.TRAIN]),
            eval_args=trainer_pb2.EvalArgs(splits=[features.EVAL]),
            best_hyperparameters=types.Channel(type=standard_artifacts.HyperParameters),
            tuner_results=types.Channel(type=standard_artifacts.TunerResults),
        )
        # Past the Tuner's own constructor, which would build the Tuner's own spec.
        super(component.Tuner, self).__init__(spec=spec)
