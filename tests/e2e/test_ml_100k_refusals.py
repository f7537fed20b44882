"""On real MovieLens: what learned from shuffled labels or from none, and mixed up embeddings, are refused."""

import dataclasses
import json
import pathlib
import types

import numpy as np
import pytest

from components import baseline, ranking_evaluation, retrieval_evaluation
from pipeline import run_local, settings
from trainer_modules import features as f
from trainer_modules import ranking, ranking_data, ranking_signatures, retrieval, retrieval_data, retrieval_model

from tfx.types import standard_artifacts  # isort: skip  (after trainer_modules: they choose the Keras)

SEED = 7


def shuffled(states):
    """Each movie is rated as often as it was, each user rates as often: who rated what is left to chance."""
    by_chance = np.random.default_rng(3).permutation(len(states.position))
    return dataclasses.replace(states, position=states.position[by_chance])


@pytest.fixture(scope="module")
def artifacts(ml_100k_run):
    folder = ml_100k_run.root / "artifacts"

    def only(key):
        (found,) = folder.glob(f"*/{key}/*")
        return str(found)

    keys = ("examples", "transformed_examples", "catalog", "user_state", "transform_graph")
    return {key: only(key) for key in keys}


@pytest.fixture(scope="module")
def data(artifacts):
    return retrieval_data.load(
        types.SimpleNamespace(
            transform_graph_path=artifacts["transform_graph"], catalog_uri=artifacts["catalog"],
            user_state_uri=artifacts["user_state"],
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["labels", "embeddings"])
def test_a_model_that_learned_nothing_is_refused(broken, data, artifacts, ml_100k_run, tmp_path):
    chosen = settings.load("ml-100k")
    family = chosen.retrieval.family
    gates = {metric: dataclasses.asdict(gate) for metric, gate in chosen.retrieval.gates["leave_last_out"].items()}
    learned_from = data
    if broken == "labels":
        learned_from = dataclasses.replace(data, train=shuffled(data.train), fit=shuffled(data.fit))
    towers = retrieval.FAMILIES[family](learned_from, chosen.retrieval.hyperparameters, SEED)
    if broken == "embeddings":
        permuted = np.random.default_rng(3).permutation(len(towers.candidate_vectors))
        towers = towers._replace(candidate_vectors=towers.candidate_vectors[permuted])
    retrieval_model.export(data, towers, str(tmp_path / "model"), user_snapshot=True)
    last = baseline.Baseline(str(ml_100k_run.root / "models" / "retrieval" / "1"), "1", artifacts["user_state"])
    report = retrieval_evaluation.evaluate(
        str(tmp_path / "model"), last, artifacts["examples"], artifacts["catalog"], artifacts["user_state"],
        gates=gates, family=family,
    )  # fmt: skip
    print(broken, report["metrics"], report["reasons"])
    assert not report["blessed"]
    said = " ".join(report["reasons"])
    assert "is below its gate" in said and "below the last blessed model's (version 1), beyond noise" in said
    assert report["metrics"]["ndcg_at_10"] < report["baselines"]["popularity"]["ndcg_at_10"]


def rated_by_chance(stars):
    return np.random.default_rng(3).permutation(stars)


def rated_alike(stars):
    return np.full_like(stars, stars.mean())


@pytest.mark.slow
@pytest.mark.parametrize("family, labels", [("factorization_machine", rated_by_chance), ("bias", rated_alike)])
def test_stars_that_were_learned_from_nothing_are_refused(family, labels, artifacts, tmp_path):
    chosen = settings.load("ml-100k", ranking_family=family).ranking
    files = {split: [f"{artifacts['transformed_examples']}/Split-{split}/*"] for split in (f.TRAIN, f.EVAL)}
    data = ranking_data.load(
        types.SimpleNamespace(
            train_files=files[f.TRAIN], eval_files=files[f.EVAL], transform_graph_path=artifacts["transform_graph"],
            catalog_uri=artifacts["catalog"], user_state_uri=artifacts["user_state"], model_run_dir=str(tmp_path),
            custom_config={"rating_range": [1.0, 5.0]},
        )
    )  # fmt: skip
    learned_from = {
        name: {**rows, f.USER_RATING.name: labels(rows[f.USER_RATING.name])}
        for name, rows in (("train", data.train), ("eval", data.eval))
    }
    fitted = ranking.FAMILIES[family](dataclasses.replace(data, **learned_from), chosen.hyperparameters, SEED)
    ranking_signatures.export(fitted.scorer, data, str(tmp_path / "model" / "Format-Serving"), user_snapshot=True)
    gates = chosen.gates_of(settings.load("ml-100k").way_of_splitting)
    report = evaluated(
        artifacts, tmp_path, {metric: dataclasses.asdict(gate) for metric, gate in gates.items()}
    )
    print(family, report["metrics"], report["reasons"])
    assert not report["blessed"]
    assert any("does not beat biases alone" in reason for reason in report["reasons"])
    assert report["metrics"]["rmse"] > 0.97 * report["baselines"]["mean"]["rmse"]


def evaluated(artifacts, folder, gates):
    """The report of RankingEvaluation on a model."""

    def artifact(kind, uri):
        made = kind()
        made.uri = str(uri)
        return [made]

    keys = ("examples", "catalog", "user_state")
    inputs = {key: artifact(standard_artifacts.Examples, artifacts[key]) for key in keys}
    [examples] = inputs["examples"]
    examples.split_names = json.dumps(list(f.SPLITS))
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    examples.set_string_custom_property("file_format", "tfrecords_gzip")
    inputs["model"] = artifact(standard_artifacts.Model, folder / "model")
    outputs = {
        "evaluation": artifact(standard_artifacts.ModelEvaluation, folder / "evaluation"),
        "blessing": artifact(standard_artifacts.ModelBlessing, folder / "blessing"),
    }
    context = ranking_evaluation.Executor.Context(
        beam_pipeline_args=run_local.BEAM_ARGUMENTS, tmp_dir=str(folder / "tmp"), unique_id="1"
    )
    properties = {"example_splits": json.dumps([f.TEST]), "gates": json.dumps(gates), "full_evaluation": 0, "code": "c"}
    ranking_evaluation.Executor(context).Do(inputs, outputs, properties)
    return json.loads(pathlib.Path(folder, "evaluation", "metrics.json").read_text())
