"""Bad data stops a run before training, says why, and leaves nothing half-made."""

import csv

import pytest
from commands import movierec

from components import movielens_sample


@pytest.fixture
def data_dir(tmp_path):
    """Files in ml-100k's format."""
    folder = tmp_path / "data"
    folder.mkdir()
    movielens_sample.write(folder)
    return folder


def test_too_many_bad_rows_stop_the_run(data_dir, tmp_path):
    ratings = data_dir / "u.data"
    lines = ratings.read_text().splitlines()
    lines[2:5] = ["1\t2\t9\t881250949", "1\t99999\t3\t881250949", "1\t2\t3\tnoon"]
    ratings.write_text("\n".join(lines) + "\n")
    root = tmp_path / "root"
    done = movierec(
        "run", "--dataset", "ml-100k", "--data-dir", data_dir, "--root", root, "--max-bad-share", "0.0001"
    )  # fmt: skip
    assert done.status == 2, done.err
    for line, reason in ((3, "outside 1 to 5 stars"), (4, "not in u.item"), (5, "not a whole number of seconds")):
        assert f"u.data:{line}: " in done.err and reason in done.err
    assert "Traceback" not in done.err
    with (root / "rejected" / "ml-100k.csv").open() as file:
        assert [row["line"] for row in csv.DictReader(file)] == ["3", "4", "5"]
    assert not (root / "models").exists()
    assert not (root / "artifacts" / "RetrievalTrainer").exists()
    asked = movierec("metrics", "--root", root)
    assert asked.status == 2 and "came to no evaluation, it stopped at MovieLensExampleGen" in asked.err


def test_no_network_and_no_folder_names_both_ways_out(tmp_path):
    done = movierec(
        "run", "--dataset", "ml-100k", "--root", tmp_path / "root", cwd=tmp_path,
        environment=dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    )  # fmt: skip
    assert done.status == 2, done.err
    assert "--data-dir" in done.err and "network" in done.err
