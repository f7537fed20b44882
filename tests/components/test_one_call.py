"""Both stages in one graph: the answers of two calls, over gRPC too, checked and pushed like the others."""

import asyncio
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import toy_components
import toy_models
import toy_ring
from test_atomic_push import graph

from components import atomic_push, evaluation_data, model_store, one_call, serving_checks
from serving import async_client, embedded, server
from serving.client import POPULAR_LIST, HistoryRow, RecommenderClient
from trainer_modules import contract
from trainer_modules import features as f

USERS = ["u0", "u3", "nobody"]


@pytest.fixture(scope="module")
def base_paths(tmp_path_factory):
    """Model -> its base path: the three of version 1."""
    base = tmp_path_factory.mktemp("both")
    toys = {
        contract.RETRIEVAL: toy_models.ToyRetrieval(ring=1.0, snapshot={"u0": [3, 4, 5], "u3": [20]}),
        contract.RANKING: toy_models.ToyRanking(),
    }
    paths = {name: base / name / "1" for name in contract.SERVED}
    for name, toy in toys.items():
        tf.saved_model.save(toy, str(paths[name]), signatures=toy.signatures())
    one_call.compose(str(paths[contract.RETRIEVAL]), str(paths[contract.RANKING]), str(paths[contract.BOTH]))
    return {name: path.parent for name, path in paths.items()}


@pytest.fixture(scope="module")
def running(base_paths):
    with embedded.EmbeddedServer(base_paths) as started:
        server.wait_until_available(started.address, base_paths)
        yield started


@pytest.fixture
def clients(running):
    """One that asks twice, one that asks once."""
    patient = {"address": running.address, "timeout_s": 60}
    with RecommenderClient(**patient) as two, RecommenderClient(**patient, one_call=True) as one:
        yield two, one


def test_it_has_the_contract_s_signatures(base_paths):
    loaded = tf.saved_model.load(str(base_paths[contract.BOTH] / "1"))
    assert sorted(loaded.signatures) == sorted(contract.BOTH_SIGNATURES)


@pytest.mark.parametrize("user_id", USERS)
@pytest.mark.parametrize(
    "asked",
    [
        {"k": 5},
        {"k": 3, "exclude": ["m6", "m7", "unknown"]},
        {"k": 1000},
        {"k": 4, "history": [HistoryRow("m9", 4.0, 20), HistoryRow("m8", 5.0, 10)]},
        {"k": 4, "history": []},
        {"k": 4, "genres": ["Drama"]},
        {"k": 4, "genres": ["Drama"], "history": [HistoryRow("m9", 4.0, 20)]},
    ],
    ids=["stored state", "exclusions", "everything", "a history", "no history", "genres", "genres and a history"],
)
def test_one_call_answers_as_two_do(clients, user_id, asked):
    two, one = (client.recommend(user_id, **asked) for client in clients)
    assert two == one
    assert two.movies and not two.fallback and all(movie.stars is not None for movie in two.movies)
    assert len({movie.stars for movie in two.movies}) > 1 or user_id == "nobody"


def test_it_is_one_call(clients, monkeypatch):
    _, one = clients
    one.connect()
    asked = []
    predict = one.predict
    monkeypatch.setattr(one, "predict", lambda *ask: asked.append(ask[:2]) or predict(*ask))
    one.recommend("u0", 3)
    assert asked == [(contract.BOTH, contract.RECOMMEND)]


def test_asyncio_asks_once_too(running, clients):
    async def ask():
        async with async_client.AsyncRecommenderClient(running.address, timeout_s=60, one_call=True) as one:
            return await one.recommend("u3", 4)

    assert asyncio.run(ask()) == clients[0].recommend("u3", 4)


