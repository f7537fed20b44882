"""Our packages come before TensorFlow, whichever test module is collected first: they choose tf-keras."""

import functools
import pathlib

import pytest

import components  # noqa: F401

REAL = pathlib.Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def examples_of_ml_100k(tmp_path_factory):
    """Split -> what the ExampleGen makes of the real ml-100k, made once."""
    from example_gen_run import run_example_gen

    source = REAL / "ml-100k"
    if not source.is_dir():
        pytest.skip(f"no real ml-100k: {source} is absent")
    return functools.cache(
        lambda split: run_example_gen(tmp_path_factory.mktemp(split), source, "ml-100k", split=split)
    )
