"""The client against a running server with the toy models, whose answers are known."""

import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
import serving_toys

from serving import client as client_lib
from serving.client import HistoryRow, Ranked, Recommendation, ServingError
from serving.protocol import State
from trainer_modules import contract


def ids(recommendations):
    return [movie.movie_id for movie in recommendations.movies]


def test_recommend_keeps_retrievals_order_and_adds_stars(client):
    answer = client.recommend("u1", 3)
    assert answer.user_id == "u1"
    assert answer.movies == (  # m0 is seen
        Recommendation("m1", "Title 1", -1.0, 1.0),
        Recommendation("m2", "Title 2", -2.0, 5.0),
        Recommendation("m3", "Title 3", -3.0, 1.0),
    )


def test_recommend_leaves_out_what_is_excluded(client):
    assert ids(client.recommend("u1", 3, exclude=["m2", "m1", "not in the catalog"])) == ["m3", "m4", "m5"]


def test_recommend_answers_an_unknown_user(client):
    answer = client.recommend("nobody", 2)
    assert ids(answer) == ["m10", "m9"]
    assert [movie.stars for movie in answer.movies] == [3.0, 3.0]


def test_recommend_gives_fewer_where_there_are_no_more(client):
    answer = client.recommend("u2", 100)
    assert ids(answer) == [f"m{i}" for i in range(18, -1, -1)]


def test_recommend_gives_none_where_all_is_excluded(client):
    assert client.recommend("u1", 5, exclude=[f"m{i}" for i in range(serving_toys.NUM_MOVIES)]).movies == ()


def test_recommend_for_a_history_replaces_what_the_models_know(client):
    history = [HistoryRow("m4", 2.0, 1000), HistoryRow("m2", 4.0, 998)]  # not in order: the client sorts
    answer = client.recommend("u1", 4, history=history, exclude=["m3"])
    assert ids(answer) == ["m5", "m6", "m1", "m7"]  # around m4; m4 and m2 are seen, m0 is not
    assert {movie.stars for movie in answer.movies} == {3.0}  # the mean of the history's ratings


def test_recommend_of_certain_genres(client):
    assert ids(client.recommend("u1", 3, genres=["Odd"])) == ["m1", "m3", "m5"]
    assert ids(client.recommend("u1", 3, ["m2"], ["Odd", "Even"])) == ["m1", "m3", "m4"]
    assert ids(client.recommend("u1", 3, genres=["Western"])) == []
    history = [HistoryRow("m4", 2.0, 1000), HistoryRow("m2", 4.0, 998)]
    assert ids(client.recommend("u1", 3, ["m6"], ["Even"], history)) == ["m0", "m8", "m10"]


def test_a_historys_newest_row_is_the_moment_of_asking(client):
    """The toy moves its best movie by one where query_timestamp is odd."""
    assert ids(client.recommend("x", 1, history=[HistoryRow("m4", 2.0, 1001)])) == ["m5"]
    assert ids(client.recommend("x", 2, history=[HistoryRow("m4", 2.0, 1000)])) == ["m3", "m5"]


def test_rank_keeps_the_order_asked(client):
    assert client.rank("u1", ["m3", "m2"]) == [Ranked("m3", 1.0), Ranked("m2", 5.0)]
    assert client.rank("u1", []) == []
    assert client.rank("u1", ["m3"], history=[HistoryRow("m1", 4.5, 5)]) == [Ranked("m3", 4.5)]


def test_popular_is_the_same_for_anyone(client):
    assert client.popular(2) == [
        Recommendation("m0", "Title 0", 20.0, None), Recommendation("m1", "Title 1", 19.0, None),
    ]


def test_predict_says_which_version_answered(client):
    answer = client.predict(contract.RETRIEVAL, "two", {"x": np.ones([1, 3], np.float32), "tag": ["a"]})
    assert answer.version == 3
    assert answer.outputs["y"].tolist() == [6.0]
    assert answer.outputs["tag_out"].tolist() == [b"a"]


def test_versions(client):
    assert client.versions(contract.RANKING) == [client_lib.VersionStatus(3, State.AVAILABLE, "")]


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda client: client.recommend("u1", 0), "k is 0"),
        (lambda client: client.recommend("u1", contract.MAX_K + 1), f"k is {contract.MAX_K + 1}"),
        (lambda client: client.popular(-1), "k is -1"),
        (lambda client: client.recommend("u1", 1, genres=["x"] * (contract.MAX_GENRES + 1)), "the number of genres"),
        (lambda client: client.rank("u1", ["m1"] * (contract.MAX_RANK + 1)), "movies to rank"),
        (lambda client: client.recommend("u1", 1, exclude=["m"] * (contract.MAX_EXCLUDE + 1)), "exclusions"),
        (
            lambda client: client.recommend("u1", 1, history=[HistoryRow("m1", 1.0, 1)] * (contract.MAX_HISTORY + 1)),
            "history rows",
        ),
    ],
)
def test_limits_are_named_before_anything_is_sent(client, ask, what):
    with pytest.raises(ValueError, match=what):
        ask(client)


def test_a_refusal_says_what_was_asked_and_what_to_do(client, toy_server):
    with pytest.raises(ServingError) as refused:
        client.predict("retrieval", "nope", {})
    assert refused.value.asked == "retrieval/nope"
    assert refused.value.code == "FAILED_PRECONDITION"
    assert refused.value.message == 'Serving signature key "nope" not found.'
    assert toy_server in str(refused.value)
    assert "movierec run" in str(refused.value)


