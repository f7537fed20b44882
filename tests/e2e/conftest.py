"""One real run of each data set, shared by every end-to-end test."""

import pytest
from commands import SHARED_DATA, Run, killed_at, movierec, options_within


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory):
    """A run on the sample that was killed while retrieval was trained, and then run again."""
    folder = tmp_path_factory.mktemp("sample")
    options = options_within(folder)
    killed_at("RetrievalTrainer", *options)
    return Run(folder / "root", options, movierec("run", *options, "--demo"))


@pytest.fixture(scope="session")
def ml_100k_run(tmp_path_factory):
    """A run on real ml-100k; only the ranking model's chains are shorter than those users get."""
    data_dir = SHARED_DATA / "ml-100k"
    if not data_dir.is_dir():
        pytest.skip(f"no ml-100k at {data_dir}")
    folder = tmp_path_factory.mktemp("ml-100k")
    options = ("--dataset", "ml-100k", "--data-dir", data_dir, *options_within(folder))
    return Run(folder / "root", options, movierec("run", *options))
