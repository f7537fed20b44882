"""What components find in a shared root, where no driver asks ML Metadata for them."""

import json
import pathlib

import numpy as np
import pytest
import toy_models
import toy_ring
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.types import artifact_utils, standard_artifacts

from components import (
    anomaly_gate,
    atomic_push,
    data_lookup,
    evaluation_data,
    last_blessed,
    movielens,
    remembered,
    retrieval_evaluation,
    spans,
)
from components.errors import InputError
from trainer_modules import features, fit_pairs


def artifact(kind, uri, **properties):
    made = kind()
    made.uri = str(uri)
    for name, value in properties.items():
        set_ = made.set_int_custom_property if isinstance(value, int) else made.set_string_custom_property
        set_(name, value)
    return made


def model(folder, content):
    """A Model artifact, not a model: nobody loads it here."""
    (folder / "Format-Serving").mkdir(parents=True)
    (folder / "Format-Serving" / "saved_model.pb").write_text(content)
    fit_pairs.write(str(folder), np.array([len(content)]))
    (folder / fit_pairs.WARM_START_FOLDER).mkdir()
    return artifact(standard_artifacts.Model, folder)


def push(root, made, run, verdict=1, infra=1, force=0, retrieval=None):
    inputs = {
        "ranking_model": [made],
        "ranking_blessing": [artifact(standard_artifacts.ModelBlessing, root / "any", blessed=verdict)],
        "infra_blessing": [artifact(standard_artifacts.InfraBlessing, root / "any", blessed=infra)],
    }
    if retrieval:
        inputs |= {"retrieval_model": [retrieval], "retrieval_blessing": inputs["ranking_blessing"]}
    properties = {
        "destination": str(root / "models"), "keep_versions": 2, "blessed_path": str(root / "blessed"), "force": force,
    }  # fmt: skip
    note = artifact(standard_artifacts.PushedModel, root / f"pushed-{run}")
    atomic_push.Executor().Do(inputs, {"pushed_model": [note]}, properties)
    return note.get_string_custom_property("pushed_version")


def baseline(root, run, user_state=None, folder="Format-Serving", name="ranking"):
    found = artifact(standard_artifacts.Model, root / f"baseline-{run}")
    inputs = {"user_state": [artifact(standard_artifacts.Examples, user_state)]} if user_state else {}
    properties = {"blessing_producer_id": "any", "folder": folder, "blessed_path": str(root / "blessed" / name)}
    last_blessed.Executor().Do(inputs, {"model": [found]}, properties)
    return json.loads((pathlib.Path(found.uri) / "baseline.json").read_text()), pathlib.Path(found.uri)


def test_the_last_pushed_model_is_the_baseline_with_what_it_was_fitted_on(tmp_path):
    assert baseline(tmp_path, 0)[0] == {}
    assert push(tmp_path, model(tmp_path / "a", "a"), 1) == "1"
    assert push(tmp_path, model(tmp_path / "b", "bb"), 2) == "2"
    assert push(tmp_path, model(tmp_path / "refused", "ccc"), 3, verdict=0) == ""
    assert push(tmp_path, model(tmp_path / "forced", "dddd"), 4, verdict=0, force=1) == "3"
    origin, folder = baseline(tmp_path, 5)
    assert origin["version"] == "2" and (folder / "Format-Serving" / "saved_model.pb").read_text() == "bb"
    assert fit_pairs.read(origin["model_uri"]).tolist() == [2]
    # The run's own pod is gone by then, and so are its files.
    assert pathlib.Path(origin["model_uri"]).is_relative_to(tmp_path / "blessed")
    assert push(tmp_path, model(tmp_path / "e", "eeeee"), 6) == "4"
    assert push(tmp_path, model(tmp_path / "f", "eeeee"), 7) == "4", "the same content"
    assert [path.name for path in remembered.blessed(tmp_path / "blessed" / "ranking")] == ["2", "4"]


@pytest.mark.parametrize("num_known", [0, 2])
def test_the_last_pushed_model_is_gated_on_though_no_warm_start_can_begin_with_it(tmp_path, num_known):
    rows = toy_ring.ring_world()
    world = toy_ring.write_world(tmp_path / "world", rows)
    last = artifact(standard_artifacts.Model, toy_models.save(toy_models.ToyRetrieval(ring=1.0), tmp_path / "last"))
    fitted = [(user, toy_ring.MOVIE_IDS[movie]) for user, movie, *_ in rows.train + rows.eval + rows.test[:num_known]]
    fit_pairs.write(last.uri, fit_pairs.hashes(fit_pairs.join(*np.array(fitted, "S20").T)))
    assert push(tmp_path, model(tmp_path / "ranking", "r"), 1, retrieval=last) == "1"
    _, found = baseline(tmp_path, 2, name="retrieval")
    candidate = toy_models.save(toy_models.ToyRetrieval(ring=0.0), tmp_path / "candidate")
    inputs = {name: [artifact(standard_artifacts.Examples, uri)] for name, uri in world.items()}
    inputs |= {
        "model": [artifact(standard_artifacts.Model, candidate)],
        "baseline_model": [artifact(standard_artifacts.Model, found)],
    }
    evaluation = artifact(standard_artifacts.ModelEvaluation, tmp_path / "evaluation")
    outputs = {"evaluation": [evaluation], "blessing": [artifact(standard_artifacts.ModelBlessing, tmp_path / "b")]}
    retrieval_evaluation.Executor().Do(inputs, outputs, {"gates": "{}", "code": ""})
    report = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert report["last_blessed"]["version"] == "1" and report["last_blessed"]["metrics"]["recall_at_10"] == 1.0
    assert report["last_blessed"]["gated"] is (num_known == 0)
    assert bool([line for line in report["reasons"] if "last blessed" in line]) is (num_known == 0)
    assert (f"fitted on 2 of today's {len(rows.test)} test rows" in report["last_blessed"]["note"]) is (num_known == 2)
    # And a warm start finds nothing to begin with.
    assert baseline(tmp_path, 3, world["user_state"], fit_pairs.WARM_START_FOLDER, "retrieval")[0] == {}


