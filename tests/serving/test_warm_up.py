"""Warm-up files and Prometheus metrics, as a server that loads and answers has them."""

import shutil
import urllib.error
import urllib.request

import pytest
import tensorflow as tf
from prometheus_client import parser
from tensorflow_serving.apis import prediction_log_pb2
from waiting import until

from serving import client as client_lib
from serving import commands, embedded, embedded_options, finder, metrics, server, warm_up
from serving.protocol import State


def record(key="asked", signature="serving_default", dtype=tf.string):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "any"
    request.model_spec.signature_name = signature
    request.inputs["key"].CopyFrom(tf.make_tensor_proto([key], dtype))
    return log.SerializeToString()


OTHER = prediction_log_pb2.PredictionLog()
OTHER.regress_log.request.model_spec.name = "any"


@pytest.fixture
def served(versions, tmp_path):
    """Puts version 1 with warm-up records (bytes: as the file itself) where a running server looks; its address."""
    base_path = tmp_path / "model"
    base_path.mkdir()

    def publish(records):
        partial = tmp_path / "partial"
        shutil.copytree(versions / "1", partial)
        file = partial / warm_up.FILE
        file.parent.mkdir()
        if isinstance(records, bytes):
            file.write_bytes(records)
        else:
            with tf.io.TFRecordWriter(str(file)) as writer:
                for one in records:
                    writer.write(one)
        partial.rename(base_path / "1")
        return running

    with embedded.EmbeddedServer(
        {"model": base_path}, poll_interval_s=0.05, rest_address="127.0.0.1:0", with_metrics=True
    ) as running:
        yield publish


def samples(running):
    """Metric name and labels -> value, read by Prometheus's own parser."""
    with urllib.request.urlopen(f"http://{running.rest_address}{metrics.PATH}", timeout=20) as response:
        text = response.read().decode()
    assert "_total{" not in text
    found = [one for family in parser.text_string_to_metric_families(text) for one in family.samples]
    # The parser renames counters to what newer clients call them; Prometheus itself does not.
    return {(one.name.removesuffix("_total"), *one.labels.values()): one.value for one in found}


def test_warm_up_answers_before_it_serves(served):
    running = served([record(), record("other")] * (warm_up.MAX_RECORDS // 2))
    server.wait_until_available(running.address, ["model"])
    [count] = [value for key, value in samples(running).items() if key[0].endswith("model_warmup_latency_count")]
    assert count == 1


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([record(), record(dtype=tf.string, signature="nope")], 'Serving signature key "nope" not found'),
        ([b"\xff"], "Failed to parse warmup record: 1 from"),
        ([OTHER.SerializeToString()], "Unsupported log_type for warmup: regress_log"),
        ([record()] * (warm_up.MAX_RECORDS + 1), r"Number of warmup records exceeds the maximum \(1000\)"),
        (b"no TFRecord at all", "truncated record|corrupted record"),
    ],
    ids=["a failing record", "no protobuf", "no Predict", "too many", "no TFRecord"],
)
def test_a_bad_warm_up_fails_the_load(served, records, said):
    running = served(records)
    with pytest.raises(server.ServerError, match=said):
        server.wait_until_available(running.address, ["model"])
    with client_lib.RecommenderClient(running.address, timeout_s=60) as client:
        assert client.versions("model")[0].state is State.END
    load = ":tensorflow:cc:saved_model:load_attempt_count"
    assert [(key[2], value) for key, value in samples(running).items() if key[0] == load] == [("fail", 1)]


def test_requests_are_counted_by_model_and_status(served):
    running = served([])
    server.wait_until_available(running.address, ["model"])
    with client_lib.RecommenderClient(running.address, timeout_s=60) as client:
        for signature in ("serving_default", "serving_default", "nope"):
            try:
                client.predict("model", signature, {"key": ["asked"]})
            except client_lib.ServingError as error:
                assert error.code == "FAILED_PRECONDITION"
        with pytest.raises(client_lib.ServingError):
            client.predict("made up", "serving_default", {"key": ["asked"]})
    rest = urllib.request.Request(
        f"http://{running.rest_address}/v1/models/model:predict", b'{"instances": ["asked"]}', method="POST"
    )
    urllib.request.urlopen(rest, timeout=20).close()
    count = ":tensorflow:serving:request_count"
    until(lambda: samples(running).get((count, "model", "OK")) == 3)  # counted after the answer has left
    found = samples(running)
    assert {key[1:]: value for key, value in found.items() if key[0] == count} == {
        ("model", "OK"): 3, ("model", "FAILED_PRECONDITION"): 1,
    }
    latency = ":tensorflow:serving:request_latency"
    assert found[f"{latency}_count", "model", "Predict", "GRPC"] == 2
    assert found[f"{latency}_count", "model", "predict", "REST"] == 1
    assert found[f"{latency}_bucket", "model", "Predict", "GRPC", "+Inf"] == 2
    assert 0 < found[f"{latency}_sum", "model", "Predict", "GRPC"] < 20e6


def test_metrics_are_off_unless_asked(toy_embedded):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{toy_embedded.rest_address}{metrics.PATH}", timeout=20)
    assert refused.value.code == 404


def test_who_does_not_want_it_is_served_at_once(versions, tmp_path):
    base_path = tmp_path / "model"
    shutil.copytree(versions / "1", base_path / "1")
    file = base_path / "1" / warm_up.FILE
    file.parent.mkdir()
    file.write_bytes(b"no TFRecord at all")  # fails whoever reads it
    with embedded.EmbeddedServer({"model": base_path}, poll_interval_s=0.05, warm_up=False) as running:
        server.wait_until_available(running.address, ["model"])


def test_every_kind_of_server_is_told(tmp_path):
    flags = {finder.EMBEDDED: "--no-warm-up", finder.BINARY: "--enable_model_warmup=false",
             finder.CONTAINER: "--enable_model_warmup=false"}  # fmt: skip
    for kind, flag in flags.items():
        for wanted in (True, False):
            options = commands.Options(warm_up=wanted)
            choice = finder.Choice(kind, "x", ())
            command = commands.command(choice, {"model": tmp_path}, "127.0.0.1", 8500, 0, tmp_path, options)
            assert (flag in command) is not wanted
    assert not embedded_options.parse(["--model", "model=x", "--no-warm-up"]).warm_up
    assert embedded_options.parse(["--model", "model=x"]).warm_up
