"""The pipeline as a graph: a pure function of settings and digests. It reads like the README's picture."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tfx.components.example_validator.component import ExampleValidator
from tfx.orchestration import metadata, pipeline
from tfx.proto import transform_pb2

from components.anomaly_gate import AnomalyGate
from components.atomic_push import AtomicPush
from components.columnar_statistics import ColumnarStatisticsGen
from components.columnar_transform import ColumnarTransform
from components.distribution_check import DistributionCheck
from components.infra_validation import InfraValidation
from components.last_blessed import LastBlessed
from components.movielens_example_gen import MovieLensExampleGen
from components.one_call import OneCall
from components.pinned_schema import PinnedSchema
from components.ranking_evaluation import RankingEvaluation
from components.recommender_trainer import RecommenderTrainer
from components.recommender_tuner import RecommenderTuner
from components.retrieval_evaluation import RetrievalEvaluation
from pipeline.digests import Digests, Source
from pipeline.settings import Model, Settings
from trainer_modules import contract, features, fit_pairs

_EVALUATIONS: dict[str, Any] = {contract.RETRIEVAL: RetrievalEvaluation, contract.RANKING: RankingEvaluation}
ACCEPTED_SCHEMA_FILE = "schema.pbtxt"
"""In the root: the schema with what was accepted there."""


def create_pipeline(
    settings: Settings,
    source: Source,
    digests: Digests,
    beam_arguments: list[str] | None = None,
    has_drivers: bool = True,
) -> pipeline.Pipeline:
    """Builds the graph; touches neither environment nor disk.

    Args:
      settings: of the run.
      source: the data.
      digests: of the code, handed in by the runner.
      beam_arguments: of the engine that runs the Beam stages.
      has_drivers: whether the runner asks components' drivers before it asks the cache. Without them the components
        look into the root themselves: for the data, and for what earlier runs left there.
    """
    root = settings.root_path
    accepted_data, blessed = ("", "") if has_drivers else (str(root / "accepted"), str(root / "blessed"))

    # Ratings joined with users and movies, each with the history before it; the catalog; every user's state.
    ingest = MovieLensExampleGen(
        input_path=source.path,
        dataset=settings.dataset,
        layout=source.layout,
        split=settings.split,
        seed=settings.seed,
        history_length=features.HISTORY_LENGTH,
        max_bad_share=settings.max_bad_share,
        rejected_path=str(root / "rejected"),
        spans=list(source.spans),
        data_digest=source.digest,
        root="" if has_drivers else str(root),
        num_last_spans=settings.num_last_spans or 0,
        code=digests.ingest,
    )

    # The schema is checked in: one inferred from the data could not flag that same data.
    schema = PinnedSchema(
        environment=source.environment,
        rating_min=source.rating_range[0],
        rating_max=source.rating_range[1],
        accepted_path=str(root / ACCEPTED_SCHEMA_FILE),
        schema_digest=digests.schema,
    )

    statistics = ColumnarStatisticsGen(
        examples=ingest.outputs["examples"], schema=schema.outputs["schema"], code=digests.statistics
    ).with_id("StatisticsGen")

    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])

    # Against the last accepted data: drift and new vocabulary. Against logged requests, if there are any: skew.
    check = DistributionCheck(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        catalog=ingest.outputs["catalog"],
        user_state=ingest.outputs["user_state"],
        data_digest=source.digest,
        input_path=source.path,
        spans=source.spans,
        limits=json.dumps(dataclasses.asdict(settings.limits), sort_keys=True),
        serving_logs=json.dumps(source.serving_logs),
        serving_digest=source.serving_digest,
        accepted_data_path=accepted_data,
        code=digests.distribution_check,
    )

    # Both only write anomalies down; the gate stops the run on them.
    gate = AnomalyGate(
        anomalies=validator.outputs["anomalies"],
        distribution_anomalies=check.outputs["anomalies"],
        accepted_data_path=accepted_data,
        code=digests.gate,
    )

    # Vocabularies and buckets come from the fit rows, never from test.
    transform = ColumnarTransform(
        examples=ingest.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="trainer_modules.preprocessing.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(analyze=list(features.FIT_SPLITS), transform=list(features.SPLITS)),
        code=f"{digests.transform} {digests.preprocessing}",
    ).with_id("Transform")
    transform.add_upstream_node(gate)

    # Both models; or, where rows are divided without regard to time and no movie is the next one, ranking alone.
    names = settings.models

    # Where training may start from: the last blessed model that was fitted on other data than today's.
    starts = {
        name: LastBlessed(
            user_state=ingest.outputs["user_state"],
            blessing_producer_id=f"{name.capitalize()}Evaluation",
            folder=fit_pairs.WARM_START_FOLDER,
            blessed_path=blessed and f"{blessed}/{name}",
            code=digests.last_blessed,
        ).with_id(f"{name.capitalize()}WarmStart")
        for name in (names if settings.warm_start else ())
    }

    training_data = {
        "examples": transform.outputs["transformed_examples"],
        "catalog": ingest.outputs["catalog"],
        "user_state": ingest.outputs["user_state"],
        "transform_graph": transform.outputs["transform_graph"],
        "schema": schema.outputs["schema"],
    }

    # Optional: a search over hyperparameters, fitted on train, judged on eval.
    tuners = {
        name: RecommenderTuner(
            **training_data,
            tuner_fn=f"trainer_modules.{name}.tuner_fn",
            custom_config={
                **_training(settings, source, name), "num_trials": settings.tune, "code": getattr(digests, name),
            },
            base_model=starts[name].outputs["model"] if name in starts else None,
        ).with_id(f"{name.capitalize()}Tuner")
        for name in settings.tuned_models
    }  # fmt: skip

    # Tuned on eval, fitted anew on train + eval.
    trainers = {
        name: RecommenderTrainer(
            **training_data,
            run_fn=f"trainer_modules.{name}.run_fn",
            custom_config={**_training(settings, source, name), "code": getattr(digests, name)},
            base_model=starts[name].outputs["model"] if name in starts else None,
            hyperparameters=tuners[name].outputs["best_hyperparameters"] if name in tuners else None,
        ).with_id(f"{name.capitalize()}Trainer")
        for name in names
    }
    models = {name: trainer.outputs["model"] for name, trainer in trainers.items()}

    # What each candidate must not fall behind; nothing on a first run.
    baselines = {
        name: LastBlessed(
            model=models[name],
            blessing_producer_id=f"{name.capitalize()}Evaluation",
            blessed_path=blessed and f"{blessed}/{name}",
            code=digests.last_blessed,
        ).with_id(f"{name.capitalize()}LastBlessed")
        for name in names
    }

    # Test rows, looked at once: popularity, biases and the last blessed model stand beside.
    evaluations = {
        name: _EVALUATIONS[name](
            model=models[name],
            baseline_model=baselines[name].outputs["model"],
            examples=ingest.outputs["examples"],
            catalog=ingest.outputs["catalog"],
            user_state=ingest.outputs["user_state"],
            gates=gates(settings, name),
            # Popularity is measured as every family is, and never blessed. TFMA judges ranking alone.
            **(
                {"family": settings.retrieval.family}
                if name == contract.RETRIEVAL
                else {"full_evaluation": settings.full_evaluation}
            ),
            code=getattr(digests, f"{name}_evaluation"),
        )
        for name in names
    }
    blessings = {name: evaluation.outputs["blessing"] for name, evaluation in evaluations.items()}

    # Optional: both stages in one graph, for clients that ask once.
    one_calls = []
    if settings.one_call and contract.RETRIEVAL in names:
        one_calls.append(OneCall(models=models, code=digests.one_call))
        models = {**models, contract.BOTH: one_calls[0].outputs["model"]}

    # The blessed candidates, loaded in a fresh server process and asked real questions.
    infra = InfraValidation(
        models=models,
        blessings=blessings,
        user_state=ingest.outputs["user_state"],
        rating_min=source.rating_range[0],
        rating_max=source.rating_range[1],
        force=settings.force,
        code=digests.infra_validation,
    )

    # All or none, under one version number, at once for whoever watches, with the requests asked as warm-up.
    push = AtomicPush(
        models=models,
        blessings=blessings,
        infra_blessing=infra.outputs["blessing"],
        destination=str(root / "models"),
        keep_versions=settings.keep_versions,
        force=settings.force,
        blessed_path=blessed,
        code=digests.push,
    )

    return pipeline.Pipeline(
        pipeline_name="movierec",
        pipeline_root=str(root / "artifacts"),
        components=[
            ingest, schema, statistics, validator, check, gate, transform, *starts.values(),
            *tuners.values(), *trainers.values(), *baselines.values(), *evaluations.values(), *one_calls, infra, push,
        ],
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite")),
        beam_pipeline_args=beam_arguments or [],
    )


def _training(settings: Settings, source: Source, name: str) -> dict[str, Any]:
    """What a model's run_fn is told."""
    model: Model = getattr(settings, name)
    return {
        "family": model.family,
        "hyperparameters": model.hyperparameters,
        "seed": settings.seed,
        "user_snapshot": settings.user_snapshot,
        "rating_range": list(source.rating_range),
        **({"index": dataclasses.asdict(settings.index)} if name == contract.RETRIEVAL else {}),
    }


def gates(settings: Settings, name: str) -> str:
    """A model's corridors on the run's split, as JSON: exec properties are flat."""
    model: Model = getattr(settings, name)
    corridors = {
        metric: dataclasses.asdict(gate) for metric, gate in model.gates_of(settings.way_of_splitting).items()
    }
    return json.dumps(corridors, sort_keys=True)
