"""`movierec serve --models-config`: what a models.config names, under its labels, whatever server there is."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

from serving import commands, finder
from serving.client import RecommenderClient, ServingError

MOVIEREC = str(pathlib.Path(sys.executable).with_name("movierec"))


@pytest.fixture
def config_path(versions, tmp_path):
    """Versions 1 to 3 of two models; 1 is stable, 2 canary, and 3 is nobody's."""
    entries = ""
    for name in ("ranking", "retrieval"):
        for version in "123":
            shutil.copytree(versions / version, tmp_path / name / version)
        entries += f"""
            config {{
              name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow"
              model_version_policy {{ specific {{ versions: [1, 2] }} }}
              version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }}
            }}"""
    path = tmp_path / "models.config"
    path.write_text(f"model_config_list {{{entries}}}")
    return path


def test_it_serves_the_versions_and_labels_of_the_file(config_path):
    process = subprocess.Popen(
        [MOVIEREC, "serve", "--models-config", config_path, "--server", "embedded", "--address", "127.0.0.1:0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}, cwd=config_path.parent,
    )  # fmt: skip
    try:
        address = re.search(r"models\.config at (127\.0\.0\.1:\d+) with", process.stdout.readline())[1]
        for label, version in (("stable", 1), ("canary", 2), ("", 2)):
            with RecommenderClient(address, label=label, timeout_s=60) as client:
                for name in ("ranking", "retrieval"):
                    assert client.predict(name, "serving_default", {"key": ["asked"]}).version == version
        with (
            RecommenderClient(address, label="beta", timeout_s=60) as client,
            pytest.raises(ServingError, match="label: beta"),
        ):
            client.predict("ranking", "serving_default", {"key": ["asked"]})
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_the_real_server_is_given_the_same_file(config_path, tmp_path):
    options = commands.Options(models_config_path=config_path)
    models = commands.models_of_config(config_path)
    assert models == {name: tmp_path / name for name in ("ranking", "retrieval")}
    folder = tmp_path / "server"
    folder.mkdir()
    for kind in (finder.BINARY, finder.CONTAINER):
        command = commands.command(finder.Choice(kind, "x", ()), models, "127.0.0.1", 8500, 0, folder, options)
        assert "--allow_version_labels_for_unavailable_models=true" in command
        assert (folder / "models.config").read_text() == config_path.read_text()
    assert f"--mount=type=bind,source={tmp_path}/ranking,target={tmp_path}/ranking,readonly" in command


@pytest.mark.parametrize(
    "text, more, said",
    [
        ("model_config_list {", [], "is no models.config"),
        ("", [], "names no model"),
        ("model_config_list {}", ["--root", "anywhere"], "give one of them"),
    ],
)
def test_a_file_that_says_nothing_is_bad_input(tmp_path, text, more, said):
    path = tmp_path / "models.config"
    path.write_text(text)
    done = subprocess.run([MOVIEREC, "serve", "--models-config", path, *more], capture_output=True, text=True)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
