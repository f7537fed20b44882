"""The asyncio client answers as the one that waits does."""

import asyncio
from concurrent import futures

import grpc
import numpy as np
import pytest

from serving import async_client, embedded, server
from serving import client as client_lib
from serving.client import HistoryRow, ServingError
from trainer_modules import contract


def run(address, ask, **options):
    async def asked():
        async with async_client.AsyncRecommenderClient(address, **{"timeout_s": 60, **options}) as client:
            return await ask(client)

    return asyncio.run(asked())


HISTORY = [HistoryRow("m4", 2.0, 1000), HistoryRow("m2", 4.0, 998)]
QUESTIONS = {
    "recommend": lambda client: client.recommend("u1", 3, exclude=["m2"]),
    "recommend for a history": lambda client: client.recommend("u1", 3, history=HISTORY),
    "recommend of a genre": lambda client: client.recommend("u1", 3, genres=["Odd"]),
    "rank": lambda client: client.rank("u1", ["m3", "m2"]),
    "rank nothing": lambda client: client.rank("u1", []),
    "popular": lambda client: client.popular(2),
    "versions": lambda client: client.versions(contract.RANKING),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_same_answers(toy_server, client, question):
    assert run(toy_server, QUESTIONS[question]) == QUESTIONS[question](client)


def test_predict(toy_server):
    inputs = {"x": np.ones([1, 3], np.float32), "tag": ["a"]}
    answer = run(toy_server, lambda client: client.predict(contract.RETRIEVAL, "two", inputs))
    assert (answer.version, answer.outputs["y"].tolist()) == (3, [6.0])


def test_many_at_once(toy_server):
    async def many(client):
        return await asyncio.gather(*(client.recommend(f"u{i % 3}", 2) for i in range(40)))

    answers = run(toy_server, many, num_retries=20)
    assert [answer.movies[0].movie_id for answer in answers[:3]] == ["m10", "m1", "m18"]
    assert {answer.fallback for answer in answers} == {client_lib.NO_FALLBACK}


def test_refusals_are_the_same(toy_server):
    with pytest.raises(ValueError, match="k is 0"):
        run(toy_server, lambda client: client.recommend("u1", 0))
    with pytest.raises(ServingError) as refused:
        run(toy_server, lambda client: client.recommend("u1", 1), label="canary")
    assert refused.value.message == "Unrecognized servable version label: canary"


def test_fallbacks(toy_models):
    alone = {contract.RETRIEVAL: toy_models[contract.RETRIEVAL]}
    with embedded.EmbeddedServer(alone) as running:
        server.wait_until_available(running.address, alone)

        async def twice(client):
            first = await client.recommend("u1", 2)
            await asyncio.to_thread(running.stop)
            return first, await client.recommend("u1", 2, exclude=["m1"])

        first, second = run(running.address, twice, num_retries=1)
    assert (first.fallback, [movie.movie_id for movie in first.movies]) == (client_lib.RETRIEVAL_ORDER, ["m1", "m2"])
    assert (second.fallback, [movie.movie_id for movie in second.movies]) == (client_lib.POPULAR_LIST, ["m0", "m2"])


@pytest.mark.parametrize(
    ("code", "num_calls"), [(grpc.StatusCode.RESOURCE_EXHAUSTED, 3), (grpc.StatusCode.INVALID_ARGUMENT, 1)]
)
def test_retries(code, num_calls):
    calls = []

    class Refusing(grpc.GenericRpcHandler):
        def service(self, call):
            def answer(request, context):
                calls.append(1)
                context.abort(code, "as told")

            return grpc.unary_unary_rpc_method_handler(answer)

    refusing = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Refusing()])
    port = refusing.add_insecure_port("127.0.0.1:0")
    refusing.start()
    try:
        with pytest.raises(ServingError) as refused:
            run(f"127.0.0.1:{port}", lambda client: client.versions("any"), num_retries=2)
    finally:
        refusing.stop(None)
    assert (refused.value.code, len(calls)) == (code.name, num_calls)
