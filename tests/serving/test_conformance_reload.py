"""Versions on disk, policies, labels and HandleReloadConfigRequest, as observed on TensorFlow Serving 2.16.1.

Each case has a server of its own: the embedded one always, TFS_BINARY where it is set.
"""

import json
import shutil
import threading
import time
import urllib.request
from concurrent import futures

import grpc
import pytest
import real_server
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import embedded, model_config, server
from serving import loopback as loopback_lib
from serving.saved_model import RequestError
from serving.versions import NEWEST, VersionPolicy

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


class Asked:
    """One server with one model, and what is asked of it."""

    def __init__(self, channel, base_path, running):
        self.base_path = base_path
        self.running = running
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def entry(self, name="model", base_path=None, platform="tensorflow", labels=None, **policy):
        return {
            "name": name, "base_path": str(base_path or self.base_path), "model_platform": platform,
            "version_labels": labels or {}, "model_version_policy": policy,
        }

    def reload(self, *entries):
        request = model_management_pb2.ReloadConfigRequest(config={"model_config_list": {"config": entries}})
        return self._models.HandleReloadConfigRequest(request, timeout=30)

    def refused(self, *entries):
        with pytest.raises(grpc.RpcError) as refused:
            self.reload(*entries)
        return refused.value.code(), refused.value.details()

    def states(self, name="model"):
        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": name})
        statuses = self._models.GetModelStatus(request, timeout=20).model_version_status
        assert [status.version for status in statuses] == sorted((s.version for s in statuses), reverse=True)
        return {status.version: type(status).State.Name(status.state) for status in statuses}

    def until(self, name="model", **states):
        """Waits for states, v1="AVAILABLE"."""
        wanted = {int(version[1:]): state for version, state in states.items()}
        deadline = time.monotonic() + 120
        while self.states(name) != wanted:
            assert time.monotonic() < deadline, f"{self.states(name)} did not become {wanted}"
            time.sleep(0.02)

    def predict(self, name="model", **spec):
        """The version that answers, or the refusal's code and message."""
        request = predict_pb2.PredictRequest(model_spec={"name": name, **spec})
        request.inputs["key"].CopyFrom(predict_pb2.PredictRequest().inputs["key"])
        request.inputs["key"].dtype = 7
        request.inputs["key"].tensor_shape.dim.add(size=1)
        request.inputs["key"].string_val.append(b"asked")
        try:
            response = self._predictions.Predict(request, timeout=20)
        except grpc.RpcError as error:
            return error.code(), error.details()
        assert response.outputs["name"].string_val[0] == f"v{response.model_spec.version.value} asked".encode()
        return response.model_spec.version.value


@pytest.fixture(params=["embedded", *(name for name in real_server.NAMED if name == "TFS_BINARY")])
def asked(request, versions, tmp_path):
    """A server with versions 1 to 3 on disk, serving the newest."""
    base_path = tmp_path / "model"
    for version in (1, 2, 3):
        shutil.copytree(versions / str(version), base_path / str(version))
    models = {"model": base_path}
    starting = (
        embedded.EmbeddedServer(models, poll_interval_s=0.05, rest_address="127.0.0.1:0")
        if request.param == "embedded"
        else real_server.started(models, tmp_path)
    )
    with starting as running:
        server.wait_until_available(running.address, models)
        with grpc.insecure_channel(running.address) as channel:
            yield Asked(channel, base_path, running)


def test_a_version_is_taken_once_seen_and_the_old_one_goes(asked, versions):
    partial = asked.base_path.parent / "partial"
    shutil.copytree(versions / "4", partial)
    partial.rename(asked.base_path / "0004")
    asked.until(v4="AVAILABLE", v3="END")
    assert asked.predict() == 4


def test_no_request_falls_between_two_versions(asked, versions):
    answers, changed = [], threading.Event()

    def keep_asking():
        while not changed.is_set():
            answers.append(asked.predict())

    with futures.ThreadPoolExecutor(1) as pool:
        asking = pool.submit(keep_asking)
        test_a_version_is_taken_once_seen_and_the_old_one_goes(asked, versions)
        changed.set()
        asking.result(timeout=30)
    assert set(answers) <= {3, 4}
    assert answers == sorted(answers)


def test_the_newest_version_deleted_rolls_back(asked):
    shutil.rmtree(asked.base_path / "3")
    asked.until(v3="END", v2="AVAILABLE")
    assert asked.predict() == 2


