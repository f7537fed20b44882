"""One small world, transformed once and trained on once for all tests of this folder that can share it."""

import logging

import pytest
import toy_world

NEVER_RATED = "m97"
ONLY_IN_TEST = "m98"

RETRIEVAL_CONFIG = {
    "family": "two_tower",
    # Twenty users of eval outweigh no default, and popularity says nothing here.
    "hyperparameters": {
        "embedding_dimension": 16, "hidden_units": 16, "num_epochs": 10, "blocks_per_batch": 8, "popularity_share": 0.0,
    },
    "seed": 7,
    "user_snapshot": True,
    "rating_range": [1.0, 5.0],
}


@pytest.fixture(scope="session")
def checkerboard():
    """The checkerboard, an even movie nobody rated, one that only a test row has, and users with few rows or none."""
    world = toy_world.checkerboard()
    world.movies[NEVER_RATED] = ("Movie even 97 (1994)", ["even"])
    world.movies[ONLY_IN_TEST] = ("Café Só (Só) (2006-2007)", [])
    world.ratings += [
        ("late", "m0", 4.0, 880_100_000),
        ("late", "m2", 4.0, 880_100_000),
        ("late", ONLY_IN_TEST, 4.0, 880_100_000),
        ("once", "m1", 5.0, 880_100_500),
        ("twice", "m1", 5.0, 880_100_600),
        ("twice", "m3", 5.0, 880_100_700),
    ]
    world.users["nobody"] = {}
    return world


@pytest.fixture(scope="session")
def artifacts(checkerboard, tmp_path_factory):
    return toy_world.write_artifacts(checkerboard, tmp_path_factory.mktemp("checkerboard"))


@pytest.fixture(scope="session")
def retrieval_log():
    """What training said, filled by retrieval_path."""
    return []


@pytest.fixture(scope="session")
def retrieval_path(artifacts, retrieval_log, tmp_path_factory):
    """A retrieval model trained on the checkerboard."""
    from trainer_modules import retrieval

    class Keep(logging.Handler):
        def emit(self, record):
            retrieval_log.append(record.getMessage())

    logger, handler = logging.getLogger("movierec"), Keep()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    path = tmp_path_factory.mktemp("retrieval") / "model"
    retrieval.run_fn(artifacts.fn_args(path, RETRIEVAL_CONFIG))
    logger.removeHandler(handler)
    logger.setLevel(level)
    return str(path)


@pytest.fixture(scope="session")
def star_world():
    return toy_world.checkerboard_of_stars()


@pytest.fixture(scope="session")
def star_artifacts(star_world, tmp_path_factory):
    return toy_world.write_artifacts(star_world, tmp_path_factory.mktemp("stars"))
