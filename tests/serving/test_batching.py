"""Request batching, as TensorFlow Serving's source has it, on the embedded server and on TFS_BINARY where it is set.

A batch of these servers is computed when it is full and, but for one test, not before: so requests that are answered
were computed together.
"""

import contextlib
import http.client
import json
import pathlib
import threading
from concurrent import futures

import grpc
import hypothesis
import numpy as np
import pytest
import real_server
from hypothesis import strategies as st
from test_conformance import predict, predict_request
from waiting import until

from serving import batching_parameters, embedded, server
from serving import client as client_lib
from serving.batching import Batcher
from serving.batching_parameters import BatchingParameters
from serving.client import HistoryRow
from serving.saved_model import RequestError
from trainer_modules import contract

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
NEVER = 60_000_000  # microseconds


@pytest.fixture(scope="module", params=["embedded", *(name for name in real_server.NAMED if name == "TFS_BINARY")])
def start(request, toy_models, tmp_path_factory):
    """Starts a server with the given lines of a batching parameters file; a channel to it."""
    with contextlib.ExitStack() as stack:

        def started(lines):
            folder = tmp_path_factory.mktemp("batching")
            path = folder / "batching.config"
            path.write_text(lines)
            if request.param == "TFS_BINARY":
                flags = ["--enable_batching=true", f"--batching_parameters_file={path}", "--grpc_max_threads=64"]
                running = stack.enter_context(real_server.started(toy_models, folder, *flags))
            else:
                running = stack.enter_context(
                    embedded.EmbeddedServer(
                        toy_models, num_threads=64, rest_address="127.0.0.1:0",
                        batching=batching_parameters.of_file(path),
                    )
                )
                server.wait_until_available(running.address, toy_models)
            return running

        yield started


def channel_of(running):
    return grpc.insecure_channel(running.address)


@pytest.fixture(scope="module")
def of_four(start):
    """Four rows make a batch."""
    return start(
        f"max_batch_size {{ value: 4 }} batch_timeout_micros {{ value: {NEVER} }} max_enqueued_batches {{ value: 10 }}"
        " num_batch_threads { value: 2 } pad_variable_length_inputs: true"
    )


def together(*asks):
    """Runs functions at the same time: their results, or the gRPC code and message."""

    def run(ask):
        try:
            return ask()
        except grpc.RpcError as error:
            return error.code(), error.details()

    with futures.ThreadPoolExecutor(len(asks)) as pool:
        return list(pool.map(run, asks))


def echo(channel, words, number=None):
    """The words and the numbers that come back, and how many rows there were in the batch."""
    number = np.zeros(len(words), np.int32) if number is None else np.array(number, np.int32)
    response = predict(channel, predict_request({"words": words, "number": number}, "echo"))
    shape = [dim.size for dim in response.outputs["words_out"].tensor_shape.dim]
    strings = np.array(response.outputs["words_out"].string_val, object).reshape(shape).astype(str).tolist()
    return strings, list(response.outputs["number_out"].int_val), set(response.outputs["num_rows"].int_val)


def test_rows_go_back_to_whom_they_belong(of_four):
    with channel_of(of_four) as channel:
        answers = together(
            lambda: echo(channel, [["a"], ["b"]], [1, 2]),
            lambda: echo(channel, [["c"]], [3]),
            lambda: echo(channel, [["d"]], [4]),
        )
    assert answers == [([["a"], ["b"]], [1, 2], {4}), ([["c"]], [3], {4}), ([["d"]], [4], {4})]


def test_widths_are_padded_at_the_end_with_the_requests_first_value(of_four):
    with channel_of(of_four) as channel:
        answers = together(
            lambda: echo(channel, [["a", "b", "c"]]),
            lambda: echo(channel, [["d", "e"], ["f", "g"]]),
            lambda: echo(channel, [["", "h"]]),
        )
    assert [words for words, _, _ in answers] == [
        [["a", "b", "c"]], [["d", "e", "d"], ["f", "g", "d"]], [["", "h", ""]],
    ]


