"""What a log of requests holds, and what it does not, read back with TensorFlow and TensorFlow Serving's messages."""

import hashlib
import hmac
import http.client
import json
import os
import stat

import hypothesis
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from waiting import until

from serving import async_client, embedded, protocol, request_log, server, tensors
from serving import client as client_lib
from serving.client import HistoryRow, ServingError
from serving.commands import Options
from serving.request_log import RequestLog

KEY = bytes(range(32))
USER = "zoë-4711"
HISTORY = [HistoryRow("m4", 2.0, 1_000_004), HistoryRow("m2", 4.0, 999_998)]
TELLING = (b"zo\xc3\xab-4711", b"m17", b"m4", b"m2", b"1000004", b"78712")
"""What must not be found in a log without histories: user id, exclusion, history, ZIP code."""


def pseudonym(user_id):
    return hmac.new(KEY, user_id.encode(), hashlib.sha256).hexdigest().encode()


@pytest.fixture
def key_path(tmp_path):
    path = tmp_path / "secret" / "key"
    path.parent.mkdir()
    path.write_bytes(KEY)
    return path


@pytest.fixture
def opened(tmp_path, key_path, monkeypatch):
    """Opens a log of all requests; its folder is tmp_path / "log". Closed, it has written all of them."""
    monkeypatch.setattr(RequestLog.close, "__defaults__", (60.0,))
    return lambda **more: RequestLog(tmp_path / "log", key_path, rate=1.0, **more)


def files(tmp_path):
    return sorted((tmp_path / "log").glob("*"))


def records(tmp_path):
    """Every PredictionLog, by TensorFlow's own reader, which checks the checksums."""
    found = []
    for path in files(tmp_path):
        for data in tf.compat.v1.io.tf_record_iterator(str(path)):
            found.append(prediction_log_pb2.PredictionLog.FromString(data))
    return found


def arrays(record):
    return {alias: tf.make_ndarray(value).tolist() for alias, value in record.predict_log.request.inputs.items()}


def example():
    features = {"user_id": USER.encode(), "movie_id": b"m9", "user_zip_code": b"78712"}
    feature = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in features.items()}
    history = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"m4", b"m2"]))
    feature["history_movie_id"] = history
    feature["max_year"] = feature["user_id"]  # where a number is due
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def request_of(**inputs):
    request = protocol.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "retrieval", "any"
    for alias, value in inputs.items():
        tensors.encode(value, request.inputs[alias])
    return request


def test_a_client_logs_what_was_answered_and_not_whose_it_was(toy_server, opened, tmp_path):
    with opened() as log, client_lib.RecommenderClient(toy_server, timeout_s=60, request_log=log) as client:
        client.recommend(USER, 2, exclude=["m17"])
        client.recommend(USER, 1, history=HISTORY)
        client.predict("retrieval", "serving_default", {"user_id": [USER]})
        with pytest.raises(ServingError):
            client.predict("retrieval", USER, {})
    found = records(tmp_path)
    data = b"".join(record.SerializeToString() for record in found)  # the files have checksums: those may say anything
    assert not [word for word in TELLING[:3] if word in data]
    by_signature = {}
    for record in found:
        spec = record.predict_log.request.model_spec
        by_signature.setdefault((spec.name, spec.signature_name), []).append(arrays(record))
    mine = [pseudonym(USER)]
    assert by_signature["retrieval", "recommend"] == [{"user_id": mine, "k": [2]}]
    assert by_signature["ranking", "rank"] == [{"user_id": mine, "movie_id": [[b"m10", b"m9"]]}]
    assert by_signature["retrieval", "recommend_for_history"] == [{"user_id": mine, "k": [1]}]
    assert by_signature["retrieval", "serving_default"] == [{"user_id": mine}]
    assert all(record.log_metadata.sampling_config.sampling_rate == 1 for record in found)
    assert all(record.log_metadata.timestamp_secs > 1_700_000_000 for record in found)
    assert log.num_written == len(found)
    assert log.num_lost == 0


def test_histories_are_logged_where_they_are_asked_for(toy_server, opened, tmp_path):
    with (
        opened(with_histories=True) as log,
        client_lib.RecommenderClient(toy_server, timeout_s=60, request_log=log) as client,
    ):
        client.recommend(USER, 1, history=HISTORY, exclude=["m17"])
    for_history = [arrays(record) for record in records(tmp_path) if len(record.predict_log.request.inputs) == 8]
    assert for_history == [
        {
            "user_id": [pseudonym(USER)], "k": [1], "query_timestamp": [1_000_004],
            "history_movie_id": [[b"", b"m2", b"m4"]], "history_rating": [[0.0, 4.0, 2.0]],
            "history_timestamp": [[0, 999_998, 1_000_004]],
            "seen_movie_id": [[b"", b"m2", b"m4"]], "exclude_movie_id": [[b"", b"m17"]],
        }
    ]  # fmt: skip


