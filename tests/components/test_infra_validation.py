"""Infra validation: models that must not be served are refused, with the reason, before anything is pushed."""

import contextlib
import inspect
import os
import pathlib
import re
import resource
import types
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
import toy_components
import toy_models
import toy_ring
import yaml
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tfx.components.util import model_utils
from tfx.types import standard_artifacts

from components import (
    atomic_push,
    baseline,
    evaluation_data,
    infra_server,
    infra_validation,
    serving_checks,
    serving_requests,
)
from serving import embedded, metrics, server
from serving.client import ServingError
from trainer_modules import contract
from trainer_modules import features as f


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return toy_ring.write_world(tmp_path_factory.mktemp("world"), toy_ring.ring_world())


@pytest.fixture(scope="module")
def states(world):
    return evaluation_data.read_user_states(world["user_state"], f.FIT_SPLITS)


def in_process(model, base):
    """predict without a server."""
    loaded = tf.saved_model.load(baseline.saved_model_path(toy_models.save(model, base)))

    def predict(model_name, signature, inputs):
        assert model_name in contract.MODELS
        answer = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: tensor.numpy() for name, tensor in answer.items()}

    return predict


def check(model, predict, states):
    serving_checks.check(model, predict, states, (1.0, 5.0))


@pytest.fixture(scope="module")
def good_predict(tmp_path_factory):
    return in_process(toy_models.ToyRetrieval(ring=1.0), tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize(
    "fault, reason",
    [
        ("nan", "recommend_for_history, a known user with a full history: scores are not numbers"),
        ("unsorted", "scores do not descend"),
        ("shows_seen", "shown although seen or excluded: m"),
        ("shows_excluded", "shown although seen or excluded: m"),
        ("repeats", "names a movie twice"),
        ("fails", "no answer: Graph execution error"),
    ],
)
def test_a_retrieval_model_is_refused_for(states, tmp_path, fault, reason):
    with pytest.raises(serving_checks.RefusedError, match=reason):
        check("retrieval", in_process(toy_models.ToyRetrieval(ring=1.0, fault=fault), tmp_path), states)


@pytest.mark.parametrize(
    "fault, reason",
    [
        ("nan", "ranking/rank_for_history, a known user with a full history: stars are not finite"),
        ("out_of_range", r"stars from \d\.\d+ to \d\.\d+, outside 1 to 5"),
        ("fails", "no answer"),
    ],
)
def test_a_ranking_model_is_refused_for(states, tmp_path, fault, reason):
    with pytest.raises(serving_checks.RefusedError, match=reason):
        check("ranking", in_process(toy_models.ToyRanking(fault=fault), tmp_path), states)


def answers_changed(predict, signature, change):
    """predict, but for one signature's answers."""

    def changed(model, asked, inputs):
        answer = dict(predict(model, asked, inputs))
        return change(answer) if asked == signature else answer

    return changed


def without_last_place(answer):
    return {name: value[:, :-1] for name, value in answer.items()}


@pytest.mark.parametrize(
    "signature, change, reason",
    [
        ("recommend", without_last_place, r"recommend, a known user.* has shape \[1, 19\] where \[1, 20\] was due"),
        ("recommend_filtered", without_last_place, r"recommend_filtered, .* has shape"),
        ("popular", lambda answer: {**answer, "score": -answer["score"]}, "k small and great: scores are not numbers"),
        ("popular", lambda answer: {"movie_id": answer["movie_id"]}, "no output movie_title, only movie_id"),
        ("serving_default", lambda answer: {**answer, "movie_title": answer["movie_title"] * 0}, "has no title"),
        ("similar", lambda answer: {**answer, "movie_id": answer["movie_id"][:, ::-1]}, "do not agree"),
        ("evaluate", lambda answer: {"rank": answer["rank"] + 1}, "masked or unknown"),
        ("embed_query", lambda answer: {"embedding": answer["embedding"][:, 1:]}, "differ in width"),
        ("embed_candidate", lambda answer: {"embedding": answer["embedding"] + np.inf}, "not finite"),
    ],
)
def test_every_signature_is_looked_at(states, good_predict, signature, change, reason):
    with pytest.raises(serving_checks.RefusedError, match=reason):
        check("retrieval", answers_changed(good_predict, signature, change), states)


def test_a_good_model_passes(states, good_predict, tmp_path):
    check("retrieval", good_predict, states)
    check("ranking", in_process(toy_models.ToyRanking(), tmp_path), states)


def test_a_filter_that_does_not_hold_is_refused(states, good_predict):
    def predict(model, signature, inputs):
        if signature == "recommend_filtered":
            signature, inputs = "recommend", {name: inputs[name] for name in ("user_id", "exclude_movie_id", "k")}
        return good_predict(model, signature, inputs)

    with pytest.raises(serving_checks.RefusedError, match=r"recommend_filtered, .*: shown against the filter"):
        check("retrieval", predict, states)


def test_requests_are_of_all_kinds_and_of_nobody(states):
    by_name = {query.what: query for query in serving_requests.queries(states)}
    full, empty, unknown, nobody, many, everything = by_name.values()
    assert full.state["history_movie_id"].shape == full.seen.shape == (1, f.HISTORY_LENGTH)
    assert empty.state["user_id"] == full.state["user_id"] and not empty.seen[0, 0]
    assert unknown.state["user_id"] == nobody.state["user_id"] == [serving_requests.UNKNOWN_USER]
    assert (unknown.state["history_movie_id"] == full.state["history_movie_id"]).all()
    assert empty.state["query_timestamp"] == 0 and full.state["query_timestamp"] > 0
    assert many.num_users == 512
    assert len(set(many.state["user_id"])) == serving_requests.NUM_KNOWN_USERS + 1
    lengths = (many.state["history_movie_id"] != b"").sum(axis=1)
    assert set(lengths) == set(range(f.HISTORY_LENGTH + 1))
    assert everything.seen.shape == (1, contract.MAX_HISTORY)
    for query in by_name.values():  # padded on the left, oldest first; a row's three parts begin together
        is_row = query.state["history_movie_id"] != b""
        assert (np.diff(is_row.astype(int), axis=1) >= 0).all()
        assert ((query.state["history_rating"] > 0) == is_row).all()
        assert ((query.state["history_timestamp"] > 0) == is_row).all()
        assert (np.diff(query.state["history_timestamp"], axis=1) >= 0).all()
        assert not set(query.state["history_timestamp"].flat) & set(states.timestamp), "somebody's rows"
    parsed = tf.train.Example.FromString(full.examples(serving_requests.movies(states, 9), True)[0])
    assert len(parsed.features.feature["history_rating"].float_list.value) == f.HISTORY_LENGTH
    assert "history_rating" not in tf.train.Example.FromString(
        full.examples(serving_requests.movies(states, 9), False)[0]
    ).features.feature


def artifact(kind, uri, number=0):
    made = kind()
    made.uri, made.id = str(uri), number
    return made


LIMITS = {"start_timeout_s": 120.0, "first_answer_s": 60.0, "answer_s": 60.0, "memory_mib": 4096}


def execute(base, world, retrieval=None, ranking=None, blessed=(1, 1), **limits):
    """Infra validation and then the push; the blessing, what was written, what was pushed."""
    inputs = {"user_state": [artifact(standard_artifacts.Examples, world and world["user_state"])]}
    for name, model, verdict in zip(("retrieval", "ranking"), (retrieval, ranking), blessed, strict=True):
        if verdict is None:
            continue
        uri = toy_models.save(model, base / name) if isinstance(model, tf.Module) else model or base / "nowhere"
        inputs[f"{name}_model"] = [artifact(standard_artifacts.Model, uri, 4)]
        inputs[f"{name}_blessing"] = [artifact(standard_artifacts.ModelBlessing, base / "any")]
        inputs[f"{name}_blessing"][0].set_int_custom_property("blessed", verdict)
    blessing = artifact(standard_artifacts.InfraBlessing, base / "blessing")
    properties = {"rating_min": 1.0, "rating_max": 5.0, **LIMITS, **limits, "code": "c"}
    infra_validation.Executor().Do(inputs, {"blessing": [blessing]}, properties)
    atomic_push.Executor().Do(
        {**inputs, "infra_blessing": [blessing]},
        {"pushed_model": [artifact(standard_artifacts.PushedModel, base / "pushed")]},
        {"destination": str(base / "models"), "keep_versions": 2},
    )
    [path] = [path for path in pathlib.Path(blessing.uri).iterdir() if path.is_file()]
    pushed = {path.relative_to(base / "models").as_posix() for path in base.glob("models/*/[0-9]*")}
    return blessing, path.name, pushed


def test_good_models_are_blessed_by_a_real_server_and_pushed_with_its_requests(world, states, tmp_path):
    """A server that loads the pushed models has them answer everything first, and serves them then."""
    snapshot = {"u0": [0, 1, 2]}
    retrieval = toy_models.ToyRetrieval(ring=1.0, snapshot=snapshot)
    blessing, file, pushed = execute(tmp_path, world, retrieval, toy_models.ToyRanking())
    assert blessing.get_string_custom_property("reason") == ""
    assert model_utils.is_infra_validated(blessing) and file == "INFRA_BLESSED"
    assert 100 < blessing.get_int_custom_property("memory_mib") < 4096
    assert pushed == {"ranking/1", "retrieval/1"}
    base_paths = {name: tmp_path / "models" / name for name in contract.MODELS}
    users = set()
    for name, signatures in ((contract.RETRIEVAL, contract.RETRIEVAL_SIGNATURES),
                             (contract.RANKING, contract.RANKING_SIGNATURES)):  # fmt: skip
        requests = warm_up_requests(base_paths[name] / "1")
        assert {request.model_spec.signature_name for request in requests} == set(signatures)
        assert {request.model_spec.name for request in requests} == {name}
        assert len(requests) < 100
        users |= {user for one in requests for user in one.inputs[contract.USER_ID].string_val}
    assert len(users) == serving_requests.NUM_KNOWN_USERS + 1, "of users there are a few ids and nothing else"
    with embedded.EmbeddedServer(base_paths, rest_address="127.0.0.1:0", with_metrics=True) as running:
        server.wait_until_available(running.address, base_paths)
        with urllib.request.urlopen(f"http://{running.rest_address}{metrics.PATH}", timeout=20) as response:
            assert response.read().decode().count("model_warmup_latency_count") == 2


def test_ranking_alone_is_asked_alone(world, tmp_path):
    _, file, pushed = execute(tmp_path, world, None, toy_models.ToyRanking(), blessed=(None, 1))
    assert file == "INFRA_BLESSED" and pushed == {"ranking/1"}
    assert warm_up_requests(tmp_path / "models" / "ranking" / "1")


def warm_up_requests(path):
    file = path / "assets.extra" / "tf_serving_warmup_requests"  # TensorFlow Serving's name
    return [
        prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        for record in tf.compat.v1.io.tf_record_iterator(str(file))
    ]


def with_an_absent_op(base):
    """A sound SavedModel of whose operations no server knows one."""
    uri = toy_models.save(toy_models.ToyRanking(), base)
    path = pathlib.Path(uri, "Format-Serving", "saved_model.pb")
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    nodes = (node for function in saved.meta_graphs[0].graph_def.library.function for node in function.node_def)
    next(node for node in nodes if node.op == "GatherNd").op = "OurOwnGatherNd"
    path.write_bytes(saved.SerializeToString())
    return uri


@pytest.mark.parametrize(
    "fault, reason",
    [
        ("hangs", "ranking/rank_for_history, a known user with a full history: no answer: .*DEADLINE_EXCEEDED"),
        ("crashes", "ranking/rank_for_history.* has ended.*this model ends its server"),
        ("nan", "ranking/rank_for_history, a known user with a full history: stars are not finite"),
        ("absent op", "ranking version 1 could not be loaded: .*OurOwnGatherNd"),
    ],
)
def test_what_must_not_be_served_is_refused_with_the_reason_and_nothing_is_pushed(world, tmp_path, fault, reason):
    ranking = with_an_absent_op(tmp_path / "absent") if fault == "absent op" else toy_models.ToyRanking(fault=fault)
    retrieval = toy_models.ToyRetrieval(ring=1.0)
    limits = {"first_answer_s": 10.0} if fault == "hangs" else {}
    blessing, file, pushed = execute(tmp_path, world, retrieval, ranking, **limits)
    assert not model_utils.is_infra_validated(blessing) and file == "INFRA_NOT_BLESSED"
    assert re.search(reason, blessing.get_string_custom_property("reason"), re.DOTALL)
    assert not pushed and not (tmp_path / "blessing" / "warm_up").exists()


def test_a_model_that_is_slow_when_asked_again_is_refused(world, tmp_path):
    models = toy_models.ToyRetrieval(ring=1.0), toy_models.ToyRanking()
    blessing, _, pushed = execute(tmp_path, world, *models, answer_s=0.00001)
    assert "asked again: no answer within 1e-05 s (DEADLINE_EXCEEDED)" in blessing.get_string_custom_property("reason")
    assert not pushed


@pytest.mark.parametrize(
    "codes, refused",
    [
        (["DEADLINE_EXCEEDED", "OK"], None),
        (["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"], "DEADLINE_EXCEEDED"),
        (["INTERNAL"], "INTERNAL"),
    ],
)
def test_one_late_answer_is_forgiven(monkeypatch, codes, refused):
    answers = ["OK", *codes]

    def predict(*ask):
        if (code := answers.pop(0)) != "OK":
            raise ServingError("rank", "nowhere", code, "")
        return types.SimpleNamespace(outputs={})

    client = contextlib.nullcontext(types.SimpleNamespace(predict=predict))
    monkeypatch.setattr(infra_server, "RecommenderClient", lambda *_, **__: client)
    monkeypatch.setattr(serving_checks, "check", lambda model, ask, *_: ask(model, "rank", {"user_id": ["u1"]}))
    expected = contextlib.nullcontext()
    if refused:
        expected = pytest.raises(serving_checks.RefusedError, match=rf"ranking/rank.* within 5 s \({refused}\)")
    with expected:
        infra_server._ask_everything("nowhere", {"ranking": ""}, None, (1.0, 5.0), infra_server.Limits())
    assert answers == []


def test_the_memory_allowed_is_what_a_pod_has():
    project = pathlib.Path(infra_server.__file__).parents[1]
    path = project / "serving" / "deploy" / "kubernetes" / "movierec-serving.yaml"
    [deployment] = [one for one in yaml.safe_load_all(path.read_text()) if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    allowed = inspect.signature(infra_validation.InfraValidation.__init__).parameters["memory_mib"].default
    assert pod["containers"][0]["resources"]["limits"]["memory"] == f"{allowed // 1024}Gi"


def test_memory_is_that_of_the_server_process(world, states, tmp_path, monkeypatch):
    assert infra_server.peak_memory_mib(os.getpid()) == pytest.approx(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, abs=2
    )
    monkeypatch.setattr(infra_server, "_ask_everything", lambda *_: {})
    saved = {"ranking": baseline.saved_model_path(toy_models.save(toy_models.ToyRanking(), tmp_path))}
    verdict = infra_server.validate(saved, states, (1.0, 5.0), infra_server.Limits(**{**LIMITS, "memory_mib": 50}))
    assert re.fullmatch(r"the server needed \d{3,4} MiB of memory, where 50 MiB are allowed", verdict.reason)


@pytest.mark.parametrize("blessed, named", [((0, 1), "the retrieval"), ((1, 0), "the ranking"), ((0, 0), "and the")])
def test_what_the_evaluation_refused_is_not_tried(tmp_path, blessed, named):
    # Neither models nor users exist: a server would have nothing to load.
    blessing, file, pushed = execute(tmp_path, None, blessed=blessed)
    assert not pushed
    assert file == "INFRA_NOT_BLESSED" and not model_utils.is_infra_validated(blessing)
    assert named in blessing.get_string_custom_property("reason")


def test_forced_what_the_evaluation_refused_is_tried_all_the_same(tmp_path, world, monkeypatch):
    verdicts = ["the server did not like them"]
    monkeypatch.setattr(infra_server, "validate", lambda *_: infra_server.Verdict(verdicts.pop(0)))
    blessing, file, pushed = execute(tmp_path, world, blessed=(0, 1), force=1)
    assert not verdicts and not pushed and file == "INFRA_NOT_BLESSED"
    assert blessing.get_string_custom_property("reason") == "the server did not like them"


def test_a_refusal_is_tried_again_and_a_success_is_kept(tmp_path, monkeypatch):
    toy_models.save(toy_models.ToyRanking(), tmp_path / "toy")

    def graph():
        data = toy_components.ToyData(num_cold_users=1)
        parts, models, blessings = [data], {}, {}
        for name in contract.MODELS:
            model = toy_components.ToyModel(path=str(tmp_path / "toy")).with_id(f"{name}_model")
            evaluation = toy_components.ToyEvaluation(
                model=model.outputs["model"], baseline_model=model.outputs["model"], verdict=1
            ).with_id(f"{name}_evaluation")
            models[name], blessings[name] = model.outputs["model"], evaluation.outputs["blessing"]
            parts += [model, evaluation]
        infra = infra_validation.InfraValidation(
            models=models, blessings=blessings, user_state=data.outputs["user_state"], rating_min=1, rating_max=5
        )
        return [*parts, infra]

    verdicts = ["the machine was busy", "", "never asked"]
    monkeypatch.setattr(infra_server, "validate", lambda *_: infra_server.Verdict(verdicts.pop(0)))
    found = [toy_components.run(tmp_path, graph())["InfraValidation"] for _ in range(3)]
    assert [cached for cached, _ in found] == [False, False, True]
    assert [outputs["blessing"].custom_properties["blessed"].int_value for _, outputs in found] == [0, 1, 1]
    assert verdicts == ["never asked"]
