"""Clients that others wrote: min-tfs-client, and Node's @grpc/grpc-js with @grpc/proto-loader.

Each lies in a folder of its own under .cache/, fetched once from its registry by pinned version and checksum; where
the registry cannot be reached and nothing was fetched before, the test is skipped and says so.
"""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

HERE = pathlib.Path(__file__).parent / "independent"
CACHE = pathlib.Path(__file__).parents[2] / ".cache" / "independent-clients"
OUT_OF_REACH = (
    "ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ERR_SOCKET_TIMEOUT", "EAI_AGAIN",
    "E403", "E404", "E429", "E500", "E502", "E503", "E504",
    "NewConnectionError", "ReadTimeoutError", "ResponseError('too many ", "HTTP error 429", "HTTP error 5",
    "Could not find a version",
)  # fmt: skip
NOT_AS_PINNED = ("DO NOT MATCH THE HASHES", "EINTEGRITY")
MIN_TFS_CLIENT_NEEDS = ("grpc", "numpy", "numpy.libs", "google/protobuf")


def fetched(name, pins, install):
    """The folder that `install(folder)` has filled, this time or before; it depends on the file of pins."""
    folder = CACHE / f"{name}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        done = subprocess.run(install(partial), cwd=partial, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired as late:
        pytest.skip(f"{name} could not be fetched from its registry: {late}")
    if done.returncode:
        said = done.stderr or done.stdout
        lines = [line for line in said.splitlines() if any(word in line for word in OUT_OF_REACH)]
        if lines and not any(word in said for word in NOT_AS_PINNED):
            pytest.skip(f"{name} could not be fetched from its registry: {lines[0]}")
        pytest.fail(f"{name} could not be installed: {said}")
    return partial.rename(folder)


def test_min_tfs_client(served, tmp_path):
    pins = HERE / "min-tfs-client.txt"
    folder = fetched("min-tfs-client", pins, lambda partial: [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir",
        "--retries=3", "--no-deps", "--require-hashes", f"--requirement={pins}", f"--target={partial}",
    ])  # fmt: skip
    installed = pathlib.Path(pytest.__file__).parents[1]
    for name in MIN_TFS_CLIENT_NEEDS:  # ours, without TensorFlow beside them
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(installed / name)
    command = [sys.executable, "-I", "-S", HERE / "ask_min_tfs_client.py", served.address, folder, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [row[:3] for row in said["answer"]["movie_ids"]] == [["m0", "m1", "m2"], ["m19", "m18", "m17"]]
    assert said["answer"]["scores"][0] == [-float(i) for i in range(10)]
    assert said["version"] == 3
    assert said["refusal"] == ["NOT_FOUND", "Servable not found for request: Latest(nope)"]


def descriptors():
    """TensorFlow Serving's services and all they need, in an order in which each file follows what it imports."""
    files = {}

    def add(file):
        for needed in file.dependencies:
            add(needed)
        if file.name not in files:
            files[file.name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(files[file.name])

    for module in (prediction_service_pb2, model_service_pb2):
        add(module.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString()


def test_grpc_js(served, tmp_path):
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not both on PATH")

    def install(partial):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, partial)
        return ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--logs-max=0",
                "--fetch-retries=1", f"--cache={CACHE / 'npm'}"]  # fmt: skip

    folder = fetched("grpc-js", HERE / "package-lock.json", install)
    (tmp_path / "node_modules").symlink_to(folder / "node_modules")
    shutil.copy(HERE / "ask.js", tmp_path)
    (tmp_path / "descriptors").write_bytes(descriptors())
    command = ["node", "--preserve-symlinks-main", tmp_path / "ask.js", served.address, tmp_path / "descriptors"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "movie_id": ["m1", "m3", "m4", "m18", "m17", ""],
        "score": [-1, -3, -4, -1, -2, None],
        "version": "3",
        "state": [["3", "AVAILABLE"]],
        "refused": {"code": "NOT_FOUND", "details": "Servable not found for request: Latest(nope)"},
    }