@pytest.mark.parametrize("with_histories", [False, True])
def test_serialized_examples_are_taken_apart(with_histories):
    kept = request_log.pseudonymous(request_of(examples=[example()]), KEY, with_histories)
    [serialized] = kept.inputs["examples"].string_val
    found = tf.train.Example.FromString(serialized).features.feature
    features = {name: list(value.bytes_list.value) for name, value in found.items()}
    history = {"history_movie_id": [b"m4", b"m2"]} if with_histories else {}
    assert features == {"user_id": [pseudonym(USER)], "movie_id": [b"m9"], **history}
    telling = TELLING if not with_histories else (TELLING[0], TELLING[-1])
    assert not [word for word in telling if word in kept.SerializeToString()]


NUMBERS = ("k", "min_year", "max_year", "query_timestamp", "history_rating", "history_timestamp", "timestamp")
TEXTS = {"movie_id", "genre", "history_movie_id", "seen_movie_id", "exclude_movie_id"}


@hypothesis.given(
    st.dictionaries(st.text(max_size=8) | st.sampled_from(NUMBERS), st.just(USER), max_size=4), st.booleans()
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_under_no_other_name_is_a_user_logged(inputs, with_histories):
    hypothesis.assume(not set(inputs) & {"examples", *TEXTS})
    request = request_of(**{alias: [value] for alias, value in inputs.items()})
    request.inputs["k"].dtype = 3
    request.inputs["k"].string_val.append(USER.encode())  # a stray value beside the dtype's own
    request.output_filter.append(USER)
    unknown = request.SerializeToString() + b"\xfa\x07" + bytes([len(USER.encode())]) + USER.encode()  # field 127
    read = predict_pb2.PredictRequest.FromString(unknown)
    assert USER.encode() in read.SerializeToString()
    assert USER.encode() not in request_log.pseudonymous(read, KEY, with_histories).SerializeToString()


def test_the_embedded_server_logs_grpc_and_json(toy_models, opened, tmp_path):
    with embedded.EmbeddedServer(toy_models, rest_address="127.0.0.1:0", request_log=opened()) as running:
        server.wait_until_available(running.address, toy_models)
        with client_lib.RecommenderClient(running.address, timeout_s=60) as client:
            client.rank(USER, ["m3"])
        web = http.client.HTTPConnection(running.rest_address, timeout=20)
        for name in ("u1", "nothing of the kind"):
            body = {"signature_name": "recommend" if name == "u1" else name,
                    "inputs": {"user_id": [USER], "exclude_movie_id": [["m17"]], "k": [2]}}  # fmt: skip
            web.request("POST", "/v1/models/retrieval/versions/3:predict", json.dumps(body))
            assert web.getresponse().read()
        web.close()
    over_grpc, over_rest = records(tmp_path)
    assert arrays(over_grpc) == {"user_id": [pseudonym(USER)], "movie_id": [[b"m3"]]}
    assert arrays(over_rest) == {"user_id": [pseudonym(USER)], "k": [2]}
    spec = over_rest.predict_log.request.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("retrieval", 3, "recommend")


def test_the_asyncio_client_logs_too(toy_server, opened, tmp_path):
    import asyncio

    async def ask(log):
        async with async_client.AsyncRecommenderClient(toy_server, timeout_s=60, request_log=log) as client:
            await client.rank(USER, ["m3"])

    with opened() as log:
        asyncio.run(ask(log))
    assert [arrays(record)["user_id"] for record in records(tmp_path)] == [[pseudonym(USER)]]


def test_files_are_bounded_in_size_and_number_and_private(opened, tmp_path):
    with opened(max_file_bytes=400, max_files=3) as log:
        for _ in range(20):
            log.offer(request_of(user_id=[USER]))
            until(lambda: not log._queue.qsize())
    assert log.num_written == 20
    assert len(files(tmp_path)) == 3
    assert all(path.stat().st_size < 800 for path in files(tmp_path))
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files(tmp_path))
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700
    assert 3 <= len(records(tmp_path)) < 20


def test_a_torn_tail_costs_one_record(opened, tmp_path):
    with opened() as log:
        for _ in range(3):
            log.offer(request_of(user_id=[USER]))
    [path] = files(tmp_path)
    os.truncate(path, path.stat().st_size - 5)
    iterator = tf.compat.v1.io.tf_record_iterator(str(path))
    assert len([next(iterator), next(iterator)]) == 2
    with pytest.raises(tf.errors.DataLossError):
        next(iterator)
    with opened() as log:  # goes on in a file of its own
        log.offer(request_of(user_id=[USER]))
    assert len(files(tmp_path)) == 2