def test_a_warm_start_leaves_out_what_was_fitted_on_todays_rows(tmp_path):
    uris = toy_ring.write_world(tmp_path / "world", toy_ring.ring_world())
    assert push(tmp_path, model(tmp_path / "older", "o"), 1) == "1"
    todays = model(tmp_path / "todays", "todays")
    states = evaluation_data.read_user_states(str(uris["user_state"]), features.FIT_SPLITS)
    pairs = evaluation_data.pairs(states.user_id[states.row_user], states.movie_id)
    fit_pairs.write(todays.uri, fit_pairs.hashes(pairs))
    assert push(tmp_path, todays, 2) == "2"
    assert baseline(tmp_path, 3)[0]["version"] == "2"
    origin, folder = baseline(tmp_path, 4, uris["user_state"], fit_pairs.WARM_START_FOLDER)
    assert origin["version"] == "1" and fit_pairs.read(str(folder)).tolist() == [1]


@pytest.mark.parametrize("is_anomalous", [False, True])
def test_the_gate_keeps_what_passed_for_the_next_comparison(tmp_path, is_anomalous):
    checked = artifact(standard_artifacts.ExampleAnomalies, tmp_path / "check", data_digest="d" * 64)
    checked.split_names = artifact_utils.encode_split_names(["train"])
    found = anomalies_pb2.Anomalies()
    if is_anomalous:
        found.anomaly_info["x"].description = "moved"
    (tmp_path / "check" / "Split-train").mkdir(parents=True)
    (tmp_path / "check" / "Split-train" / DEFAULT_FILE_NAME).write_bytes(found.SerializeToString())
    accepted = tmp_path / "accepted"
    given = {anomaly_gate.DISTRIBUTION_ANOMALIES: [checked]}, {}, {"accepted_data_path": str(accepted), "code": ""}
    if is_anomalous:
        with pytest.raises(InputError, match="train: x: moved"):
            anomaly_gate.Executor().Do(*given)
        assert not accepted.exists()
        return
    for _ in range(2):
        anomaly_gate.Executor().Do(*given)
    assert [path.name for path in accepted.glob("[!.]*")] == ["1-" + "d" * 16]
    assert remembered.last_accepted(accepted, "d" * 64) == ""
    assert remembered.last_accepted(accepted, "e" * 64) == str(accepted / ("1-" + "d" * 16))


def test_of_accepted_data_the_newest_others_are_kept(tmp_path):
    for digit in "123451":
        (tmp_path / digit).mkdir(exist_ok=True)
        (tmp_path / digit / "file").write_text(digit)
        remembered.keep_accepted(tmp_path / "accepted", str(tmp_path / digit), digit * 64)
    assert remembered.last_accepted(tmp_path / "accepted", "1" * 64).endswith("5-" + "5" * 16)
    assert remembered.last_accepted(tmp_path / "accepted", "6" * 64).endswith("6-" + "1" * 16)
    assert len(list((tmp_path / "accepted").glob("[0-9]*"))) == 3


def test_data_are_found_by_name_or_in_the_roots_spans(tmp_path):
    found = data_lookup.find(tmp_path, "sample", "", "", 0)
    sample = movielens.get_edition("sample")
    assert found.spans == () and found.path.is_relative_to(tmp_path / ".cache")
    assert found.digest == movielens.content_digest(found.path, sample)
    with pytest.raises(InputError, match="csv is read from spans here"):
        data_lookup.find(tmp_path, "csv", "", "", 0)
    with pytest.raises(InputError, match="no fold"):
        data_lookup.find(tmp_path, "sample", "", "u1", 0)


def test_the_newest_spans_are_found(tmp_path, monkeypatch):
    sample = movielens.get_edition("sample")
    one = spans.Span(0, [], {}, 2, 2, 0, 0, 1)
    listed = spans.Spans(sample.to_json(), "", {}, [one, spans.Span(1, [], {}, 1, 1, 0, 0, 0)])
    monkeypatch.setattr(spans, "listed", lambda folder: listed if folder == tmp_path / "spans" else None)
    monkeypatch.setattr(spans, "content_digest", lambda folder, numbers: f"of {list(numbers)}")
    assert data_lookup.find(tmp_path, "ml-100k", "", "", 0).spans == (0, 1)
    newest = data_lookup.find(tmp_path, "ml-100k", "", "", 1)
    assert (newest.spans, newest.digest, newest.edition.name) == ((1,), "of [1]", "sample")
    with pytest.raises(InputError, match="fold u1 divides the published ratings"):
        data_lookup.find(tmp_path, "ml-100k", "", "u1", 0)
