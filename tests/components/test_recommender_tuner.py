"""The Tuner in a graph: what its tuner_fn is told, what the Trainer is given, and that the cache answers a rerun."""

import json
import pathlib

import toy_components

from components import recommender_trainer, recommender_tuner

CONFIG = {"ring": 1.0, "code": "c"}


def graph(num_trials):
    data = toy_components.ToyData(num_cold_users=1)
    channels = {name: data.outputs[name] for name in ("examples", "catalog", "user_state", "transform_graph", "schema")}
    tuner = recommender_tuner.RecommenderTuner(
        **channels, tuner_fn="toy_components.tuner_fn", custom_config={**CONFIG, "num_trials": num_trials}
    )
    trainer = recommender_trainer.RecommenderTrainer(
        **channels, run_fn="toy_components.run_fn", custom_config=CONFIG,
        hyperparameters=tuner.outputs["best_hyperparameters"],
    )  # fmt: skip
    return [data, tuner, trainer]


def test_the_trainer_is_given_what_the_search_found_and_a_rerun_searches_nothing(tmp_path):
    found = toy_components.run(tmp_path, graph(2))
    _, outputs = found["RecommenderTuner"]
    results = json.loads((pathlib.Path(outputs["tuner_results"].uri) / "tuner_results.json").read_text())
    assert [trial["score"] for trial in sorted(results, key=lambda trial: trial["trial_id"])] == [0.5, 1.0]
    told = json.loads((pathlib.Path(found["RecommenderTrainer"][1]["model_run"].uri) / "told.json").read_text())
    assert told["hyperparameters"]["values"] == {"x": 1}
    told_the_tuner = json.loads(pathlib.Path(told["catalog_uri"], "told_a_tuner.json").read_text())
    assert told_the_tuner == {name: told[name] for name in told_the_tuner} and len(told_the_tuner) == 4
    assert all("Split-train" in path for path in told["train_files"])
    assert all("Split-eval" in path for path in told["eval_files"])
    assert {name: cached for name, (cached, _) in toy_components.run(tmp_path, graph(2)).items()} == dict.fromkeys(
        found, True
    )
    assert not toy_components.run(tmp_path, graph(1))["RecommenderTuner"][0]
