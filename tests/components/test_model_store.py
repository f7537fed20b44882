"""The push: one version number for both models, never half a version, whatever is killed when."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading

import pytest

from components import model_store
from trainer_modules import contract

PROJECT = pathlib.Path(__file__).resolve().parents[2]
FILES = ("saved_model.pb", "fingerprint.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
SIZE = 3000

# Pushes, and kills itself (as kill -9 does) before the given line of the push or of the copying; says how many there
# are when it was not killed.
KILLED_PUSH = """
import json, os, shutil, signal, sys
from components import durable_files, model_store

countdown = int(sys.argv[1])
watched = {durable_files.__file__, model_store.__file__, shutil.__file__}

def trace(frame, event, argument):
    global countdown
    if frame.f_code.co_filename not in watched:
        return None
    countdown -= 1
    if countdown == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return trace

destination, sources, keep = json.loads(sys.argv[2])
sys.settrace(trace)
model_store.push(destination, sources, keep, {"retrieval_model_id": 7})
sys.settrace(None)
print(int(sys.argv[1]) - countdown)
"""


def toy_models(base, marker):
    """Two folders of a SavedModel's file names, told apart by one byte."""
    sources = {}
    for name in contract.MODELS:
        for file in FILES:
            path = base / f"{name}-{marker}" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([marker]) * SIZE)
        sources[name] = str(base / f"{name}-{marker}")
    return sources


def versions_on_disk(destination):
    return {
        name: sorted(int(path.name) for path in (destination / name).iterdir()) if (destination / name).is_dir() else []
        for name in contract.MODELS
    }


def left_over(destination):
    return sorted(path.name for path in destination.iterdir() if path.name.startswith((".staging", ".rem", ".journal")))


def marker_of(destination, version):
    """The byte both models of a version are made of; fails where they differ or lack a file."""
    found = {
        (destination / name / str(version) / file).read_bytes() for name in contract.MODELS for file in FILES
    }
    assert len(found) == 1
    return found.pop()[0]


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


class Watcher(threading.Thread):
    """Looks, as a server does, at every numbered folder, and notes each one that lacks a byte."""

    def __init__(self, destination):
        super().__init__(daemon=True)
        self.destination, self.halves, self.looks, self.ended = destination, [], 0, threading.Event()

    def run(self):
        while not self.ended.is_set():
            for name in contract.MODELS:
                for path in (self.destination / name).glob("[0-9]*"):
                    self.look(path)

    def look(self, path):
        self.looks += 1
        try:
            before = path.stat().st_ino
        except FileNotFoundError:
            return
        sizes = [size_of(path / file) for file in FILES]
        if sizes != [SIZE] * len(FILES):
            try:
                # A folder that was renamed away meanwhile is gone, not half.
                if path.stat().st_ino == before:
                    self.halves.append((path, sizes))
            except FileNotFoundError:
                pass


def test_both_models_get_one_number_and_the_record_says_where_from(tmp_path):
    destination = tmp_path / "models"
    done = model_store.push(destination, toy_models(tmp_path, 1), 5, {"retrieval_model_id": 11})
    assert (done.version, done.pushed) == (1, True)
    assert versions_on_disk(destination) == {"ranking": [1], "retrieval": [1]}
    record = model_store.read_versions(destination)["1"]
    assert record["retrieval_model_id"] == 11 and len(record["digest"]) == 64
    assert model_store.newest(destination) == 1 and not left_over(destination)


def test_the_same_content_is_not_pushed_twice(tmp_path):
    destination = tmp_path / "models"
    model_store.push(destination, toy_models(tmp_path, 1), 5, {"run": "first"})
    again = model_store.push(destination, toy_models(tmp_path / "elsewhere", 1), 5, {"run": "second"})
    assert (again.version, again.pushed, again.record["run"]) == (1, False, "first")
    assert versions_on_disk(destination) == {"ranking": [1], "retrieval": [1]}


def test_going_back_to_older_content_is_a_new_version(tmp_path):
    destination = tmp_path / "models"
    for marker, version in ((1, 1), (2, 2), (1, 3)):
        assert model_store.push(destination, toy_models(tmp_path, marker), 5, {}).version == version
    assert marker_of(destination, 3) == 1