def test_an_empty_list_beside_longer_ones_fails_the_batch(of_four):
    with channel_of(of_four) as channel:
        empty = np.empty([1, 0], object)
        answers = together(*[lambda: echo(channel, [["a"]])] * 3, lambda: echo(channel, empty))
    assert answers == [(INVALID_ARGUMENT, "Got empty tensor in batch of non-empty tensors.")] * 4


def test_a_request_that_the_graph_refuses_fails_the_batch(of_four):
    with channel_of(of_four) as channel:
        answers = together(*[lambda: echo(channel, [["a"]])] * 3, lambda: echo(channel, [["a"]], [-1]))
    assert [code for code, _ in answers] == [INVALID_ARGUMENT] * 4


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"words": [["a"]] * 5, "number": np.zeros(5, np.int32)},
         "Task size 5 is larger than maximum input batch size 4"),
        ({"words": [["a"]] * 2, "number": np.zeros(1, np.int32)},
         "Batching Run() input tensors must have equal 0th-dimension size"),
        ({"words": [["a"]], "number": np.int32(0)}, "Batching Run() input tensors must have at least one dimension"),
    ],
)  # fmt: skip
def test_what_makes_no_batch_is_refused_at_once(of_four, inputs, message):
    with channel_of(of_four) as channel:
        assert together(lambda: predict(channel, predict_request(inputs, "echo"))) == [(INVALID_ARGUMENT, message)]


def test_different_outputs_share_no_batch(of_four):
    """Else the first four would fill one."""
    with channel_of(of_four) as channel:
        inputs = {"words": [["a"], ["b"]], "number": np.zeros(2, np.int32)}
        asks = [
            lambda outputs=outputs: set(
                predict(channel, predict_request(inputs, "echo", outputs=outputs)).outputs["num_rows"].int_val
            )
            for outputs in ([], [], ["num_rows"], ["num_rows"])
        ]
        assert together(*asks) == [{4}] * 4


ASKS = [
    lambda client: client.recommend("u1", 3),
    lambda client: client.recommend("u2", 1, exclude=["m18", "m17", "nothing"]),
    lambda client: client.recommend("nobody", 7, exclude=["m10"]),
    lambda client: client.recommend("u1", 20, exclude=[f"m{i}" for i in range(20)]),
    lambda client: client.recommend("u1", 4, history=[HistoryRow("m4", 2.0, 1000), HistoryRow("m2", 4.0, 998)]),
    lambda client: client.recommend("u1", 2, history=[HistoryRow("m7", 5.0, 1000)], exclude=["m6", "m8"]),
    lambda client: client.recommend("x", 9, history=[HistoryRow(f"m{i}", 1.0 + i / 5, 990 + i) for i in range(15)]),
    lambda client: client.recommend("x", 1, history=[HistoryRow("m0", 0.5, 1), HistoryRow("unknown", 3.0, 0)]),
    lambda client: client.recommend("u1", 3, genres=["Odd"]),
    lambda client: client.recommend("u2", 5, ["m8"], ["Even", "Western"]),
    lambda client: client.recommend("u1", 1, genres=["Western"]),
    lambda client: client.recommend("u1", 9, genres=["Odd", "Even", "Western"]),
    lambda client: client.rank("u1", ["m3"]),
    lambda client: client.rank("u1", ["m3", "m2", "m1"]),
    lambda client: client.rank("u2", ["m3", "m2"]),
    lambda client: client.rank("u1", [f"m{i}" for i in range(20)]),
    lambda client: client.rank("u1", ["m3"], history=[HistoryRow("m1", 4.5, 5)]),
    lambda client: client.rank("u1", ["m3", "m4"], history=[HistoryRow("m1", 4.5, 5), HistoryRow("m2", 2.5, 6)]),
    lambda client: client.rank("u1", ["m3"], history=[HistoryRow("m1", 1.0, 5)] * 5),
    lambda client: client.rank("u1", ["m9"] * 4, history=[HistoryRow("m8", 3.0, 7), HistoryRow("m1", 2.0, 8)]),
]


