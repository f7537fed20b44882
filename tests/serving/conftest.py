"""Toy SavedModels, exported once, and one running embedded server for all tests that only ask.

The conformance cases run against the embedded server, and against TensorFlow Serving itself where one of these is set:
  TFS_BINARY   path of a tensorflow_model_server: it is started on the toy models;
  TFS_ADDRESS  host:port of a server that somebody started on the folder that
               `python tests/serving/export_toys.py FOLDER` has filled (TFS_REST_ADDRESS: its REST port).
"""

import os
import shutil
import subprocess

import pytest
import real_server
from real_server import Served

from serving import client as client_lib
from serving import embedded, server


@pytest.fixture(scope="session")
def toy_models(tmp_path_factory):
    """Model name -> base path, each with version 3: retrieval and ranking."""
    import serving_toys  # here: TensorFlow must not load before our packages have chosen its Keras

    return serving_toys.export_pair(tmp_path_factory.mktemp("toys"), version=3)


@pytest.fixture(scope="session")
def toy_embedded(toy_models):
    """A running embedded server with the toy models."""
    with embedded.EmbeddedServer(toy_models, poll_interval_s=0.2, rest_address="127.0.0.1:0") as running:
        server.wait_until_available(running.address, toy_models)
        yield running


@pytest.fixture(scope="session")
def toy_server(toy_embedded):
    """Its gRPC address."""
    return toy_embedded.address


@pytest.fixture(scope="session")
def versions(tmp_path_factory):
    """A folder with versions 1 to 4 of a model that says its version."""
    import serving_toys

    base_path = tmp_path_factory.mktemp("versions") / "store"
    for version in range(1, 5):
        serving_toys.export_versioned(base_path, version)
    return base_path


@pytest.fixture
def client(toy_server):
    with client_lib.RecommenderClient(toy_server, timeout_s=60) as connected:
        yield connected


@pytest.fixture(scope="session", params=["embedded", *real_server.NAMED])
def served(request, tmp_path_factory):
    """Each server that the conformance cases are put to."""
    if request.param == "embedded":
        running = request.getfixturevalue("toy_embedded")
        yield Served(running.address, running.rest_address)
        return
    if request.param == "TFS_ADDRESS":
        yield Served(os.environ["TFS_ADDRESS"], os.environ.get("TFS_REST_ADDRESS", ""))
        return
    with real_server.started(request.getfixturevalue("toy_models"), tmp_path_factory.mktemp("real")) as running:
        yield running


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Folder with ca, server and client: .pem and .key each; and a stranger signed by nobody we know."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes the certificates")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def make(name, *more):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", *more)

    def sign(name, extension):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
                "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text(extension)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-out", f"{name}.pem", "-extfile", f"{name}.ext")

    make("ca")
    make("stranger")
    sign("server", "subjectAltName=IP:127.0.0.1\n")
    sign("client", "subjectAltName=DNS:client\n")
    return folder
