"""Toy SavedModels, exported once, and one running embedded server for all tests that only ask."""

import pytest

from serving import client as client_lib
from serving import embedded, server


@pytest.fixture(scope="session")
def toy_models(tmp_path_factory):
    """Model name -> base path, each with version 3: retrieval and ranking."""
    import serving_toys  # here: TensorFlow must not load before our packages have chosen its Keras

    return serving_toys.export_pair(tmp_path_factory.mktemp("toys"), version=3)


@pytest.fixture(scope="session")
def toy_server(toy_models):
    """Address of a running server with the toy models."""
    with embedded.EmbeddedServer(toy_models, poll_interval_s=0.2) as running:
        server.wait_until_available(running.address, toy_models, timeout_s=60)
        yield running.address


@pytest.fixture
def client(toy_server):
    with client_lib.RecommenderClient(toy_server) as connected:
        yield connected
