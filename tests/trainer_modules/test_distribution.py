"""Two processes that train together, as two pods of a TFJob would."""

import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import types
from concurrent import futures

import pytest
from train_together import CONFIGS

from trainer_modules import distribution, ranking, ranking_data, retrieval, retrieval_data

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

SCRIPT = pathlib.Path(__file__).with_name("train_together.py")
MACHINE_TO_BLAME = "Could not start gRPC server|[Hh]eartbeat"
"""A port that was free has been taken meanwhile; or a process stood still for long."""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def train(artifacts, folders, again=True):
    """One process for every folder; what each said. Once more with other ports where that may help."""
    told = json.dumps(dataclasses.asdict(artifacts))
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(len(folders))]}
    configs = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(len(folders))]
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), told, str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "TF_CONFIG": json.dumps(config), "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        for folder, config in zip(folders, configs, strict=True)
    ]  # fmt: skip

    def said_by(process):
        said = process.communicate()
        if process.returncode:  # the others would wait for it
            for other in processes:
                other.kill()
        return said

    with futures.ThreadPoolExecutor(len(processes)) as pool:
        said = list(pool.map(said_by, processes))
    errors = "\n".join(err for _, err in said)
    statuses = [process.returncode for process in processes]
    if any(statuses) and again and re.search(MACHINE_TO_BLAME, errors):
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        return train(artifacts, folders, again=False)
    assert statuses == [0] * len(processes), errors
    return [out for out, _ in said]


def figures(said):
    """Every figure on eval, by model, in the order it was said."""
    return {
        "retrieval": [float(value) for value in re.findall(r"eval ndcg_at_10 ([\d.]+)", said)],
        "ranking": [float(value) for value in re.findall(r"eval RMSE ([\d.]+), ", said)],
    }


class TunedError(Exception):
    """Ends a training before its refit."""


def tuned_alone(artifacts, caplog):
    """What one machine says until it has tuned both models."""

    def end(figure):
        raise TunedError

    with caplog.at_level("INFO", "movierec"):
        for config, data, module in (
            (CONFIGS["retrieval"], retrieval_data, retrieval), (CONFIGS["ranking"], ranking_data, ranking)
        ):  # fmt: skip
            loaded = dataclasses.replace(data.load(artifacts.fn_args("", config)), on_tuned=end)
            with pytest.raises(TunedError):
                module.FAMILIES[config["family"]](loaded, config["hyperparameters"], config["seed"])
    return caplog.text


def test_two_workers_train_one_model_and_the_chief_exports_it(artifacts, tmp_path, caplog):
    folders = [tmp_path / "chief", tmp_path / "other"]
    chief, other = map(figures, train(artifacts, folders))
    assert chief == other and len(chief["retrieval"]) == 2, "after every epoch they hold the same weights"
    assert not folders[1].exists(), "the chief alone exports"
    for name in ("retrieval", "ranking"):
        assert (folders[0] / name / "Format-Serving" / "saved_model.pb").is_file()
        assert (folders[0] / name / "Fit-rows" / "fit_pairs.npy").is_file()
        assert tf.saved_model.load(str(folders[0] / name / "Format-Serving")).signatures

    alone = figures(tuned_alone(artifacts, caplog))
    # The same batches and the mean of the same gradients; what is dropped at random differs.
    assert chief["ranking"][-1] == pytest.approx(alone["ranking"][-1], abs=0.1)
    assert chief["retrieval"][-1] == pytest.approx(alone["retrieval"][-1], abs=0.15)
    with open(folders[0] / "ranking" / "Format-Serving-run" / "epochs.csv") as file:
        first, second, *_ = [float(row["train_rmse"]) for row in csv.DictReader(file)]
    assert second < first, "it learns"


@pytest.mark.parametrize(
    "module, family, able", [(ranking, "factorization_machine", "deep"), (retrieval, "autorec", "two_tower")]
)
def test_a_family_that_one_machine_trains_says_so_instead_of_waiting(monkeypatch, module, family, able):
    config = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(ValueError, match=f"names 2 workers.*'{family}' is trained by one.*'{able}'"):
        module.run_fn(types.SimpleNamespace(custom_config={"family": family}))


def test_one_machine_needs_no_strategy(monkeypatch):
    for config in ("", "{}", json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})):
        monkeypatch.setenv("TF_CONFIG", config)
        assert distribution.strategy() is None and distribution.is_chief() and distribution.num_workers() == 1
