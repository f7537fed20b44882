"""Pushes killed at random points while a server watches both base paths: it never loads a half-made version."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from test_model_store import KILLED_PUSH, PROJECT, left_over

from components import model_store
from serving import embedded, server
from serving.client import RecommenderClient, ServingError
from serving.protocol import State
from trainer_modules import contract

KEEP = 2


class Marked(tf.Module):
    """Answers with what its asset says, once for each row of its variable: neither file may be missing."""

    def __init__(self, path):
        super().__init__()
        index = tf.lookup.TextFileIndex
        initializer = tf.lookup.TextFileInitializer(
            str(path), tf.int64, index.LINE_NUMBER, tf.string, index.WHOLE_LINE
        )
        self.table = tf.lookup.StaticHashTable(initializer, "nothing")
        self.rows = tf.Variable(tf.zeros([1000], tf.int64))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "row")])
    def answer(self, row):
        return {"marker": self.table.lookup(tf.gather(self.rows, row))}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    (folder / "marker.txt").write_text("template\n")
    model = Marked(folder / "marker.txt")
    tf.saved_model.save(model, str(folder / "model"), signatures={"serving_default": model.answer})
    return folder / "model"


class Watched:
    """A store, and a server that looks at it a hundred times a second."""

    def __init__(self, tmp_path, template):
        self.tmp_path, self.template, self.destination = tmp_path, template, tmp_path / "models"

    def sources(self, marker):
        found = {}
        for name in contract.MODELS:
            found[name] = str(self.tmp_path / f"{name}-{marker}")
            shutil.copytree(self.template, found[name])
            (self.tmp_path / f"{name}-{marker}" / "assets" / "marker.txt").write_text(f"{name} {marker}\n")
        return found

    def push_in_a_process(self, sources, kill_at):
        arguments = [str(kill_at), json.dumps([str(self.destination), sources, KEEP])]
        return subprocess.run(
            [sys.executable, "-c", KILLED_PUSH, *arguments],
            env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def answers(self, client, version, marker):
        """Waits until the server has taken the version, which must be whole; nothing else may have failed."""
        deadline = time.monotonic() + 300
        for name in contract.MODELS:
            while not any(seen.version == version for seen in available(client, name)):
                assert time.monotonic() < deadline, client.versions(name)
                time.sleep(0.02)
            assert [seen for seen in client.versions(name) if seen.error] == []
            answer = client.predict(name, "serving_default", {"row": [999]})
            assert (answer.version, list(answer.outputs["marker"])) == (version, [f"{name} {marker}".encode()])


def available(client, name):
    try:
        return [seen for seen in client.versions(name) if seen.state is State.AVAILABLE]
    except ServingError:
        return []


def kill_pushes(tmp_path, template, kills, seed):
    watched = Watched(tmp_path, template)
    for marker in (1, 2, 3):  # the third removes a version, as all that follow do
        complete = watched.push_in_a_process(watched.sources(marker), 10**9)
        assert complete.returncode == 0, complete.stderr
    num_lines, chance = int(complete.stdout), random.Random(seed)
    completed = undone = 0
    base_paths = {name: watched.destination / name for name in contract.MODELS}
    with (
        embedded.EmbeddedServer(base_paths, poll_interval_s=0.01) as running,
        RecommenderClient(running.address, timeout_s=30.0) as client,
    ):
        watched.answers(client, 3, 3)
        for version in range(4, 4 + kills):
            sources = watched.sources(version)
            # Every other one late: once the push is decided few lines are left.
            killed = watched.push_in_a_process(
                sources, chance.randint(1 if version % 2 else num_lines * 4 // 5, num_lines)
            )
            assert killed.returncode == -signal.SIGKILL
            again = model_store.push(watched.destination, sources, KEEP, {})
            assert again.version == version and not left_over(watched.destination)
            completed, undone = completed + (not again.pushed), undone + again.pushed
            watched.answers(client, version, version)
    return completed, undone


def test_a_watching_server_never_sees_a_killed_push(tmp_path, template):
    kill_pushes(tmp_path, template, kills=5, seed=5)


@pytest.mark.slow
def test_a_watching_server_never_sees_one_of_fifty_killed_pushes(tmp_path, template):
    completed, undone = kill_pushes(tmp_path, template, kills=50, seed=13)
    assert completed and undone


def test_the_server_would_notice_half_a_version(tmp_path, template):
    watched = Watched(tmp_path, template)
    model_store.push(watched.destination, watched.sources(1), KEEP, {})
    shutil.rmtree(watched.destination / "retrieval" / "1" / "variables")
    base_paths = {name: watched.destination / name for name in contract.MODELS}
    with (
        embedded.EmbeddedServer(base_paths, poll_interval_s=0.01) as running,
        pytest.raises(server.ServerError, match=r"retrieval version 1 could not be loaded: .*variables"),
    ):
        server.wait_until_available(running.address, ["retrieval"])
