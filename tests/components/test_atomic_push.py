"""The push in a real small graph: both or neither, once, and again when code goes back."""

import json
import pathlib
import shutil

import pytest
import toy_components
import toy_models

from components import atomic_push, model_store
from trainer_modules import contract


def graph(root, retrieval_path, ranking_path, verdicts=(1, 1, 1), force=False):
    data = {"retrieval": retrieval_path, "ranking": ranking_path} if retrieval_path else {"ranking": ranking_path}
    parts, models, blessings = [], {}, {}
    for (name, path), verdict in zip(data.items(), verdicts[:-1], strict=True):
        model = toy_components.ToyModel(path=str(path)).with_id(f"{name}_model")
        evaluation = toy_components.ToyEvaluation(
            model=model.outputs["model"], baseline_model=model.outputs["model"], verdict=verdict
        ).with_id(f"{name}_evaluation")
        models[name], blessings[name] = model.outputs["model"], evaluation.outputs["blessing"]
        parts += [model, evaluation]
    infra = toy_components.ToyInfraBlessing(verdict=verdicts[-1])
    push = atomic_push.AtomicPush(
        models=models, blessings=blessings, infra_blessing=infra.outputs["blessing"],
        destination=str(root / "models"), keep_versions=2, force=force, code="c",
    )  # fmt: skip
    return [*parts, infra, push]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    base = tmp_path_factory.mktemp("toys")
    toys = {
        "retrieval A": toy_models.ToyRetrieval(ring=1.0),
        "retrieval B": toy_models.ToyRetrieval(ring=2.0),
        "ranking A": toy_models.ToyRanking(),
    }
    return {name: pathlib.Path(toy_models.save(model, base / name)) for name, model in toys.items()}


class Root:
    def __init__(self, path, toys):
        self.path, self.toys = path, toys

    def run(self, retrieval, verdicts=(1, 1, 1), force=False):
        """(all from the cache?, pushed, version) of a run."""
        parts = graph(self.path, self.toys.get(f"retrieval {retrieval}"), self.toys["ranking A"], verdicts, force)
        found = toy_components.run(self.path, parts)
        self.cached, outputs = found["AtomicPush"]
        self.all_cached = all(cached for cached, _ in found.values())
        self.artifact = outputs["pushed_model"]
        properties = self.artifact.custom_properties
        return self.cached, properties["pushed"].int_value, properties["pushed_version"].string_value

    @property
    def push_json(self):
        return json.loads(pathlib.Path(self.artifact.uri, "push.json").read_text())

    def served(self):
        return {
            name: sorted(path.name for path in (self.path / "models" / name).glob("*")) for name in contract.MODELS
        }


def test_a_push_happens_once_and_again_when_code_goes_back(tmp_path, toys):
    root = Root(tmp_path, toys)
    assert root.run("A") == (False, 1, "1")
    assert root.served() == {"ranking": ["1"], "retrieval": ["1"]}
    model = tmp_path / "models" / "retrieval" / "1"
    assert model_store.content_digest({"m": model}) == model_store.content_digest(
        {"m": toys["retrieval A"] / "Format-Serving"}
    )
    told = root.push_json
    assert told["version"] == 1 and told["pushed"] and told["destination"] == str(tmp_path / "models")
    assert model_store.read_versions(tmp_path / "models")["1"]["retrieval_model_id"] == told["retrieval_model_id"] > 0
    for _ in range(2):
        assert root.run("A") == (True, 1, "1") and root.all_cached

    assert root.run("B") == (False, 1, "2")
    assert root.run("B") == (True, 1, "2")
    # Everything but the push comes from the cache: the older models become a new version.
    assert root.run("A") == (False, 1, "3")
    assert root.run("A") == (True, 1, "3")
    assert root.run("B") == (False, 1, "4")
    assert root.served() == {"ranking": ["3", "4"], "retrieval": ["3", "4"]}

    # What somebody deleted is pushed anew, under a new number.
    for name in contract.MODELS:
        shutil.rmtree(tmp_path / "models" / name)
    assert root.run("B") == (False, 1, "5")


@pytest.mark.parametrize(
    "verdicts, named", [((0, 1, 1), "retrieval_blessing"), ((1, 0, 1), "ranking_"), ((1, 1, 0), "infra_blessing")]
)
def test_what_is_not_blessed_is_not_pushed(tmp_path, toys, verdicts, named):
    root = Root(tmp_path, toys)
    assert root.run("A", verdicts) == (False, 0, "")
    assert root.served() == {"ranking": [], "retrieval": []}
    assert named in root.push_json["reason"] and root.push_json["version"] is None
    assert root.run("A", verdicts) == (True, 0, "")


def test_force_overrules_an_evaluation_and_says_so_but_not_infra_validation(tmp_path, toys):
    root = Root(tmp_path, toys)
    assert root.run("A", (0, 1, 1)) == (False, 0, "")
    assert root.run("A", (0, 1, 1), force=True) == (False, 1, "1")
    assert model_store.read_versions(tmp_path / "models")["1"]["forced_without"] == ["retrieval_blessing"]
    assert root.push_json["forced_without"] == ["retrieval_blessing"]
    assert root.run("A", (0, 1, 1), force=True) == (True, 1, "1")
    assert root.run("B", (1, 1, 1), force=True) == (False, 1, "2")
    assert "forced_without" not in model_store.read_versions(tmp_path / "models")["2"]
    assert root.run("A", (1, 1, 0), force=True) == (False, 0, "")


def test_ranking_is_pushed_alone_where_there_is_no_retrieval(tmp_path, toys):
    root = Root(tmp_path, toys)
    assert root.run(None, verdicts=(0, 1)) == (False, 0, "")
    assert "ranking_blessing" in root.push_json["reason"] and "retrieval" not in root.push_json["reason"]
    assert root.run(None, verdicts=(1, 1)) == (False, 1, "1")
    assert root.served() == {"ranking": ["1"], "retrieval": []}
    assert root.run(None, verdicts=(1, 1)) == (True, 1, "1") and root.all_cached


def test_the_next_run_finds_a_push_that_was_killed_after_it_was_decided(tmp_path, toys):
    destination = tmp_path / "models"
    sources = {"retrieval": toys["retrieval A"] / "Format-Serving", "ranking": toys["ranking A"] / "Format-Serving"}
    model_store.push(destination, sources, 2, {"push_id": "killed"})
    # Back to where the process died: staged and decided, nothing renamed yet.
    record = model_store.read_versions(destination)["1"]
    for name in contract.MODELS:
        (destination / ".staging-1").mkdir(exist_ok=True)
        (destination / name / "1").rename(destination / ".staging-1" / name)
    (destination / "versions.json").unlink()
    (destination / ".journal.json").write_text(json.dumps({"version": 1, "record": record}))
    root = Root(tmp_path, toys)
    assert root.run("A") == (False, 0, "1")
    assert root.served() == {"ranking": ["1"], "retrieval": ["1"]}
    assert root.push_json["reason"] == "version 1 holds these models already"
    assert model_store.read_versions(destination)["1"]["push_id"] == "killed"
