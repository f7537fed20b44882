"""`movierec serve` and the verbs that ask it, as a user types them, with certificates and with a log of requests."""

import contextlib
import json
import pathlib
import re
import subprocess
import sys

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

MOVIEREC = pathlib.Path(sys.executable).with_name("movierec")


@pytest.fixture
def root(toy_models, tmp_path):
    """A root in which the toys were pushed."""
    path = tmp_path / "root"
    (path / "models").mkdir(parents=True)
    (path / "root.json").write_text(json.dumps({"dataset": "sample", "split": "random"}))
    (path / "metadata.sqlite").touch()
    for name, base_path in toy_models.items():
        (path / "models" / name).symlink_to(base_path)
    return path


@contextlib.contextmanager
def serving(root, *arguments):
    """A running `movierec serve`; what it has said by the time it serves, and its address."""
    command = [MOVIEREC, "serve", "--server", "embedded", "--root", root, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr.readline() == f"starting a server of {root}/models ...\n"
            said = []
            while not said or not said[-1].startswith("serving "):
                said.append(process.stdout.readline())
                assert said[-1], said
            yield said, re.search(r" at (\S+:\d+) with ", said[-1])[1]
        finally:
            process.terminate()


def ask(*arguments):
    return subprocess.run([MOVIEREC, *arguments], capture_output=True, text=True)


def test_a_public_address_is_served_with_client_certificates_and_logged(root, certificates, tmp_path):
    key_path = tmp_path / "key"
    key_path.write_bytes(bytes(32))
    shown = ["--tls-cert", certificates / "server.pem", "--tls-key", certificates / "server.key"]
    believed = ["--tls-client-ca", certificates / "ca.pem"]
    logged = ["--request-log", tmp_path / "log", "--request-log-key", key_path, "--request-log-rate", "1"]
    with serving(root, "--address", "0.0.0.0:0", *shown, *believed, *logged) as (said, address):
        assert said[0].startswith("serving ")
        address = address.replace("0.0.0.0", "127.0.0.1")
        ca = ["--address", address, "--tls-ca", certificates / "ca.pem"]
        mine = [*ca, "--tls-cert", certificates / "client.pem", "--tls-key", certificates / "client.key"]
        patient = ["--deadline", "60"]
        answered = ask("recommend", "u1", "-k", "2", "--genre", "Odd", "--json", *patient, *mine)
        assert [movie["movie_id"] for movie in json.loads(answered.stdout)["movies"]] == ["m1", "m3"]
        assert json.loads(ask("rank", "u1", "m2", "--json", *patient, *mine).stdout)
        moved = ask("promote", "3", "--root", root, *mine)
        assert (moved.returncode, moved.stdout.splitlines()) == (0, ["ranking: stable -> 3", "retrieval: stable -> 3"])
        for without in (ca, ["--address", address]):
            refused = ask("recommend", "u1", *patient, *without)
            assert (refused.returncode, "UNAVAILABLE" in refused.stderr) == (1, True)
    requests = []
    for path in (tmp_path / "log").iterdir():
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            assert b"u1" not in record
            requests.append(prediction_log_pb2.PredictionLog.FromString(record).predict_log.request)
    assert {request.model_spec.signature_name for request in requests} == {"recommend_filtered", "popular", "rank"}


def test_a_public_address_without_certificates_is_said_first(root):
    with serving(root, "--address", "0.0.0.0:0") as (said, _):
        assert re.fullmatch(r"0.0.0.0:0 is open to the network, without TLS and without client certificates\n", said[0])


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["serve", "--tls-cert", __file__], 2, "TLS needs both --tls-cert and --tls-key"),
        (["serve", "--tls-cert", "absent"], 2, "does not exist"),
        (["serve", "--batching", "absent"], 2, "does not exist"),
        (["serve", "--request-log-rate", "0"], 2, "0.0 is not in the range"),
        (["recommend", "u1", "--tls-key", __file__], 2, "needs both --tls-cert and --tls-key"),
        (["recommend", "--all", "--output", "x.csv", "--genre", "Comedy"], 2, "without --genre"),
    ],
)
def test_usage(arguments, status, said):
    done = ask(*arguments)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (status, True, False)


def test_a_log_without_a_key_is_refused(root, tmp_path):
    done = ask("serve", "--root", root, "--server", "embedded", "--address", "127.0.0.1:0", "--request-log", tmp_path)
    assert (done.returncode, "without a key" in done.stderr) == (1, True)
