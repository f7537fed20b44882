"""The image of pods and workers, as far as it goes without a container engine."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from pipeline.deploy import run_task

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "pipeline" / "deploy" / "Dockerfile"
UV = ROOT / ".uv" / "bin" / "uv"


def instructions(name):
    """The arguments of every instruction of that name, lines joined."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def test_hadolint_finds_nothing():
    hadolint = pathlib.Path(sys.executable).with_name("hadolint")
    done = subprocess.run([str(hadolint), str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    broken = "FROM python\nRUN cd /tmp && sudo pip install x\n"
    assert subprocess.run([str(hadolint), "-"], input=broken, capture_output=True, text=True).returncode == 1


def test_nothing_in_it_floats_and_nothing_runs_as_root():
    images = [*instructions("FROM"), *re.findall(r"--from=(\S+/\S+)", DOCKERFILE.read_text())]
    assert images and all(re.search(r":[\w.]*\d+\.\d+[\w.-]*", image) for image in images)
    assert all(re.search(r"python:?3\.10|python3\.10", image) for image in images)
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    [beam] = [image for image in images if "beam" in image]
    assert beam.split(":")[1] == locked["apache-beam"]
    assert instructions("USER") == ["1000:1000"]
    assert any("--require-hashes requirements.lock" in command for command in instructions("RUN"))


def test_what_is_copied_is_in_a_clean_checkout():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    tops = {path.partition("/")[0] for path in tracked}
    copied = {
        name for line in instructions("COPY") if not line.startswith("--from") for name in line.split()[:-1]
    }
    assert copied <= tops and {"pipeline", "components", "requirements.lock"} <= copied
    allowed = (ROOT / ".dockerignore").read_text().split("\n")
    assert allowed[1] == "*" and {line[1:] for line in allowed if line.startswith("!")} == copied


def test_beam_starts_its_workers_by_the_same_entry_point(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: started.append((path, arguments)) or sys.exit(0))
    with pytest.raises(SystemExit):
        run_task.main(["--id=1", "--provision_endpoint=localhost:1"])
    assert started == [(run_task.BEAM_BOOT, [run_task.BEAM_BOOT, "--id=1", "--provision_endpoint=localhost:1"])]


def test_the_entry_point_starts_without_what_it_may_not_need(tmp_path):
    [command] = instructions("ENTRYPOINT")
    python, *rest = json.loads(command)
    assert python == "python"
    done = subprocess.run([sys.executable, *rest, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "--json_serialized_invocation_args" in done.stdout
    script = f"import sys, {rest[1]}; print([name for name in ('tensorflow', 'tfx', 'kfp') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.slow
def test_its_installation_into_an_empty_prefix_gives_the_locks_versions_and_a_task_that_starts(tmp_path):
    """The Dockerfile's own commands, from a clean checkout, with other folders."""
    source, prefix = tmp_path / "src", tmp_path / "opt"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(source)], check=True)
    commands = [line for line in instructions("RUN") if line.startswith("uv ")]
    assert len(commands) == 2
    environment = {**os.environ, "PATH": f"{UV.parent}{os.pathsep}{os.environ['PATH']}"}
    python = pathlib.Path(sys.base_prefix) / "bin" / "python3.10"
    for command in commands:
        here = command.replace("/opt/movierec", str(prefix)).replace("/usr/local/bin/python3.10", str(python))
        done = subprocess.run(
            ["bash", "-c", here], cwd=source, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
    freeze = [str(UV), "pip", "freeze", "--python", str(prefix / "bin" / "python")]
    frozen = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
    locked = set(re.findall(r"^([\w.-]+==[\w.+!]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    installed = {line for line in frozen.splitlines() if "==" in line}
    assert installed <= locked and len(installed) > 200
    [entry] = instructions("ENTRYPOINT")
    command = shlex.join([str(prefix / "bin" / "python"), *json.loads(entry)[1:], "--help"])
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "--executor_class_path" in done.stdout, done.stderr
    where = subprocess.run(
        [str(prefix / "bin" / "python"), "-c", "import pipeline.deploy; print(pipeline.deploy.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(prefix))