def test_what_was_made_of_a_version_stands_for_its_content(tmp_path):
    """A grown index is not pushed over by the models it grew from, but by any others."""
    first = toy_models(tmp_path, 1)
    model_store.push(tmp_path / "models", first, 5, {})
    made_of = {model_store.MADE_OF: model_store.version_digest(tmp_path / "models", 1)}
    assert model_store.push(tmp_path / "models", toy_models(tmp_path, 2), 5, made_of).version == 2
    held = model_store.push(tmp_path / "models", first, 5, {})
    assert (held.version, held.pushed) == (2, False) and model_store.holding(tmp_path / "models", first) == held
    assert model_store.push(tmp_path / "models", toy_models(tmp_path, 3), 5, {}).version == 3
    assert model_store.push(tmp_path / "models", first, 5, {}).version == 4


def test_a_damaged_version_is_pushed_anew(tmp_path):
    destination = tmp_path / "models"
    model_store.push(destination, toy_models(tmp_path, 1), 5, {})
    (destination / "ranking" / "1" / "saved_model.pb").unlink()
    assert model_store.push(destination, toy_models(tmp_path, 1), 5, {}).version == 2


def test_a_number_is_never_used_again(tmp_path):
    destination = tmp_path / "models"
    for marker in (1, 2):
        model_store.push(destination, toy_models(tmp_path, marker), 5, {})
    for name in contract.MODELS:
        (destination / name / "2").rename(tmp_path / f"{name}-by-hand")
    assert model_store.push(destination, toy_models(tmp_path, 2), 5, {}).version == 3
    (destination / "retrieval" / "0007").mkdir()
    assert model_store.push(destination, toy_models(tmp_path, 3), 5, {}).version == 8


def test_old_versions_go_but_not_what_another_hand_put_there(tmp_path):
    destination = tmp_path / "models"
    for marker in range(1, 4):
        model_store.push(destination, toy_models(tmp_path, marker), 2, {})
    assert versions_on_disk(destination) == {"ranking": [2, 3], "retrieval": [2, 3]}
    assert set(model_store.read_versions(destination)) == {"1", "2", "3"}
    (destination / "ranking" / "1").mkdir()
    (destination / "retrieval" / "tmp").mkdir()
    model_store.push(destination, toy_models(tmp_path, 4), 2, {})
    assert (destination / "retrieval" / "tmp").is_dir() and model_store.newest(destination) == 4


def test_a_third_model_goes_along_and_files_are_laid_over_it(tmp_path):
    destination = tmp_path / "models"
    sources = toy_models(tmp_path, 1)
    overlay = tmp_path / "overlay"
    (overlay / "assets.extra").mkdir(parents=True)
    (overlay / "assets.extra" / "warm").write_text("warm")
    (overlay / "saved_model.pb").write_text("another")
    with_both = {**sources, contract.BOTH: (sources["ranking"], str(overlay))}
    assert model_store.push(destination, with_both, 2, {}).version == 1
    assert (destination / "both" / "1" / "assets.extra" / "warm").read_text() == "warm"
    assert (destination / "both" / "1" / "saved_model.pb").read_text() == "another"
    assert model_store.newest_models(destination) == contract.SERVED
    assert not model_store.push(destination, with_both, 2, {}).pushed
    # Without the third it is another version; with a half gone it is none that is complete.
    assert model_store.push(destination, sources, 2, {}).version == 2
    assert (model_store.newest(destination), model_store.newest_models(destination)) == (2, contract.MODELS)
    assert model_store.push(destination, with_both, 2, {}).version == 3
    assert sorted(path.name for path in (destination / "both").iterdir()) == ["3"]
    (destination / "both" / "3").rename(tmp_path / "gone")
    assert model_store.newest(destination) is None


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda sources: sources.pop("ranking"), "together, or ranking alone"),
        (lambda sources: sources.update(another="/nonexistent"), "together, or ranking alone"),
        (lambda sources: sources.update(ranking="/nonexistent"), "holds no saved_model.pb"),
    ],
)
def test_half_a_pair_is_refused(tmp_path, change, message):
    sources = toy_models(tmp_path, 1)
    change(sources)
    with pytest.raises(ValueError, match=message):
        model_store.push(tmp_path / "models", sources, 5, {})
    assert not (tmp_path / "models" / "retrieval").exists()


