"""The last blessed model, and the Trainer that tells run_fn of catalog and user states, in a real small graph."""

import json
import pathlib

import pytest
import toy_components
from tfx.types import artifact_utils, standard_artifacts

from components import baseline, last_blessed, recommender_trainer
from trainer_modules import fit_pairs


def graph(ring, verdict=1):
    """Trainer -> LastBlessed -> evaluation; `ring` stands for the state of the code."""
    data = toy_components.ToyData(num_cold_users=1)
    trainer = recommender_trainer.RecommenderTrainer(
        **{name: data.outputs[name] for name in ("examples", "catalog", "user_state", "transform_graph", "schema")},
        run_fn="toy_components.run_fn",
        custom_config={"ring": ring, "code": f"code {ring}"},
    ).with_id("RetrievalTrainer")
    last = last_blessed.LastBlessed(
        model=trainer.outputs["model"], blessing_producer_id="RetrievalEvaluation", code="1"
    ).with_id("RetrievalLastBlessed")
    evaluation = toy_components.ToyEvaluation(
        model=trainer.outputs["model"], baseline_model=last.outputs["model"], verdict=verdict
    ).with_id("RetrievalEvaluation")
    return [data, trainer, last, evaluation]


class Root:
    """Runs on one root, and what came of each."""

    def __init__(self, path):
        self.path = path

    def run(self, ring, verdict=1):
        self.found = toy_components.run(self.path, graph(ring, verdict))
        return self

    @property
    def all_cached(self):
        return all(cached for cached, _ in self.found.values())

    def cached(self, component):
        return self.found[component][0]

    @property
    def candidate(self):
        return self.found["RetrievalTrainer"][1]["model"]

    @property
    def baseline_uri(self):
        return self.found["RetrievalLastBlessed"][1]["model"].uri

    @property
    def origin(self):
        return json.loads(pathlib.Path(self.baseline_uri, "baseline.json").read_text())


