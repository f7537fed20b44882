"""Labels move only to loaded versions, in both models, and back again."""

import pathlib
import shutil
import subprocess
import sys

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2
from waiting import until

from serving import client as client_lib
from serving import embedded, promotion, server
from serving.promotion import CANARY, PREVIOUS, STABLE, PromotionError
from serving.protocol import State
from trainer_modules import contract

MODELS = ("ranking", "retrieval")


@pytest.fixture
def running(versions, tmp_path):
    """A server with versions 1 to 3 of two models; its address and their base paths."""
    base_paths = {model: tmp_path / model for model in MODELS}
    for base_path in base_paths.values():
        for version in (1, 2, 3):
            shutil.copytree(versions / str(version), base_path / str(version))
    with embedded.EmbeddedServer(base_paths, poll_interval_s=0.05) as started:
        server.wait_until_available(started.address, MODELS)
        yield started.address, {model: str(path) for model, path in base_paths.items()}


def available(address):
    with client_lib.RecommenderClient(address, timeout_s=60) as client:
        return [{seen.version for seen in client.versions(model) if seen.state is State.AVAILABLE} for model in MODELS]


def pointed(address):
    with promotion._Server(address, dict.fromkeys(MODELS, "")) as asked:
        labels = asked.labels()
    assert labels["ranking"] == labels["retrieval"]
    return labels["ranking"]


def test_canary_then_stable_then_back(running):
    address, base_paths = running
    promotion.promote(address, base_paths, 2)
    assert pointed(address) == {STABLE: 2}
    promotion.promote(address, base_paths, 3, CANARY)
    assert pointed(address) == {STABLE: 2, CANARY: 3}
    moved = promotion.promote(address, base_paths, 3)
    assert pointed(address) == moved.labels["ranking"] == {STABLE: 3, CANARY: 3, PREVIOUS: 2}
    assert available(address) == [{2, 3}, {2, 3}]
    promotion.rollback(address, base_paths)
    assert pointed(address) == {STABLE: 2, CANARY: 3, PREVIOUS: 3}
    promotion.rollback(address, base_paths)
    assert pointed(address) == {STABLE: 3, CANARY: 3, PREVIOUS: 2}


def test_the_config_is_one_to_start_a_server_with(running):
    address, base_paths = running
    moved = promotion.promote(address, base_paths, 1)
    config = text_format.Parse(moved.config, model_server_config_pb2.ModelServerConfig())
    for entry in config.model_config_list.config:
        assert (entry.base_path, entry.model_platform) == (base_paths[entry.name], "tensorflow")
        assert (list(entry.model_version_policy.specific.versions), dict(entry.version_labels)) == ([1], {STABLE: 1})


def test_a_version_that_does_not_load_in_one_model_moves_no_label(running, tmp_path):
    address, base_paths = running
    promotion.promote(address, base_paths, 2)
    until(lambda: available(address) == [{2}, {2}])  # version 3, loaded at the start, is gone
    (tmp_path / "retrieval" / "3" / "saved_model.pb").write_bytes(b"no protobuf")
    with pytest.raises(PromotionError, match="retrieval version 3 could not be loaded, and no label was moved"):
        promotion.promote(address, base_paths, 3)
    assert pointed(address) == {STABLE: 2}


def test_a_version_that_is_not_there_moves_no_label(running, monkeypatch):
    monkeypatch.setattr(promotion, "_SEEN_WITHIN_S", 0.3)
    address, base_paths = running
    with pytest.raises(PromotionError, match=r"finds no version 9 of ranking in .*ranking; no label was moved"):
        promotion.promote(address, base_paths, 9)
    assert pointed(address) == {}
    with client_lib.RecommenderClient(address, timeout_s=60) as client:
        assert client.versions("ranking")[0].state is State.AVAILABLE  # the newest is served as before


def test_rollback_without_a_before_is_refused(running):
    address, base_paths = running
    promotion.promote(address, base_paths, 3)
    with pytest.raises(PromotionError, match=r"no loaded version that stable pointed to before.*promote VERSION"):
        promotion.rollback(address, base_paths)


def test_rollback_to_what_is_gone_from_disk_is_refused(running, tmp_path):
    address, base_paths = running
    for version in (2, 3):
        promotion.promote(address, base_paths, version)
    shutil.rmtree(tmp_path / "ranking" / "2")
    until(lambda: 2 not in available(address)[0])
    with pytest.raises(PromotionError, match="no loaded version that stable pointed to before"):
        promotion.rollback(address, base_paths)
    assert pointed_in(address, "retrieval") == {STABLE: 3, PREVIOUS: 2}


def pointed_in(address, model):
    with promotion._Server(address, {model: ""}) as asked:
        return asked.labels()[model]


def test_what_cannot_be_promoted_is_named(running):
    address, base_paths = running
    with pytest.raises(ValueError, match="'previous' is no label to move"):
        promotion.promote(address, base_paths, 3, PREVIOUS)
    with pytest.raises(client_lib.ServingError) as refused:
        promotion.promote(address, {model: f"/elsewhere/{model}" for model in MODELS}, 3)
    assert refused.value.code == grpc.StatusCode.PERMISSION_DENIED.name


def test_a_third_model_moves_along_or_nothing_moves(versions, tmp_path, monkeypatch):
    """As after a run with --one-call: the version before it has two models only."""
    monkeypatch.setattr(promotion, "_SEEN_WITHIN_S", 5)  # time to load version 1 of the models that have it
    base_paths = {name: tmp_path / name for name in contract.SERVED}
    for name, numbers in ((*((name, (1, 2)) for name in MODELS), (contract.BOTH, (2,)))):
        for version in numbers:
            shutil.copytree(versions / str(version), base_paths[name] / str(version))
    with embedded.EmbeddedServer(base_paths, poll_interval_s=0.05) as started:
        server.wait_until_available(started.address, base_paths)
        names = promotion.served_models(started.address)
        assert names == contract.SERVED
        paths = {name: str(base_paths[name]) for name in names}
        assert set(promotion.promote(started.address, paths, 2).labels) == set(contract.SERVED)
        with pytest.raises(PromotionError, match="finds no version 1 of both"):
            promotion.promote(started.address, paths, 1)
        assert {name: pointed_in(started.address, name) for name in names} == {name: {STABLE: 2} for name in names}


def test_a_server_of_other_models_is_none_to_promote_on(versions, tmp_path):
    shutil.copytree(versions / "1", tmp_path / "model" / "1")
    with (
        embedded.EmbeddedServer({"model": tmp_path / "model"}) as started,
        pytest.raises(PromotionError, match="serves none of ranking, retrieval, both"),
    ):
        promotion.served_models(started.address)


def test_the_verbs(running, tmp_path):
    address, _ = running
    config_path = tmp_path / "models.config"

    def movierec(*arguments):
        command = [pathlib.Path(sys.executable).with_name("movierec"), *arguments, "--address", address,
                   "--server-models", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert movierec("promote", "2") == "ranking: stable -> 2\nretrieval: stable -> 2\n"
    movierec("promote", "3", "--config-output", str(config_path))
    assert "ranking: stable -> 2, previous -> 3\n" in movierec("rollback")
    assert config_path.read_text().count('key: "stable"') == 2
