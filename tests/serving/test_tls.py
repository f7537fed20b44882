"""TLS with client certificates, between our own client and server; certificates made by openssl for the test."""

import json
import ssl
import urllib.request
from concurrent import futures

import grpc
import pytest
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
from waiting import until

from serving import client as client_lib
from serving import embedded, protocol, services, tls
from serving.client import ServingError


@pytest.fixture(scope="module")
def running(certificates, toy_models):
    files = tls.ServerFiles(certificates / "server.pem", certificates / "server.key", certificates / "ca.pem")
    with embedded.EmbeddedServer(toy_models, rest_address="127.0.0.1:0", tls_files=files) as started:
        with connect(started, certificates, "client") as client:
            until(lambda: all(available(client, name) for name in toy_models), timeout_s=300)
        yield started


def available(client, name):
    try:
        return client.versions(name)[0].state is protocol.State.AVAILABLE
    except ServingError as error:
        assert error.code == "NOT_FOUND"
        return False


def connect(running, certificates, name, timeout_s=60.0, **options):
    """A client with the certificate of that name; None for a client without."""
    credentials = tls.client_credentials(
        certificates / "ca.pem",
        *((certificates / f"{name}.pem", certificates / f"{name}.key") if name else ()),
    )
    return client_lib.RecommenderClient(running.address, timeout_s, credentials=credentials, **options)


def test_a_client_with_a_certificate_is_answered(running, certificates):
    with connect(running, certificates, "client") as client:
        assert client.recommend("u1", 1).movies[0].movie_id == "m1"


@pytest.mark.parametrize("name", [None, "stranger"])
def test_others_are_not(running, certificates, name):
    with connect(running, certificates, name, num_retries=0) as client, pytest.raises(ServingError) as refused:
        client.versions("ranking")
    assert refused.value.code == "UNAVAILABLE"


def test_a_server_that_the_authority_does_not_know_is_not_believed(running, certificates):
    credentials = tls.client_credentials(certificates / "stranger.pem")
    client = client_lib.RecommenderClient(running.address, timeout_s=60, credentials=credentials, num_retries=0)
    with client, pytest.raises(ServingError) as refused:
        client.versions("ranking")
    assert refused.value.code == "UNAVAILABLE"


def test_plain_text_is_not_answered(running):
    plain = client_lib.RecommenderClient(running.address, timeout_s=60, num_retries=0)
    with plain as client, pytest.raises(ServingError):
        client.versions("ranking")


def test_a_reload_from_elsewhere_wants_a_certificate(running, certificates, toy_server, monkeypatch):
    """Every peer is taken for one from elsewhere."""
    monkeypatch.setattr(services, "is_loopback_peer", lambda peer: False)
    request = model_management_pb2.ReloadConfigRequest(config={"model_config_list": {"config": [{"name": "x"}]}})

    def refusal(channel):
        with channel, pytest.raises(grpc.RpcError) as refused:
            model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=20)
        return refused.value.code()

    assert refusal(grpc.insecure_channel(toy_server)) is grpc.StatusCode.PERMISSION_DENIED
    credentials = tls.client_credentials(
        certificates / "ca.pem", certificates / "client.pem", certificates / "client.key"
    )
    # Taken, and then refused for what it says.
    assert refusal(grpc.secure_channel(running.address, credentials)) is grpc.StatusCode.INVALID_ARGUMENT


def get_status(running, context):
    url = f"https://{running.rest_address}/v1/models/ranking"
    with urllib.request.urlopen(url, timeout=20, context=context) as response:
        return json.load(response)["model_version_status"][0]["state"]


def test_rest_has_the_same_certificates(running, certificates):
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    with pytest.raises(OSError):  # the handshake fails, or the connection ends right after it
        get_status(running, context)
    context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    assert get_status(running, context) == "AVAILABLE"
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        get_status(running, ssl.create_default_context())
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://{running.rest_address}/v1/models/ranking", timeout=20)


def test_metadata_goes_along():
    seen = []

    class Listening(grpc.GenericRpcHandler):
        def service(self, call):
            seen.extend(call.invocation_metadata)
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")

    listening = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Listening()])
    port = listening.add_insecure_port("127.0.0.1:0")
    listening.start()
    try:
        sent = [("authorization", "Bearer t")]
        with client_lib.RecommenderClient(f"127.0.0.1:{port}", timeout_s=60, metadata=sent) as client:
            client.versions("any")
    finally:
        listening.stop(None)
    assert ("authorization", "Bearer t") in [(name, value) for name, value in seen]


@pytest.mark.parametrize("arguments", [["--tls-key=x"], ["--tls-cert=x"], ["--tls-client-ca=x"]])
def test_half_a_pair_of_files_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        embedded.main(["--model=a=/tmp", *arguments])
    assert "TLS needs both --tls-cert and --tls-key" in capsys.readouterr().err
