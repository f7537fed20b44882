"""Stand-ins for the components around the one under test, and a run_fn, so that a small graph runs in seconds."""

import json
import pathlib
import shutil

import keras_tuner
import numpy as np
import toy_models
import toy_ring
from keras_tuner.engine import base_tuner
from tfx.components.tuner.component import TunerFnResult
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.types import standard_artifacts

from components import evaluation_report
from trainer_modules import features, fit_pairs


@component
def ToyData(
    examples: OutputArtifact[standard_artifacts.Examples],
    catalog: OutputArtifact[standard_artifacts.Examples],
    user_state: OutputArtifact[standard_artifacts.Examples],
    schema: OutputArtifact[standard_artifacts.Schema],
    transform_graph: OutputArtifact[standard_artifacts.TransformGraph],
    num_cold_users: Parameter[int],
):
    """The ring world."""
    uris = toy_ring.write_world(pathlib.Path(examples.uri).parent, toy_ring.ring_world(num_cold_users))
    for name, artifact in (("examples", examples), ("catalog", catalog), ("user_state", user_state)):
        pathlib.Path(artifact.uri).rmdir()
        pathlib.Path(uris[name]).rename(artifact.uri)
        artifact.split_names = json.dumps([features.ALL] if name == "catalog" else list(features.SPLITS))
    (pathlib.Path(schema.uri) / "schema.pbtxt").write_text("")


@component
def ToyModel(model: OutputArtifact[standard_artifacts.Model], path: Parameter[str]):
    """A Model artifact with a copy of what lies at the path."""
    shutil.copytree(path, model.uri, dirs_exist_ok=True)


@component
def ToyEvaluation(
    model: InputArtifact[standard_artifacts.Model],
    baseline_model: InputArtifact[standard_artifacts.Model],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    verdict: Parameter[int],
):
    """Blesses, or does not, as it is told."""
    evaluation_report.write_blessing(blessing, model, baseline_model, bool(verdict))


@component
def ToyInfraBlessing(blessing: OutputArtifact[standard_artifacts.InfraBlessing], verdict: Parameter[int]):
    blessing.set_int_custom_property("blessed", verdict)


def run_fn(fn_args):
    """Writes down what it was told, and saves a toy model whose weights follow from custom_config."""
    told = {
        "catalog_uri": fn_args.catalog_uri,
        "user_state_uri": fn_args.user_state_uri,
        "train_files": list(fn_args.train_files),
        "eval_files": list(fn_args.eval_files),
        "transform_output": fn_args.transform_output,
        "schema_file": fn_args.schema_file,
        "custom_config": fn_args.custom_config,
        "base_model": fn_args.base_model,
        "hyperparameters": fn_args.hyperparameters,
    }
    serving_path = pathlib.Path(fn_args.serving_model_dir)
    assert serving_path.name == "Format-Serving"
    toy_models.save(toy_models.ToyRetrieval(ring=fn_args.custom_config["ring"]), serving_path.parent)
    fit_pairs.write(str(serving_path.parent), np.array([int(fn_args.custom_config["ring"])]))
    (serving_path.parent / fit_pairs.WARM_START_FOLDER).mkdir()
    pathlib.Path(fn_args.model_run_dir, "told.json").write_text(json.dumps(told))


def tuner_fn(fn_args):
    """A search in which x = 1 is best; also writes down what it was told."""
    told = {name: getattr(fn_args, name) for name in ("catalog_uri", "user_state_uri", "train_files", "eval_files")}
    pathlib.Path(fn_args.catalog_uri, "told_a_tuner.json").write_text(json.dumps(told))
    space = keras_tuner.HyperParameters()
    space.Int("x", 0, 1)
    objective = keras_tuner.Objective("figure", "max")
    oracle = keras_tuner.oracles.GridSearchOracle(
        objective=objective, max_trials=fn_args.custom_config["num_trials"], hyperparameters=space
    )
    return TunerFnResult(_Grid(oracle, directory=fn_args.working_dir), {"verbose": 0})


class _Grid(base_tuner.BaseTuner):
    def run_trial(self, trial, **_):
        return {"figure": (1 + trial.hyperparameters["x"]) / 2}


def run(root, components, name="toy"):
    """Runs a graph with the cache on; returns component id -> (answered from the cache?, outputs by key)."""
    connection = metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite"))
    LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name=name,
            pipeline_root=str(root / "artifacts"),
            components=components,
            enable_cache=True,
            metadata_connection_config=connection,
        )
    )
    return last_run(connection, name)


def last_run(connection, name):
    from ml_metadata import proto as mlmd

    with metadata.Metadata(connection) as handle:
        store = handle.store
        newest = max(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
        found = {}
        for execution in store.get_executions_by_context(newest.id):
            [node] = [c for c in store.get_contexts_by_execution(execution.id) if c.name.startswith(f"{name}.")
                      and "." not in c.name.removeprefix(f"{name}.")]
            events = store.get_events_by_execution_ids([execution.id])
            outputs = {
                event.path.steps[0].key: store.get_artifacts_by_id([event.artifact_id])[0]
                for event in events
                if event.type == mlmd.Event.OUTPUT
            }
            cached = execution.last_known_state == mlmd.Execution.CACHED
            found[node.name.removeprefix(f"{name}.")] = (cached, outputs)
    return found