def test_a_mixed_batch_is_that_of_the_two_stages(clients):
    two, _ = clients
    inputs = {
        contract.USER_ID: USERS,
        contract.EXCLUDE_MOVIE_ID: [["m6"], [""], ["m1"]],
        contract.K: np.array([2, 7, 4], np.int32),
    }
    both = two.predict(contract.BOTH, contract.RECOMMEND, inputs).outputs
    retrieved = two.predict(contract.RETRIEVAL, contract.RECOMMEND, inputs).outputs
    for name, found in retrieved.items():
        np.testing.assert_array_equal(both[name], found)
    rank = {contract.USER_ID: USERS, contract.MOVIE_ID: retrieved[contract.MOVIE_ID]}
    stars = two.predict(contract.RANKING, contract.RANK, rank).outputs[contract.STARS]
    expected = np.where(retrieved[contract.MOVIE_ID] == b"", 0.0, stars)
    np.testing.assert_array_equal(both[contract.STARS], expected)
    assert (expected == 0).any() and expected.any()


def test_the_popular_list_stands_in_for_it(base_paths):
    with embedded.EmbeddedServer({contract.BOTH: base_paths[contract.BOTH]}) as started:
        server.wait_until_available(started.address, [contract.BOTH])
        client = RecommenderClient(started.address, timeout_s=60, num_retries=0, one_call=True).connect()
    with client:
        found = client.recommend("u0", 2, exclude=["m0"])
        assert found.fallback == POPULAR_LIST and len(found.movies) == 2
        assert all(movie.stars is None for movie in found.movies)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda answer: answer, ""),
        (lambda answer: {**answer, "stars": answer["stars"] * np.nan}, "stars are not finite|padding has stars"),
        (lambda answer: {**answer, "stars": answer["stars"] + 9}, "outside 1 to 5|padding has stars"),
        (lambda answer: {name: answer[name] for name in ("movie_id", "movie_title", "score")}, "no output stars"),
    ],
)
def test_infra_validation_asks_it(base_paths, tmp_path, change, reason):
    loaded = tf.saved_model.load(str(base_paths[contract.BOTH] / "1"))
    world = toy_ring.write_world(tmp_path, toy_ring.ring_world())
    states = evaluation_data.read_user_states(world["user_state"], f.FIT_SPLITS)
    asked = set()

    def predict(model, signature, inputs):
        asked.add((model, signature))
        answer = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return change({name: tensor.numpy() for name, tensor in answer.items()})

    if reason:
        with pytest.raises(serving_checks.RefusedError, match=reason):
            serving_checks.check(contract.BOTH, predict, states, (1.0, 5.0))
        return
    serving_checks.check(contract.BOTH, predict, states, (1.0, 5.0))
    assert asked == {(contract.BOTH, signature) for signature in contract.BOTH_SIGNATURES}


def with_one_call(root, paths):
    """test_atomic_push's graph, and the third model."""
    *parts, _ = graph(root, paths["retrieval"], paths["ranking"])
    outputs = {part.id: part.outputs for part in parts}
    models = {name: outputs[f"{name}_model"]["model"] for name in contract.MODELS}
    both = one_call.OneCall(models=models)
    push = atomic_push.AtomicPush(
        models={**models, contract.BOTH: both.outputs["model"]},
        blessings={name: outputs[f"{name}_evaluation"]["blessing"] for name in contract.MODELS},
        infra_blessing=outputs["ToyInfraBlessing"]["blessing"],
        destination=str(root / "models"), keep_versions=2,
    )  # fmt: skip
    return [*parts, both, push]


def test_the_graph_pushes_all_three_under_one_number(tmp_path):
    paths = {
        name: pathlib.Path(toy_models.save(toy, tmp_path / "toys" / name))
        for name, toy in (("retrieval", toy_models.ToyRetrieval()), ("ranking", toy_models.ToyRanking()))
    }
    for cached in (False, True):
        found = toy_components.run(tmp_path, with_one_call(tmp_path, paths))
        assert [found[name][0] for name in ("OneCall", "AtomicPush")] == [cached, cached]
    assert model_store.newest_models(tmp_path / "models") == contract.SERVED
    assert model_store.read_versions(tmp_path / "models")["1"]["both_model_id"] > 0