def files_below(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in pathlib.Path(path).rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return Root(tmp_path_factory.mktemp("root"))


def test_the_baseline_is_the_newest_blessed_model_and_repeated_runs_come_from_the_cache(root):
    first = root.run(ring=1.0)
    assert not first.cached("RetrievalLastBlessed")
    assert first.origin == {} and baseline.find(first.baseline_uri) is None
    model_a = first.candidate

    # run_fn was told where everything lies.
    told = json.loads(pathlib.Path(root.found["RetrievalTrainer"][1]["model_run"].uri, "told.json").read_text())
    data = root.found["ToyData"][1]
    assert told["catalog_uri"] == data["catalog"].uri and told["user_state_uri"] == data["user_state"].uri
    assert told["train_files"] == [data["examples"].uri + "/Split-train/*"]
    assert told["eval_files"] == [data["examples"].uri + "/Split-eval/*"]
    assert told["schema_file"] == data["schema"].uri + "/schema.pbtxt"
    assert told["transform_output"] == data["transform_graph"].uri
    assert told["custom_config"]["code"] == "code 1.0"

    # The blessing happened after LastBlessed ran; still nothing changes, not on the third run either.
    for _ in range(2):
        again = root.run(ring=1.0)
        assert again.all_cached and again.candidate.id == model_a.id

    changed = root.run(ring=2.0)
    model_b = changed.candidate
    assert not changed.cached("RetrievalEvaluation")
    assert changed.origin == {
        "model_id": model_a.id, "model_uri": model_a.uri, "user_state_uri": data["user_state"].uri, "version": "",
    }  # fmt: skip
    assert files_below(changed.baseline_uri + "/Format-Serving") == files_below(model_a.uri + "/Format-Serving")
    assert files_below(model_a.uri + "/Format-Serving") != files_below(model_b.uri + "/Format-Serving")
    found = baseline.find(changed.baseline_uri)
    assert found.version == "" and found.user_state_uri == data["user_state"].uri
    assert root.run(ring=2.0).all_cached

    # Back to A's code: the candidate comes from the cache, its baseline is now B.
    back = root.run(ring=1.0)
    assert back.cached("RetrievalTrainer") and back.candidate.id == model_a.id
    assert back.origin["model_id"] == model_b.id and not back.cached("RetrievalEvaluation")
    assert root.run(ring=1.0).all_cached

    # What was refused is nobody's baseline.
    refused = root.run(ring=3.0, verdict=0)
    assert refused.origin["model_id"] == model_a.id
    after = root.run(ring=4.0)
    assert after.origin["model_id"] == model_a.id

    # A blessed model whose files are gone cannot be compared with: the next newest is.
    for path in sorted(pathlib.Path(after.candidate.uri).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert root.run(ring=5.0).origin["model_id"] == model_a.id


def warm_graph(ring, num_cold_users):
    """LastBlessed -> Trainer -> evaluation, on one of several data sets."""
    data = toy_components.ToyData(num_cold_users=num_cold_users)
    start = last_blessed.LastBlessed(
        user_state=data.outputs["user_state"],
        blessing_producer_id="RetrievalEvaluation",
        folder=fit_pairs.WARM_START_FOLDER,
    ).with_id("RetrievalWarmStart")
    trainer = recommender_trainer.RecommenderTrainer(
        **{name: data.outputs[name] for name in ("examples", "catalog", "user_state", "transform_graph", "schema")},
        run_fn="toy_components.run_fn",
        custom_config={"ring": ring, "code": f"code {ring}"},
        base_model=start.outputs["model"],
    ).with_id("RetrievalTrainer")
    evaluation = toy_components.ToyEvaluation(
        model=trainer.outputs["model"], baseline_model=start.outputs["model"], verdict=1
    ).with_id("RetrievalEvaluation")
    return [data, start, trainer, evaluation]


def test_a_warm_start_is_a_real_input_from_other_data_than_todays(tmp_path):
    def run(ring, num_cold_users):
        """Whether all came from the cache, the candidate's id, the fit pairs it was given, and where they came from."""
        found = toy_components.run(tmp_path, warm_graph(ring, num_cold_users))
        told = pathlib.Path(found["RetrievalTrainer"][1]["model_run"].uri, "told.json")
        start = pathlib.Path(json.loads(told.read_text())["base_model"]).parent
        assert str(start) == found["RetrievalWarmStart"][1]["model"].uri
        pairs = fit_pairs.read(str(start))
        origin = json.loads((start / "baseline.json").read_text())
        cached = all(is_cached for is_cached, _ in found.values())
        return cached, found["RetrievalTrainer"][1]["model"].id, pairs, origin.get("model_id")

    cached, model_a, pairs, origin = run(1.0, num_cold_users=1)
    assert not cached and pairs is None and origin is None
    # Blessed by now, but fitted on these very rows: the same run starts from where it did, out of the cache.
    assert run(1.0, num_cold_users=1)[0]
    cached, model_b, pairs, origin = run(2.0, num_cold_users=2)
    assert not cached and pairs.tolist() == [1] and origin == model_a
    assert run(2.0, num_cold_users=2)[0]
    # Another model on the same rows starts from the same, not from its predecessor on these rows.
    assert run(3.0, num_cold_users=2)[3] == model_a
    assert run(4.0, num_cold_users=3)[2].tolist() == [3]
    assert model_a != model_b


def test_without_a_driver_there_is_no_baseline(tmp_path):
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "baseline")
    candidate = standard_artifacts.Model()
    candidate.uri = str(tmp_path / "candidate")
    last_blessed.Executor().Do({"candidate": [candidate]}, {"model": [model]}, {"blessing_producer_id": "any"})
    assert baseline.find(artifact_utils.get_single_uri([model])) is None
    assert json.loads((tmp_path / "baseline" / "baseline.json").read_text()) == {}
