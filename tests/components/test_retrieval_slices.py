"""Slices: what is counted in each, for the candidate and for what stands beside it."""

import csv
import json
import math

import numpy as np
import pytest
import toy_models
import toy_ring
from tfx.types import standard_artifacts

from components import baseline, evaluation_data, evaluation_report, retrieval_evaluation, retrieval_slices
from components.retrieval_protocol import QUERY_METRICS, Queries


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    base = tmp_path_factory.mktemp("sliced")
    uris = toy_ring.write_world(base, toy_ring.ring_world(num_cold_users=2))
    paths = [
        baseline.saved_model_path(toy_models.save(toy_models.ToyRetrieval(ring=ring), base / f"ring {ring}"))
        for ring in (1.0, -1.0)
    ]
    last = baseline.Baseline(paths[1], "4", uris["user_state"])
    return retrieval_evaluation.evaluate(paths[0], last, uris["examples"], uris["catalog"], uris["user_state"], {})


def test_slices_are_parts_of_the_whole(report):
    slices = {part["slice"]: part for part in report["slices"]}
    assert slices["warm"]["num"] == toy_ring.NUM_USERS and slices["warm"]["metrics"]["ndcg_at_10"] == 1.0
    cold = (1 + 1 / math.log2(3)) / 2
    assert slices["cold"]["num"] == 2 and slices["cold"]["metrics"]["ndcg_at_10"] == pytest.approx(cold)
    assert slices["user_gender=0"]["num"] == slices["user_gender=1"]["num"] == toy_ring.NUM_USERS // 2
    assert slices["user_fit_rows=1-19"]["num"] == toy_ring.NUM_USERS
    assert slices["genre=Drama"]["metrics"] == {name: report["metrics"][name] for name in QUERY_METRICS}
    for kind in ("positive_fit_rows", "popularity_decile"):
        parts = [part for name, part in slices.items() if name.startswith(f"{kind}=")]
        assert sum(part["num"] for part in parts) == toy_ring.NUM_USERS + 2
        for model in ("popularity", "recent_popularity", "last_blessed"):
            whole = report["last_blessed"]["metrics"] if model == "last_blessed" else report["baselines"][model]
            mean = sum(part["num"] * part["beside"][model]["ndcg_at_10"] for part in parts) / report["num_queries"]
            assert mean == pytest.approx(whole["ndcg_at_10"])


def test_intervals_hold_the_figures_and_differences_are_paired(report):
    for name, ends in report["intervals"].items():
        assert ends["low"] <= report["metrics"][name] <= ends["high"]
    difference = report["differences"]["popularity"]["ndcg_at_10"]
    apart = report["metrics"]["ndcg_at_10"] - report["baselines"]["popularity"]["ndcg_at_10"]
    assert difference["mean"] == pytest.approx(apart) and difference["low"] < apart < difference["high"]


def test_several_positives_of_one_user_fall_into_their_own_slices(tmp_path):
    positives = evaluation_data.Ragged(np.array([3, 7, 5]), np.array([0, 2, 3]))
    states = evaluation_data.UserStates(np.array([b"a"]), np.array([0, 0]), *(np.array([]) for _ in range(3)))
    queries = Queries(np.array([b"a", b"b"]), positives, np.array([-1, -1]), states, {})
    lists = np.full((2, 100), -1)
    lists[0, :2] = [7, 3]
    genres = [[], [], [], ["War", "Drama"], [], ["War"], [], ["Drama"]]
    movies = [toy_ring.example({"movie_genres": genre}) for genre in genres]
    toy_ring.write_split(tmp_path / "catalog", "all", movies)
    catalog = evaluation_data.Catalog(np.array([b"%d" % movie for movie in range(8)]))
    fit_rows = np.array([0, 0, 0, 0, 0, 20, 0, 200])
    found = retrieval_slices.slices({"candidate": lists}, queries, catalog, str(tmp_path / "catalog"), fit_rows)
    parts = {part["slice"]: part for part in found}
    assert "warm" not in parts and parts["cold"]["num"] == 2
    assert parts["positive_fit_rows=0"]["metrics"]["mrr_at_100"] == 0.5
    assert parts["positive_fit_rows=100+"]["metrics"]["mrr_at_100"] == 1.0
    assert parts["positive_fit_rows=10-99"]["metrics"]["recall_at_100"] == 0.0
    assert parts["genre=Drama"]["num"] == 1 and parts["genre=Drama"]["metrics"]["recall_at_10"] == 1.0
    assert parts["genre=War"]["num"] == 2 and parts["genre=War"]["metrics"]["mrr_at_100"] == 0.25
    # One positive was never rated; of the two rated movies one is in the lower half, one in the upper.
    assert {name for name in parts if name.startswith("popularity")} == {f"popularity_decile={n}" for n in (0, 1, 6)}


def test_the_file_has_a_line_for_each_slice_and_model(report, tmp_path):
    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str(tmp_path)
    evaluation_report.write_report(evaluation, report)
    lines = list(csv.DictReader((tmp_path / "slices.csv").open()))
    models = ("candidate", "popularity", "recent_popularity", "last_blessed")
    assert [(line["slice"], line["model"]) for line in lines[:4]] == [("warm", model) for model in models]
    assert len(lines) == 4 * len(report["slices"])
    assert float(lines[0]["ndcg_at_10"]) == 1.0
    assert json.loads((tmp_path / "metrics.json").read_text())["slices"] == report["slices"]
