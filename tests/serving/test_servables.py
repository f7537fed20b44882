"""Version directories: what is taken, when the old one goes, and that no request falls between two versions."""

import shutil
import threading
import time

import pytest
import tensorflow as tf
from waiting import until

from serving import client as client_lib
from serving import embedded, servables, server
from serving import versions as versions_lib
from serving.protocol import State
from serving.saved_model import RequestError
from serving.versions import VersionPolicy, versions_on_disk

POLL_S = 0.05


def publish(versions, version, base_path, name=None):
    """Puts a version where the server looks, all of it at once."""
    partial = base_path.parent / f"partial-{version}"
    shutil.copytree(versions / str(version), partial)
    base_path.mkdir(exist_ok=True)
    partial.rename(base_path / (name or str(version)))


def states(servable):
    return {status.version: status.state for status in servable.statuses()}


def ask(model):
    outputs = model.predict("serving_default", {"key": tf.make_tensor_proto(["asked"])}, [])
    return outputs["name"][0].decode(), outputs["number"][0]


@pytest.fixture
def servable(tmp_path):
    """Watches an empty base path."""
    base_path = tmp_path / "served"
    base_path.mkdir()
    watching = servables.Servable("model", base_path, POLL_S)
    watching.start()
    yield watching, base_path
    watching.stop()


def test_the_newest_version_is_served_and_the_old_one_ends(versions, servable):
    watching, base_path = servable
    publish(versions, 1, base_path)
    until(lambda: states(watching) == {1: State.AVAILABLE})
    publish(versions, 2, base_path, name="0002")
    until(lambda: states(watching) == {2: State.AVAILABLE, 1: State.END})
    assert [status.version for status in watching.statuses()] == [2, 1]
    with watching.lease(None) as leased:
        assert (leased.version, *ask(leased.model)) == (2, "v2 asked", 2.0)
    with pytest.raises(RequestError, match=r"Servable not found for request: Specific\(model, 1\)"), watching.lease(1):
        pass


def test_a_request_under_way_keeps_its_version(versions, servable):
    watching, base_path = servable
    publish(versions, 1, base_path)
    until(lambda: states(watching) == {1: State.AVAILABLE})
    with watching.lease(None) as leased:
        publish(versions, 2, base_path)
        until(lambda: states(watching) == {2: State.AVAILABLE, 1: State.UNLOADING})
        assert ask(leased.model) == ("v1 asked", 1.0)
        with watching.lease(None) as newer:
            assert ask(newer.model) == ("v2 asked", 2.0)
    until(lambda: states(watching) == {2: State.AVAILABLE, 1: State.END})


def test_the_newest_deleted_rolls_back(versions, servable):
    watching, base_path = servable
    publish(versions, 1, base_path)
    publish(versions, 2, base_path)
    until(lambda: states(watching).get(2) is State.AVAILABLE)
    shutil.rmtree(base_path / "2")
    until(lambda: states(watching) == {2: State.END, 1: State.AVAILABLE})
    with watching.lease(None) as leased:
        assert ask(leased.model) == ("v1 asked", 1.0)


def test_base_path_gone_keeps_serving_and_empty_unloads(versions, servable):
    watching, base_path = servable
    publish(versions, 1, base_path)
    until(lambda: states(watching) == {1: State.AVAILABLE})
    away = base_path.rename(base_path.parent / "away")
    time.sleep(4 * POLL_S)
    assert states(watching) == {1: State.AVAILABLE}
    (away / "1").rename(away / "not a version")
    away.rename(base_path)
    until(lambda: states(watching) == {1: State.END})
    with pytest.raises(RequestError, match=r"Servable not found for request: Latest\(model\)"), watching.lease(None):
        pass


def test_a_half_made_version_is_reported_and_taken_once_it_is_whole(versions, servable):
    watching, base_path = servable
    publish(versions, 1, base_path)
    until(lambda: states(watching) == {1: State.AVAILABLE})
    shutil.copytree(versions / "2", base_path / "2", ignore=shutil.ignore_patterns("saved_model.pb"))

    def failed():
        newest = watching.statuses()[0]
        return newest.code.name == "NOT_FOUND" and str(base_path / "2") in newest.message

    until(failed)
    assert states(watching)[1] is State.AVAILABLE
    shutil.copy(versions / "2" / "saved_model.pb", base_path / "2")
    until(lambda: states(watching) == {2: State.AVAILABLE, 1: State.END})
    assert watching.statuses()[0].message == ""


