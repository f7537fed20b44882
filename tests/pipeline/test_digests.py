import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from pipeline import digests

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path):
    """A copy of the packages, whose digests are taken in a process of its own."""
    for package in digests.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def taken():
        code = "import json; from pipeline import digests; print(json.dumps(vars(digests.of_code())))"
        found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        return json.loads(found.stdout)

    return tmp_path, taken


@pytest.mark.parametrize(
    "path, stale",
    [
        ("trainer_modules/two_tower.py", {"retrieval"}),
        ("trainer_modules/ranking.py", {"ranking"}),
        ("trainer_modules/preprocessing.py", None),
        ("components/schema/schema.pbtxt", {"schema"}),
        ("components/model_store.py", {"push"}),
        ("pipeline/cli.py", set()),
    ],
)
def test_an_edit_is_seen_by_what_depends_on_it_and_by_nothing_else(copy, path, stale):
    folder, taken = copy
    before = taken()
    with (folder / path).open("a") as file:
        file.write("\n# edited\n")
    after = taken()
    changed = {name for name in before if before[name] != after[name]}
    assert "preprocessing" in changed if stale is None else changed == stale


def test_nothing_is_imported():
    code = "import sys; from pipeline import digests; digests.of_code(); print('tensorflow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
    assert importlib.util.find_spec("tensorflow")
