"""The graph of each kind of split: its components, which rows they are told to look at, and what is pushed."""

import json

import pytest

from components.errors import InputError
from pipeline import digests, graph, settings
from trainer_modules import features, fit_pairs

RETRIEVAL = {"RetrievalTrainer", "RetrievalLastBlessed", "RetrievalEvaluation"}
SOURCE = digests.Source("/data", "d" * 64, "demographics", "", (1.0, 5.0))


def components(split, tmp_path, **more):
    given = settings.load("ml-100k", split=split, root=tmp_path, **more)
    of_code = digests.Digests(**dict.fromkeys(digests.Digests.__dataclass_fields__, "c"))
    return {component.id: component for component in graph.create_pipeline(given, SOURCE, of_code).components}


@pytest.mark.parametrize(
    "split, has_retrieval",
    [
        ("leave_last_out", True), ("global_time", True), ("global_time:0.7,0.2", True),
        ("global_time:1998-01-01,1998-02-01", True), ("random", False), ("fold:u2", False),
    ],
)  # fmt: skip
def test_a_split_without_time_has_no_retrieval(split, has_retrieval, tmp_path):
    found = components(split, tmp_path)
    assert (RETRIEVAL & set(found)) == (RETRIEVAL if has_retrieval else set())
    assert {"RankingTrainer", "RankingLastBlessed", "RankingEvaluation"} <= set(found)
    for part in ("InfraValidation", "AtomicPush"):
        wanted = ("ranking", "retrieval") if has_retrieval else ("ranking",)
        assert {f"{name}_{kind}" for name in wanted for kind in ("model", "blessing")} == {
            key for key in found[part].inputs if key.startswith(("ranking_", "retrieval_"))
        }
    assert found["MovieLensExampleGen"].exec_properties["split"] == split


def test_the_one_call_model_is_validated_and_pushed_where_it_is_asked_for(tmp_path):
    assert "OneCall" not in components("leave_last_out", tmp_path)
    found = components("leave_last_out", tmp_path, one_call=True)
    assert {part for part in ("InfraValidation", "AtomicPush") if "both_model" in found[part].inputs} == {
        "InfraValidation", "AtomicPush",
    }  # fmt: skip
    with pytest.raises(InputError, match="one_call needs a retrieval model, and split random has none"):
        components("random", tmp_path, one_call=True)


def test_retrieval_is_told_of_its_index(tmp_path):
    (tmp_path / "mine.toml").write_text('[index]\nkind = "inverted_file"\ncells = 40\n')
    found = components("leave_last_out", tmp_path, settings_path=tmp_path / "mine.toml")
    told, ranking = (
        json.loads(found[f"{name}Trainer"].exec_properties["custom_config"]) for name in ("Retrieval", "Ranking")
    )
    assert "index" not in ranking and told["index"] == {"kind": "inverted_file", "cells": 40, "probes": 0}


@pytest.mark.parametrize("force", [False, True])
def test_force_reaches_validation_and_push(force, tmp_path):
    found = components("leave_last_out", tmp_path, force=force or None)
    assert {found[part].exec_properties["force"] for part in ("InfraValidation", "AtomicPush")} == {int(force)}


@pytest.mark.parametrize("split", ["leave_last_out", "fold:u1"])
def test_fit_rows_are_analysed_and_test_rows_judged(split, tmp_path):
    found = components(split, tmp_path)
    told = json.loads(found["Transform"].exec_properties["splits_config"])
    assert (told["analyze"], told["transform"]) == (list(features.FIT_SPLITS), list(features.SPLITS))
    assert json.loads(found["RankingEvaluation"].exec_properties["example_splits"]) == [features.TEST]


@pytest.mark.parametrize("split, names", [("leave_last_out", ["Retrieval", "Ranking"]), ("random", ["Ranking"])])
def test_a_warm_start_comes_from_the_last_blessed_model_of_other_data(split, names, tmp_path):
    cold, warm = components(split, tmp_path), components(split, tmp_path, warm_start=True)
    assert set(warm) - set(cold) == {f"{name}WarmStart" for name in names}
    for name in names:
        start, trainer = warm[f"{name}WarmStart"], warm[f"{name}Trainer"]
        assert trainer.inputs["base_model"].producer_component_id == start.id
        assert start.exec_properties["blessing_producer_id"] == f"{name}Evaluation"
        assert start.exec_properties["folder"] == fit_pairs.WARM_START_FOLDER
        assert start.inputs["user_state"].producer_component_id == "MovieLensExampleGen"
        assert "base_model" not in cold[f"{name}Trainer"].inputs


def test_the_gates_are_the_splits_own(tmp_path):
    gates = {
        split: json.loads(components(split, tmp_path)["RankingEvaluation"].exec_properties["gates"])
        for split in ("leave_last_out", "fold:u4", "random")
    }
    given = settings.load("ml-100k").ranking.gates
    for split, name in (("leave_last_out", "leave_last_out"), ("fold:u4", "fold"), ("random", "random")):
        assert gates[split]["rmse"]["max"] == given[name]["rmse"].max


@pytest.mark.parametrize("split, names", [("leave_last_out", ["Retrieval", "Ranking"]), ("random", ["Ranking"])])
def test_a_search_stands_before_each_trainer_that_has_something_to_search(split, names, tmp_path):
    plain, found = components(split, tmp_path), components(split, tmp_path, tune=3)
    assert set(found) - set(plain) == {f"{name}Tuner" for name in names}
    for name in names:
        tuner, trainer = found[f"{name}Tuner"], found[f"{name}Trainer"]
        assert trainer.inputs["hyperparameters"].producer_component_id == tuner.id
        assert "hyperparameters" not in plain[f"{name}Trainer"].inputs
        told, trained = (json.loads(one.exec_properties["custom_config"]) for one in (tuner, trainer))
        assert told == {**trained, "num_trials": 3}
        for part in (tuner, trainer):
            assert part.inputs["examples"].producer_component_id == "Transform"
    fixed = components(split, tmp_path, tune=3, retrieval_family="popularity")
    assert "RetrievalTuner" not in fixed and "RankingTuner" in fixed


def test_tfma_is_asked_for_everything_on_demand(tmp_path):
    assert components("random", tmp_path)["RankingEvaluation"].exec_properties["full_evaluation"] == 0
    assert components("random", tmp_path, full_evaluation=True)["RankingEvaluation"].exec_properties["full_evaluation"]