def test_the_client_is_answered_as_without_batching(start, client):
    """Mixed k, exclusions, histories and movies in one batch; four users at a time."""
    running = start(
        "max_batch_size { value: 4 } batch_timeout_micros { value: 100000 } pad_variable_length_inputs: true"
    )
    alone = [ask(client) for ask in ASKS]
    with client_lib.RecommenderClient(running.address, timeout_s=30) as batched:
        batched.connect()
        for first in range(0, len(ASKS), 4):
            asks = [lambda ask=ask: ask(batched) for ask in ASKS[first : first + 4]]
            assert together(*asks) == alone[first : first + 4]


def test_without_padding_widths_must_be_equal(start):
    running = start(f"max_batch_size {{ value: 2 }} batch_timeout_micros {{ value: {NEVER} }}")
    with channel_of(running) as channel:
        asks = [lambda: echo(channel, [["a"]]), lambda: echo(channel, [["a", "b"]])]
        message = (
            "Tensors with name 'echo_words:0' from different tasks have different shapes and padding is turned off."
            "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
            "have equal dimensions starting with the first dim."
        )
        assert together(*asks) == [(FAILED_PRECONDITION, message)] * 2
        assert together(asks[0], asks[0])[0][0] == [["a"]]


def test_a_full_queue_is_unavailable(start):
    running = start(
        "max_batch_size { value: 1 } max_enqueued_batches { value: 1 } num_batch_threads { value: 1 }"
        " batch_timeout_micros { value: 0 }"
    )
    with channel_of(running) as channel:

        def ask():
            return predict(channel, predict_request({"wait_s": np.array([0.5])}, "wait")) and None

        answers = together(*[ask] * 12)
    refused = [answer for answer in answers if answer]
    assert set(refused) == {
        (UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full; currently 1 batches"
                      " enqueued and max_enqueued_batches is 1")
    }  # fmt: skip
    assert len(refused) < 12


def test_allowed_batch_sizes_are_filled_up(start):
    running = start(
        "max_batch_size { value: 8 } allowed_batch_sizes: 3 allowed_batch_sizes: 8 batch_timeout_micros { value: 0 }"
    )
    with channel_of(running) as channel:
        assert echo(channel, [["a"], ["b"]], [1, 2]) == ([["a"], ["b"]], [1, 2], {3})
        assert echo(channel, [["a"]] * 4, [1, 2, 3, 4]) == ([["a"]] * 4, [1, 2, 3, 4], {8})
        assert echo(channel, np.empty([0, 1], object))[0] == []


def test_rest_shares_the_batches(of_four):
    def over_rest():
        web = http.client.HTTPConnection(of_four.rest_address, timeout=20)
        body = {"signature_name": "echo", "instances": [{"words": ["a"], "number": 7}]}
        web.request("POST", "/v1/models/retrieval:predict", json.dumps(body))
        answer = json.load(web.getresponse())
        web.close()
        return answer["predictions"]

    with channel_of(of_four) as channel:
        rows, answer = together(over_rest, lambda: echo(channel, [["b"], ["c"], ["d"]]))
    assert rows == [{"words_out": ["a"], "number_out": 7, "num_rows": 4}]
    assert answer[0] == [["b"], ["c"], ["d"]]


@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=5),
    st.sampled_from([(), (1, 2, 4, 20), (20,)]),
)
@hypothesis.settings(max_examples=25, deadline=None)
def test_any_mixture_is_split_as_it_was_put_together(shapes, allowed):
    batcher = Batcher(BatchingParameters(20, 20_000, 10, 1, allowed, pad_variable_length_inputs=True))
    batcher.start()
    given = [np.arange(rows * width).reshape(rows, width) + 100 * index for index, (rows, width) in enumerate(shapes)]
    asks = [lambda feed=feed: batcher.run(twice, ["x"], [feed])[0] for feed in given]
    for feed, answer in zip(given, together(*asks), strict=True):
        assert (answer[:, : feed.shape[1]] == 2 * feed).all()
        assert (answer[:, feed.shape[1] :] == 2 * feed[0, 0]).all()
    batcher.stop()