def test_a_broken_version_blocks_no_later_one(versions, servable):
    watching, base_path = servable
    publish(versions, 1, base_path)
    (base_path / "2").mkdir()
    (base_path / "2" / "saved_model.pb").write_bytes(b"no protobuf")
    until(lambda: states(watching).get(2) is State.END)
    publish(versions, 3, base_path)
    until(lambda: states(watching).get(3) is State.AVAILABLE)


def test_a_look_for_an_earlier_config_ends_nothing(versions, tmp_path):
    """It began before `configure`, and a label may point by now to a version that the new config wants."""
    for version in (2, 3):
        publish(versions, version, tmp_path / "served")
    unwatched = servables.Servable("model", tmp_path / "served", policy=VersionPolicy(specific=frozenset({2})))
    earlier = unwatched._config
    unwatched.configure(tmp_path / "served", VersionPolicy(specific=frozenset({2, 3})))
    for config in (unwatched._config, earlier):
        unwatched._poll(config)
        assert states(unwatched) == {2: State.AVAILABLE, 3: State.AVAILABLE}
    unwatched.configure(*earlier)
    unwatched._poll(unwatched._config)
    assert states(unwatched) == {2: State.AVAILABLE, 3: State.END}
    unwatched._keep_only(())


def test_only_directories_named_by_a_number_are_versions(tmp_path):
    for name in ("1", "0012", "tmp-3", "4.partial", "-5", "\u0663", "99999999999999999999", ".6"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").write_text("a file")
    assert versions_on_disk(tmp_path) == {1: tmp_path / "1", 12: tmp_path / "0012"}
    assert versions_on_disk(tmp_path / "absent") is None
    assert versions_on_disk(tmp_path / "7") is None


def test_a_base_path_renamed_away_under_a_look_is_not_there(tmp_path, monkeypatch):
    base_path = tmp_path / "served"
    (base_path / "1").mkdir(parents=True)
    is_version = versions_lib._is_version

    def renamed_away(path):
        base_path.rename(tmp_path / "away")
        return is_version(path)

    monkeypatch.setattr(versions_lib, "_is_version", renamed_away)
    assert versions_on_disk(base_path) is None


@pytest.mark.parametrize(
    ("num_requests", "num_changes"), [(500, 3), pytest.param(10_000, 20, marks=pytest.mark.slow)]
)
def test_no_request_fails_while_versions_change(versions, tmp_path, num_requests, num_changes):
    """Four clients ask without pause through the changes: every answer comes, and wholly from one version."""
    if num_changes > 3:
        import serving_toys

        versions = tmp_path / "many"
        for version in range(1, num_changes + 2):
            serving_toys.export_versioned(versions, version)
    base_path = tmp_path / "served"
    publish(versions, 1, base_path)
    answers, failures, finished = [], [], threading.Event()

    def keep_asking(address):
        with client_lib.RecommenderClient(address, timeout_s=30) as client:
            while not finished.is_set():
                try:
                    answer = client.predict("model", "serving_default", {"key": ["asked", "other"]})
                    names = tuple(name.decode() for name in answer.outputs["name"])
                    answers.append((answer.version, names, tuple(answer.outputs["number"].tolist())))
                except Exception as error:
                    failures.append(error)
                    return

    with embedded.EmbeddedServer({"model": base_path}, poll_interval_s=POLL_S) as running:
        server.wait_until_available(running.address, ["model"], timeout_s=30)
        threads = [threading.Thread(target=keep_asking, args=(running.address,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for version in range(1, num_changes + 2):
            if version > 1:
                publish(versions, version, base_path)
            asked = len(answers)
            until(lambda asked=asked, version=version: failures or (
                len(answers) >= asked + num_requests / (num_changes + 1)
                and any(answer[0] == version for answer in answers[asked:])
            ))
        finished.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(answers) >= num_requests
    assert {version for version, _, _ in answers} == set(range(1, num_changes + 2))
    for version, names, numbers in answers:
        assert names == (f"v{version} asked", f"v{version} other")
        assert numbers == (version, version)


def test_a_broken_model_is_named_and_hinders_no_other(versions, tmp_path):
    publish(versions, 1, tmp_path / "sound")
    (tmp_path / "broken" / "1").mkdir(parents=True)
    models = {"sound": tmp_path / "sound", "broken": tmp_path / "broken"}
    with embedded.EmbeddedServer(models, poll_interval_s=POLL_S) as running:
        server.wait_until_available(running.address, ["sound"], timeout_s=30)
        with pytest.raises(server.ServerError, match=r"broken version 1 could not be loaded: .*saved_model"):
            server.wait_until_available(running.address, models, timeout_s=30)


def test_a_second_server_on_the_same_port_is_refused(toy_server):
    with pytest.raises(RuntimeError, match=toy_server):
        embedded.EmbeddedServer({}, toy_server).start()