def test_no_server():
    with client_lib.RecommenderClient("127.0.0.1:1", timeout_s=60) as client, pytest.raises(ServingError) as refused:
        client.recommend("u1", 3)
    assert refused.value.code == "UNAVAILABLE"
    assert "movierec serve" in str(refused.value)


def test_deadline():
    """A server that takes every call and answers none."""
    release = threading.Event()

    class Mute(grpc.GenericRpcHandler):
        def service(self, call):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: release.wait(30) and b"")

    mute = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Mute()])
    port = mute.add_insecure_port("127.0.0.1:0")
    mute.start()
    try:
        client = client_lib.RecommenderClient(f"127.0.0.1:{port}", timeout_s=0.3)
        with client, pytest.raises(ServingError) as refused:
            client.recommend("u1", 3)
    finally:
        release.set()
        mute.stop(None)
    assert refused.value.code == "DEADLINE_EXCEEDED"


class Answering(grpc.GenericRpcHandler):
    """Answers every call with the next of the given codes; OK with an empty message once they are used up."""

    def __init__(self, *codes):
        self.codes, self.num_calls = list(codes), 0

    def service(self, call):
        def answer(request, context):
            self.num_calls += 1
            if self.codes:
                context.abort(self.codes.pop(0), "as told")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def answering():
    """Starts a server that answers with the given codes; it and a client's address."""
    started = []

    def start(*codes):
        handler = Answering(*codes)
        server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        started.append(server)
        return handler, f"127.0.0.1:{port}"

    yield start
    for server in started:
        server.stop(None)


UNAVAILABLE, EXHAUSTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_overloaded_server_is_asked_again(answering):
    handler, address = answering(EXHAUSTED, UNAVAILABLE, EXHAUSTED)
    with client_lib.RecommenderClient(address, timeout_s=60) as client:
        assert client.versions("any") == []
    assert handler.num_calls == 4


@pytest.mark.parametrize(
    "code",
    [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, UNAVAILABLE, EXHAUSTED)],
    ids=lambda code: code.name,
)
def test_nothing_else_is_asked_again(answering, code):
    handler, address = answering(code)
    with client_lib.RecommenderClient(address, timeout_s=60) as client, pytest.raises(ServingError) as refused:
        client.versions("any")
    assert (refused.value.code, refused.value.message, handler.num_calls) == (code.name, "as told", 1)


def test_it_is_given_up_after_the_retries_and_at_the_deadline(answering):
    handler, address = answering(*[EXHAUSTED] * 20)
    patient = client_lib.RecommenderClient(address, timeout_s=60, num_retries=2)
    with patient as client, pytest.raises(ServingError) as refused:
        client.versions("any")
    assert (refused.value.code, handler.num_calls) == ("RESOURCE_EXHAUSTED", 3)
    with client_lib.RecommenderClient(address, timeout_s=0.3, num_retries=50) as client, pytest.raises(ServingError):
        client.versions("any")
    assert handler.num_calls < 3 + 10  # pauses of 0.05, 0.1, 0.2 s and on, at half of that at the least


@pytest.fixture
def pair(toy_models):
    """Servers of their own: retrieval alone, and both."""
    from serving import embedded, server

    alone = {contract.RETRIEVAL: toy_models[contract.RETRIEVAL]}
    with embedded.EmbeddedServer(alone) as without_ranking, embedded.EmbeddedServer(toy_models) as both:
        server.wait_until_available(without_ranking.address, alone)
        server.wait_until_available(both.address, toy_models)
        yield without_ranking, both


def test_what_stands_in_when_a_model_is_down(pair):
    without_ranking, both = pair
    with client_lib.RecommenderClient(without_ranking.address, timeout_s=60) as client:
        answer = client.recommend("u1", 2, exclude=["m1"])
        assert answer.fallback == client_lib.RETRIEVAL_ORDER
        assert answer.movies == (
            Recommendation("m2", "Title 2", -2.0, None), Recommendation("m3", "Title 3", -3.0, None),
        )
        with pytest.raises(ServingError):  # asked for by itself it has no stand-in
            client.rank("u1", ["m2"])
    with client_lib.RecommenderClient(both.address, timeout_s=60) as client:
        assert client.recommend("u1", 1).fallback == client_lib.NO_FALLBACK
        both.stop()
        answer = client.recommend("u1", 3, exclude=["m1"], history=[HistoryRow("m0", 5.0, 1)])
        assert answer.fallback == client_lib.POPULAR_LIST
        assert [(movie.movie_id, movie.stars) for movie in answer.movies] == [("m2", None), ("m3", None), ("m4", None)]
        with pytest.raises(ServingError):  # the list could hold movies of any genre
            client.recommend("u1", 3, genres=["Odd"])


def test_a_mistake_has_no_stand_in(toy_server):
    with client_lib.RecommenderClient(toy_server, timeout_s=60, label="canary") as client:
        client._popular = [Recommendation("m0", "Title 0", 20.0, None)]
        with pytest.raises(ServingError) as refused:
            client.recommend("u1", 1)
    assert refused.value.message == "Unrecognized servable version label: canary"