def twice(x):
    return [2 * x]


def test_what_waits_is_computed_before_the_end():
    batcher = Batcher(BatchingParameters(batch_timeout_micros=NEVER, num_batch_threads=1))
    batcher.start()
    with futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(batcher.run, twice, ["x"], [np.array([3])])
        until(lambda: batcher._queues)
        batcher.stop()
        assert answer.result(timeout=20)[0].tolist() == [6]


def test_a_list_too_wide_for_the_batch_is_computed_alone():
    """Padding the others to its width would cost gigabytes before the graph can refuse it."""
    sizes, begun, goes_on = [], threading.Event(), threading.Event()

    def count(x):
        begun.set()
        goes_on.wait(20)
        sizes.append(x.shape)
        return [x[:, 0]]

    batcher = Batcher(BatchingParameters(batch_timeout_micros=0, num_batch_threads=1, pad_variable_length_inputs=True))
    batcher.start()
    with futures.ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.run, count, ["x"], [np.zeros([1, 1], np.int8)])
        assert begun.wait(20)  # alone: what comes now is one batch
        wide = [pool.submit(batcher.run, count, ["x"], [np.zeros([1, width], np.int8)]) for width in (2**23, 2**22, 1)]
        until(lambda: sum(batch.size for batches in list(batcher._queues.values()) for batch in batches) == 3)
        goes_on.set()
        assert [answer.result(20)[0].tolist() for answer in (first, *wide)] == [[0]] * 4
    batcher.stop()
    assert sorted(sizes) == [(1, 1), (1, 1), (1, 2**22), (1, 2**23)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_sice { value: 4 }", r"no batching parameters file.*max_batch_sice"),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("num_batch_threads { value: -1 }", "num_batch_threads must be positive; was -1"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 2",
         "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 2; expected 4"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 4 allowed_batch_sizes: 2", "monotonically increasing"),
        ("enable_large_batch_splitting { value: true }", "does not split"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_said(tmp_path, text, message):
    path = tmp_path / "batching.config"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        batching_parameters.of_file(path)


def test_the_deployed_parameters():
    deployed = pathlib.Path(batching_parameters.__file__).parent / "deploy" / "batching.config"
    parameters = batching_parameters.of_file(deployed)
    assert parameters.pad_variable_length_inputs
    # More rows the models refuse; and with fewer a version would not load, as its warm-up file has large requests.
    assert parameters.max_batch_size == contract.MAX_BATCH


def test_an_absent_file_of_parameters_ends_the_server(tmp_path, capsys):
    with pytest.raises(SystemExit, match="No such file"):
        embedded.main(["--model=a=/tmp", "--enable-batching", f"--batching-parameters-file={tmp_path}/absent"])
    with pytest.raises(SystemExit):
        embedded.main(["--model=a=/tmp", "--batching-parameters-file=x"])
    assert "without --enable-batching" in capsys.readouterr().err


def test_a_wrong_dtype_fails_alone(of_four, request):
    if request.node.callspec.params["start"] != "embedded":
        pytest.skip("the embedded server's own rule")
    with channel_of(of_four) as channel:
        inputs = {"words": [["a"]], "number": np.zeros(1, np.int64)}
        [(code, message)] = together(lambda: predict(channel, predict_request(inputs, "echo")))
    assert (code, message) == (INVALID_ARGUMENT, "Expects arg[0] to be int32 but int64 is provided")


def test_an_error_is_each_callers_own():
    """One exception raised in several threads would have its traceback written by all of them."""
    batcher = Batcher(BatchingParameters(2, NEVER, num_batch_threads=1))
    batcher.start()

    def fail(x):
        raise RequestError(INVALID_ARGUMENT, "no")

    def ask():
        try:
            batcher.run(fail, ["x"], [np.zeros(1)])
        except RequestError as error:
            return error

    first, second = together(ask, ask)
    batcher.stop()
    assert first is not second
    assert (first.message, second.message) == ("no", "no")
