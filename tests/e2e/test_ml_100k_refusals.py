"""On real MovieLens: a model that learned from shuffled labels, and one whose embeddings are mixed up, are refused."""

import dataclasses
import types

import numpy as np
import pytest

from components import baseline, retrieval_evaluation
from pipeline import settings
from trainer_modules import retrieval, retrieval_data, retrieval_model

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

    return {key: only(key) for key in ("examples", "catalog", "user_state", "transform_graph")}


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