def test_what_cannot_be_written_is_counted_and_hurts_nobody(toy_server, opened, tmp_path, caplog):
    with opened() as log, client_lib.RecommenderClient(toy_server, timeout_s=60, request_log=log) as client:
        (tmp_path / "log").rmdir()
        (tmp_path / "log").write_text("not a folder any more")
        for _ in range(3):
            assert client.rank("u1", ["m2"])[0].stars == 5.0
    assert (log.num_written, log.num_lost) == (0, 3)
    assert [record.message for record in caplog.records if "not logged" in record.message] != []
    assert len([record for record in caplog.records if "not logged" in record.message]) == 1


def test_a_full_disk_leaves_whole_records(opened, tmp_path, monkeypatch):
    with opened() as log:
        log.offer(request_of(user_id=["a"]))
        until(lambda: log.num_written)
        write = log._file.write

        class Full:
            def __getattr__(self, name):
                return getattr(log_file, name)

            def write(self, data):
                return write(data[: len(data) // 2])

        log_file, log._file = log._file, Full()
        log.offer(request_of(user_id=["b"]))
        until(lambda: log.num_lost)
        log._file = log_file
        log.offer(request_of(user_id=["c"]))
    assert [arrays(record)["user_id"] for record in records(tmp_path)] == [[pseudonym("a")], [pseudonym("c")]]


def test_an_example_that_is_none_is_not_logged(opened, tmp_path):
    with opened() as log:
        log.offer(request_of(examples=[USER.encode()]))
    assert (log.num_written, log.num_lost, files(tmp_path)) == (0, 1, [])


def test_nobody_waits_for_a_slow_disk(opened, monkeypatch):
    import threading

    going = threading.Event()
    monkeypatch.setattr(RequestLog, "_write", lambda self, record: going.wait(20))
    with opened() as log:
        for _ in range(request_log._MAX_WAITING + 50):
            log.offer(request_of(k=[1]))
        assert log.num_lost >= 49
        going.set()


def test_a_sample_is_a_share(tmp_path, key_path):
    with RequestLog(tmp_path / "log", key_path, rate=0.1) as log:
        request = request_of(k=[1])
        for _ in range(20):
            for _ in range(100):
                log.offer(request)
            until(lambda: not log._queue.qsize())
    assert 100 < log.num_written < 320  # 200 expected, standard deviation 13


def test_without_a_good_key_outside_there_is_no_log(tmp_path, key_path, capsys):
    log = tmp_path / "log"
    with pytest.raises(FileNotFoundError):
        RequestLog(log, tmp_path / "absent")
    key_path.write_bytes(b"short")
    with pytest.raises(ValueError, match=r"has 5 bytes.*openssl rand"):
        RequestLog(log, key_path)
    (log / "key").write_bytes(KEY)
    with pytest.raises(ValueError, match="lies in the log"):
        RequestLog(log, log / "key")
    key_path.unlink()
    key_path.symlink_to(log / "key")
    with pytest.raises(ValueError, match="lies in the log"):
        RequestLog(log, key_path)
    for rate in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="share of requests"):
            RequestLog(log, key_path, rate=rate)
    with pytest.raises(SystemExit):
        embedded.main(["--model=a=/tmp", f"--request-log={log}"])
    assert "user ids are not logged as they are" in capsys.readouterr().err


def test_servers_that_would_log_ids_are_not_asked_to(toy_models, tmp_path, key_path, monkeypatch):
    from serving import commands

    with pytest.raises(server.ServerError, match="without a key"):
        server.start(toy_models, "127.0.0.1:0", kind="embedded", options=Options(request_log_folder=tmp_path / "log"))
    options = Options(request_log_folder=tmp_path / "log", request_log_key_path=key_path)
    with pytest.raises(server.ServerError, match=r"user ids as they are: log in the client \(serving.request_log\)"):
        commands.check("tensorflow_model_server", options)


def test_the_check_for_skew_reads_it(toy_server, opened, tmp_path):
    from components import served_requests

    with (
        opened(with_histories=True) as log,
        client_lib.RecommenderClient(toy_server, timeout_s=60, request_log=log) as client,
    ):
        client.rank("u1", ["m3", "m2"])
        client.recommend(USER, 1, history=HISTORY)
    served = served_requests.read(files(tmp_path))
    assert served.movie_id.tolist() == [b"m3", b"m2", b"m3"]
    assert set(served.history_movie_id.tolist()) == {b"m2", b"m4"}
    assert set(served.history_rating.tolist()) == {2.0, 4.0}
