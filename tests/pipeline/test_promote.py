"""`movierec promote` and `movierec rollback` as a user types them, where no server is needed."""

import pathlib
import subprocess
import sys

import pytest

MOVIEREC = pathlib.Path(sys.executable).with_name("movierec")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["promote", "0"], 2, "0 is not in the range"),
        (["promote", "3", "--label", "previous"], 2, "'previous' is not one of"),
        (["promote", "3"], 2, "no run under"),
        (["promote", "3", "--server-models", "/models", "--address", "127.0.0.1:1"], 1, "UNAVAILABLE"),
        (["rollback", "--server-models", "/models", "--address", "127.0.0.1:1"], 1, "UNAVAILABLE"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, arguments, status, said):
    done = subprocess.run([MOVIEREC, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)
    assert said in done.stderr