def test_the_base_path_gone_keeps_serving_and_empty_unloads(asked):
    away = asked.base_path.rename(asked.base_path.parent / "away")
    time.sleep(0.5 if isinstance(asked.running, embedded.EmbeddedServer) else 3)  # several looks at the disk
    assert asked.predict() == 3
    empty = asked.base_path.parent / "empty"
    empty.mkdir()
    empty.rename(asked.base_path)
    asked.until(v3="END")
    assert asked.predict() == (NOT_FOUND, "Servable not found for request: Latest(model)")
    assert away.exists()


def test_policies(asked):
    asked.until(v3="AVAILABLE")
    asked.reload(asked.entry(latest={"num_versions": 2}))
    asked.until(v3="AVAILABLE", v2="AVAILABLE")
    assert (asked.predict(), asked.predict(version={"value": 2})) == (3, 2)
    asked.reload(asked.entry(all={}))
    asked.until(v3="AVAILABLE", v2="AVAILABLE", v1="AVAILABLE")
    asked.reload(asked.entry(specific={"versions": [1, 2]}))
    asked.until(v3="END", v2="AVAILABLE", v1="AVAILABLE")
    assert asked.predict() == 2
    assert asked.predict(version={"value": 3}) == (
        NOT_FOUND, "Servable not found for request: Specific(model, 3)",
    )
    asked.reload(asked.entry())
    asked.until(v3="AVAILABLE", v2="END", v1="END")


def test_canary(asked):
    """Both versions AVAILABLE first, then the label moves; rollback moves it back."""
    assert asked.refused(asked.entry(specific={"versions": [2, 3]}, labels={"stable": 3, "canary": 2})) == (
        FAILED_PRECONDITION,
        "Request to assign label to version 2 of model model, which is not currently available for inference",
    )
    asked.reload(asked.entry(specific={"versions": [2, 3]}, labels={"stable": 3}))
    asked.until(v3="AVAILABLE", v2="AVAILABLE")
    assert asked.predict(version_label="stable") == 3
    assert asked.predict(version_label="canary") == (
        INVALID_ARGUMENT, "Unrecognized servable version label: canary",
    )
    for stable, canary in ((2, 3), (3, 2)):
        asked.reload(asked.entry(specific={"versions": [2, 3]}, labels={"stable": stable, "canary": canary}))
        assert (asked.predict(version_label="stable"), asked.predict(version_label="canary")) == (stable, canary)


def test_labels_and_versions_over_rest(asked):
    asked.reload(asked.entry(specific={"versions": [2, 3]}))
    asked.until(v3="AVAILABLE", v2="AVAILABLE")
    asked.reload(asked.entry(specific={"versions": [2, 3]}, labels={"stable": 2}))

    def over_rest(path, body=None):
        url = f"http://{asked.running.rest_address}/v1/models/model{path}"
        with urllib.request.urlopen(url, body and json.dumps(body).encode(), timeout=20) as response:
            return json.load(response)

    body = {"instances": ["asked"]}
    for which, version in (("/labels/stable", 2), ("/versions/2", 2), ("/versions/3", 3), ("", 3)):
        predicted = {"name": f"v{version} asked", "number": float(version)}
        assert over_rest(f"{which}:predict", body) == {"predictions": [predicted]}
        assert over_rest(f"{which}/metadata")["model_spec"]["version"] == str(version)
        [newest, *others] = over_rest(which)["model_version_status"]
        assert (newest["version"], newest["state"], len(others)) == (str(version), "AVAILABLE", 0 if which else 1)


def test_a_refused_label_leaves_the_old_ones(asked):
    asked.reload(asked.entry(labels={"stable": 3}))
    code, _ = asked.refused(asked.entry(labels={"stable": 9}))
    assert code is FAILED_PRECONDITION
    assert asked.predict(version_label="stable") == 3


def test_unloading_a_labelled_version(asked):
    asked.reload(asked.entry(labels={"stable": 3}))
    shutil.rmtree(asked.base_path / "3")
    asked.until(v3="END", v2="AVAILABLE")
    assert asked.predict(version_label="stable") == (
        NOT_FOUND, "Servable not found for request: Specific(model, 3)",
    )


def test_a_new_model_is_waited_for_and_one_left_out_is_unloaded(asked):
    other = asked.base_path.parent / "other"
    shutil.copytree(asked.base_path, other)
    asked.reload(asked.entry("other", other))
    assert asked.predict("other") == 3
    asked.until(v3="END")
    assert asked.predict() == (NOT_FOUND, "Servable not found for request: Latest(model)")
    asked.reload(asked.entry("other", other), asked.entry())
    asked.until(v3="AVAILABLE")


