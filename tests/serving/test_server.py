"""Which server is chosen and started. Only the embedded one is real here: the others are doubles on a PATH of ours."""

import os
import pathlib
import signal
import socket
import sys
import urllib.request
from concurrent import futures

import pytest
import real_server
from waiting import until

from serving import client as client_lib
from serving import finder, server

PYTHON = sys.executable
ROOT = pathlib.Path(__file__).resolve().parents[2]

# A stand-in for tensorflow_model_server: takes its flags, is the embedded server in truth.
BINARY_DOUBLE = f"""#!{PYTHON}
import os, re, sys
flags = dict(argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[1:])
assert flags["rest_api_port"] == "0" and flags["grpc_channel_arguments"] == "grpc.so_reuseport=0"
config = open(flags["model_config_file"]).read()
models = re.findall(r'config {{ name: "(.+?)" base_path: "(.+?)" model_platform: "tensorflow" }}', config)
os.execv({PYTHON!r}, [{PYTHON!r}, "-m", "serving.embedded", "--address=127.0.0.1:" + flags["port"]]
         + [f"--model={{name}}={{path}}" for name, path in models])
"""

# A stand-in for a container engine: `run` answers GetModelStatus for the models of the mounted config, no more.
ENGINE_DOUBLE = f"""#!{PYTHON}
import os, pathlib, re, signal, sys
from concurrent import futures
folder = pathlib.Path(__file__).parent
with open(folder / "calls", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "rm":
    os.kill(int((folder / sys.argv[3]).read_text()), signal.SIGKILL)
if sys.argv[1] != "run":
    sys.exit(0)
sys.path.insert(0, {str(ROOT)!r})
import grpc
from serving import protocol
flags = [argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[2:] if argument.startswith("--")]
(folder / dict(flags)["name"]).write_text(str(os.getpid()))
mounts = [dict(part.partition("=")[::2] for part in value.split(",")) for key, value in flags if key == "mount"]
sources = {{mount["target"]: mount["source"] for mount in mounts}}
config = open(sources[dict(flags)["model_config_file"]]).read()
models = dict(re.findall(r'name: "(.+?)" base_path: "(.+?)"', config))
def status(request, context):
    response = protocol.GetModelStatusResponse()
    version = max(int(name) for name in os.listdir(sources[models[request.model_spec.name]]))
    response.model_version_status.add(version=version, state=protocol.State.AVAILABLE)
    return response
handler = grpc.unary_unary_rpc_method_handler(
    status, protocol.GetModelStatusRequest.FromString, protocol.GetModelStatusResponse.SerializeToString)
double = grpc.server(futures.ThreadPoolExecutor(1), handlers=[grpc.method_handlers_generic_handler(
    "tensorflow.serving.ModelService", {{"GetModelStatus": handler}})])
double.add_insecure_port(dict(flags)["publish"].removesuffix(":8500"))
double.start()
double.wait_for_termination()
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A PATH with nothing on it; returns a function that puts a program there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(finder, "_ENGINE_TIMEOUT_S", 60)

    def add(name, text):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
        return str(folder / name)

    return add


def shell(text):
    return f"#!/bin/sh\n{text}\n"


def test_the_binary_comes_first(path):
    binary = path("tensorflow_model_server", shell("exit 1"))
    path("docker", shell("exit 0"))
    assert finder.choose() == finder.Choice("tensorflow_model_server", binary, ())


def test_then_an_engine_that_works(path):
    docker = path("docker", shell("exit 0"))
    assert finder.choose() == finder.Choice("container", docker, ("tensorflow_model_server is not on PATH",))


def test_an_engine_without_its_daemon_is_passed_over_with_a_reason(path):
    path("docker", shell("echo trying; echo Cannot connect to the Docker daemon >&2; exit 1"))
    podman = path("podman", shell("exit 0"))
    choice = finder.choose()
    assert (choice.kind, choice.executable) == ("container", podman)
    assert choice.reasons[1] == "docker is installed but does not work: Cannot connect to the Docker daemon"


def test_an_engine_that_hangs_is_passed_over(path, monkeypatch):
    monkeypatch.setattr(finder, "_ENGINE_TIMEOUT_S", 0.2)
    path("docker", shell("exec /bin/sleep 60"))
    choice = finder.choose()
    assert choice.kind == "embedded"
    assert choice.reasons[1] == "docker is installed but does not work: no answer within 0.2 s"


def test_an_engine_that_cannot_get_the_image_is_passed_over(path):
    path("docker", shell('case "$1" in info) exit 0;; pull) echo no route to the registry >&2;; esac; exit 1'))
    choice = finder.choose()
    assert choice.kind == "embedded"
    assert choice.reasons[1] == f"docker cannot pull {finder.IMAGE}: no route to the registry"


def test_else_the_embedded_server(path):
    assert finder.choose() == finder.Choice(
        "embedded",
        PYTHON,
        ("tensorflow_model_server is not on PATH", "docker is not on PATH", "podman is not on PATH"),
    )
    assert finder.DESCRIPTIONS["embedded"].startswith("the embedded server")


def test_a_kind_asked_for_is_not_replaced(path):
    path("docker", shell("exit 0"))
    assert finder.choose("embedded").kind == "embedded"
    with pytest.raises(server.ServerError, match="no tensorflow_model_server here: tensorflow_model_server is not on"):
        finder.choose("tensorflow_model_server")
    with pytest.raises(ValueError, match="'kubernetes' is no kind of server"):
        finder.choose("kubernetes")


def test_the_embedded_server_starts_answers_and_ends_with_its_parent(toy_models, path, tmp_path):
    log_path = tmp_path / "server.log"
    rest_port = real_server.free_port()
    with server.start(toy_models, "127.0.0.1:0", log_path=log_path, rest_port=rest_port) as running:
        assert running.kind == "embedded"
        assert len(running.reasons) == 3
        assert os.getpgid(running.pid)
        with client_lib.RecommenderClient(running.address, timeout_s=60) as client:
            assert client.recommend("u1", 1).movies[0].movie_id == "m1"
        with urllib.request.urlopen(f"http://127.0.0.1:{rest_port}/v1/models/ranking", timeout=20) as response:
            assert b"AVAILABLE" in response.read()
        running._process.stdin.close()  # as the kernel does when this process is killed
        assert running.wait() == 0
    assert "not TensorFlow Serving" in log_path.read_text()


def test_a_call_under_way_is_answered_when_the_embedded_server_is_told_to_stop(toy_models, tmp_path):
    begun, go = tmp_path / "begun", tmp_path / "go"
    with server.start(toy_models, "127.0.0.1:0", kind="embedded") as running, client_lib.RecommenderClient(
        running.address, timeout_s=60, num_retries=0
    ) as client, futures.ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client.predict, "retrieval", "wait_for", {"begun": [str(begun)], "go": [str(go)]})
        until(begun.exists)
        os.kill(running.pid, signal.SIGTERM)  # as running.stop() does, which then waits
        until(lambda: takes_no_call(client))
        go.touch()
        assert asking.result().version == 3
        assert running.wait() == 0


def takes_no_call(client):
    try:
        client.versions("retrieval")
    except client_lib.ServingError as error:
        return error.code == "UNAVAILABLE"
    return False


def test_the_embedded_server_says_when_the_network_can_reach_it(toy_models, tmp_path):
    log_path = tmp_path / "server.log"
    with server.start(toy_models, "0.0.0.0:0", kind="embedded", log_path=log_path) as running:
        assert running.address.startswith("0.0.0.0:")
    said = [line for line in log_path.read_text().splitlines() if " WARNING " in line or " INFO " in line]
    assert said[0].endswith("is open to the network, without TLS and without client certificates")


def test_a_double_of_the_binary_is_configured_and_stopped(toy_models, path):
    path("tensorflow_model_server", BINARY_DOUBLE)
    with server.start(toy_models, "127.0.0.1:0") as running:
        assert (running.kind, running.reasons) == ("tensorflow_model_server", ())
        with client_lib.RecommenderClient(running.address, timeout_s=60) as client:
            assert client.rank("u1", ["m2"])[0].stars == 5.0
    assert running.wait() == 0  # it ended by itself when asked to


def test_a_double_of_a_container_engine_is_configured_and_stopped(toy_models, path, tmp_path):
    path("docker", ENGINE_DOUBLE)
    with server.start(toy_models, "127.0.0.1:0") as running:
        assert running.kind == "container"
        with client_lib.RecommenderClient(running.address, timeout_s=60) as client:
            assert client.versions("ranking")[0].version == 3
    calls = (tmp_path / "bin" / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["info", "image", "run", "rm"]
    assert f" {finder.IMAGE} --model_config_file=/models/models.config" in calls[2]
    assert calls[2].count(",readonly ") == 3


def test_a_server_that_dies_is_quoted(toy_models, path):
    path("tensorflow_model_server", shell("echo illegal instruction; exit 132"))
    with pytest.raises(server.ServerError, match=r"it ended before it was ready.*\n  illegal instruction"):
        server.start(toy_models, "127.0.0.1:0")


def test_a_server_that_never_gets_ready_is_ended(toy_models, path, tmp_path):
    path("tensorflow_model_server", shell(f"echo $$ > {tmp_path}/pid; echo loading; exec /bin/sleep 600"))
    said = r"not ready within [1-5] s \(retrieval: (UNAVAILABLE|DEADLINE_EXCEEDED)(.|\n)*  loading"
    with pytest.raises(server.ServerError, match=said):
        server.start(toy_models, "127.0.0.1:0", timeout_s=5)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_port_in_use_is_named(toy_models, toy_server):
    with pytest.raises(server.ServerError, match=f"{toy_server} is in use.*--address"):
        server.start(toy_models, toy_server, kind="embedded")


def test_a_port_that_cannot_be_had_is_named(toy_models):
    with pytest.raises(server.ServerError, match=r"nothing can listen at 192\.0\.2\.1:8500"):
        server.start(toy_models, "192.0.2.1:8500", kind="embedded")


def test_a_port_just_left_is_free(toy_models):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        with socket.create_connection(address), listening.accept()[0]:
            pass
    server._check_free(*address)


@pytest.mark.parametrize("made", [(), ("not a version",)])
def test_nothing_to_serve_says_what_to_do(tmp_path, made):
    for name in made:
        (tmp_path / "retrieval" / name).mkdir(parents=True)
    with pytest.raises(server.ServerError, match=r"no version of the retrieval model.*run `movierec run` first"):
        server.start({"retrieval": tmp_path / "retrieval"})


@pytest.mark.parametrize("address", ["8500", "localhost", ":8500", "localhost:http", "localhost:70000"])
def test_an_address_is_host_and_port(toy_models, address):
    with pytest.raises(ValueError, match="is not host:port"):
        server.start(toy_models, address)