def test_ranking_may_be_pushed_alone_but_not_into_a_store_of_both(tmp_path):
    destination, both = tmp_path / "models", toy_models(tmp_path, 1)
    alone = {contract.RANKING: both[contract.RANKING]}
    assert model_store.newest_models(destination) == ()
    assert model_store.push(destination, alone, 5, {}).version == model_store.newest(destination) == 1
    assert model_store.newest_models(destination) == (contract.RANKING,)
    assert not model_store.push(destination, alone, 5, {}).pushed
    assert model_store.holding(destination, alone) and not model_store.holding(destination, both)
    again = {contract.RANKING: toy_models(tmp_path, 2)[contract.RANKING]}
    assert model_store.push(destination, again, 1, {}).version == 2
    assert versions_on_disk(destination)[contract.RANKING] == [2] and not (destination / contract.RETRIEVAL).exists()
    with pytest.raises(ValueError, match=r"ranking and retrieval to .*whose versions have ranking$"):
        model_store.push(destination, both, 5, {})
    model_store.push(tmp_path / "both", both, 5, {})
    assert model_store.newest_models(tmp_path / "both") == contract.MODELS
    with pytest.raises(ValueError, match=r"asked to push ranking to .*whose versions have ranking and retrieval"):
        model_store.push(tmp_path / "both", alone, 5, {})
    assert model_store.newest(tmp_path / "both") == 1


def test_recover_has_nothing_to_do_on_a_fresh_root(tmp_path):
    assert model_store.recover(tmp_path / "models") is None
    assert not (tmp_path / "models").exists()


def kill_pushes(tmp_path, kills, seed):
    """Kills pushes at random lines while a watcher looks, and checks what the next run makes of each."""
    destination, keep = tmp_path / "models", 2
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    def run(line, sources):
        arguments = json.dumps([str(destination), sources, keep])
        command = [sys.executable, "-c", KILLED_PUSH, str(line), arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    for marker in (1, 2, 3):  # the third removes a version, as all that follow do
        complete = run(10**9, toy_models(tmp_path, marker))
        assert complete.returncode == 0, complete.stderr
    num_lines = int(complete.stdout)
    watcher = Watcher(destination)
    watcher.start()
    chance = random.Random(seed)
    completed = undone = 0
    greatest = 3
    for marker in range(4, 4 + kills):
        sources = toy_models(tmp_path, marker)
        # Every other one late: once the push is decided few lines are left.
        killed = run(chance.randint(1 if marker % 2 else num_lines * 4 // 5, num_lines), sources)
        assert killed.returncode == -signal.SIGKILL
        model_store.recover(destination)
        assert not left_over(destination)
        on_disk = versions_on_disk(destination)
        assert on_disk["ranking"][-keep:] == on_disk["retrieval"][-keep:]
        newest = model_store.newest(destination)
        assert newest in (greatest, greatest + 1)
        if newest == greatest:
            undone += 1
        else:
            completed += 1
            assert marker_of(destination, newest) == marker
        again = model_store.push(destination, sources, keep, {})
        assert (again.version, again.pushed) == (greatest + 1, newest == greatest)
        assert model_store.read_versions(destination)[str(again.version)]["digest"] == again.record["digest"]
        greatest = again.version
    assert watcher.is_alive()
    watcher.ended.set()
    watcher.join()
    assert not watcher.halves and watcher.looks > kills
    return completed, undone


def test_a_killed_push_is_completed_or_undone(tmp_path):
    kill_pushes(tmp_path, kills=5, seed=3)


@pytest.mark.slow
def test_fifty_killed_pushes_are_completed_or_undone(tmp_path):
    completed, undone = kill_pushes(tmp_path, kills=50, seed=11)
    assert completed and undone


def test_the_watcher_would_see_half_a_version(tmp_path):
    toy_models(tmp_path, 1)
    version = tmp_path / "ranking-1"
    (version / "saved_model.pb").unlink()
    watcher = Watcher(tmp_path)
    watcher.look(version)
    assert watcher.halves