def test_a_new_model_that_does_not_load_is_said(asked):
    broken = asked.base_path.parent / "broken"
    (broken / "1").mkdir(parents=True)
    code, message = asked.refused(asked.entry(), asked.entry("broken", broken))
    assert code is grpc.StatusCode.UNKNOWN
    assert message.startswith("1 model(s) did not become available: {{{name: broken version: 1} due to error: ")
    assert asked.predict() == 3


def test_a_known_model_is_not_waited_for(asked):
    """A new one that does not load is an error, see above."""
    broken = asked.base_path.parent / "broken"
    (broken / "9").mkdir(parents=True)
    assert asked.reload(asked.entry(base_path=broken)).status.error_code == 0


REFUSED = {
    "a model twice": (
        lambda asked: [asked.entry(), asked.entry()], "Illegal to list model model multiple times in config list",
    ),
    "a relative path": (
        lambda asked: [asked.entry(base_path="models/model")],
        "Expected model model to have an absolute path or URI; got base_path()=models/model",
    ),
    "no platform": (
        lambda asked: [asked.entry(platform="")],
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_config_is_refused(asked, case):
    entries, message = REFUSED[case]
    assert asked.refused(*entries(asked)) == (INVALID_ARGUMENT, message)
    assert asked.predict() == 3


@pytest.mark.parametrize("elsewhere", ["outside", "link", "dots"])
def test_only_base_paths_under_the_served_root(versions, tmp_path, elsewhere):
    """The embedded server's own rule: who has a model loaded runs code."""
    outside = tmp_path / "outside"
    shutil.copytree(versions, outside)
    served = tmp_path / "served" / "model"
    served.parent.mkdir()
    shutil.copytree(versions, served)
    (served.parent / "link").symlink_to(outside)
    paths = {"outside": outside, "link": served.parent / "link", "dots": f"{served}/../../outside"}
    with embedded.EmbeddedServer({"model": served}) as running:
        server.wait_until_available(running.address, ["model"])
        with grpc.insecure_channel(running.address) as channel:
            asked = Asked(channel, served, running)
            code, message = asked.refused(asked.entry(), asked.entry("other", paths[elsewhere]))
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert "base path of model other" in message
            assert asked.predict() == 4


@pytest.mark.parametrize(
    ("peer", "loopback"),
    [
        ("ipv4:127.0.0.1:5000", True), ("ipv6:%5B::1%5D:5000", True), ("ipv6:[::ffff:127.0.0.1]:5000", True),
        ("unix:/tmp/socket", True), ("ipv4:10.0.0.7:5000", False), ("ipv6:%5B2001:db8::1%5D:5000", False),
        ("ipv4:1270.0.1:5000", False), ("", False),
    ],
)
def test_who_may_reload(peer, loopback):
    assert loopback_lib.is_loopback_peer(peer) is loopback


def test_a_label_at_start_up(versions, tmp_path):
    path = tmp_path / "models.config"
    path.write_text(
        f'model_config_list {{ config {{ name: "model" base_path: "{versions}" model_platform: "tensorflow"'
        " model_version_policy { specific { versions: 2 } } version_labels { key: 'stable' value: 2 } } }"
    )
    configs = model_config.of_file(path)
    with pytest.raises(RequestError, match="version 2 of model model, which is not currently available"):
        embedded.EmbeddedServer(configs)
    with embedded.EmbeddedServer(configs, allow_labels_for_unavailable=True) as running:
        server.wait_until_available(running.address, ["model"])
        with grpc.insecure_channel(running.address) as channel:
            assert Asked(channel, versions, running).predict(version_label="stable") == 2


def test_no_models_config(tmp_path):
    path = tmp_path / "models.config"
    path.write_text("model_config_list { config { nmae: 'x' } }")
    with pytest.raises(ValueError, match=r"models.config is no models.config.*nmae"):
        model_config.of_file(path)


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (NEWEST, [7]), (VersionPolicy(2), [7, 3]), (VersionPolicy(9), [7, 3, 1]), (VersionPolicy(None), [7, 3, 1]),
        (VersionPolicy(specific=frozenset([1, 5])), [1]), (VersionPolicy(specific=frozenset()), []),
    ],
)
def test_which_versions_a_policy_wants(policy, wanted):
    assert policy.wanted([1, 7, 3]) == wanted
