"""One small world, transformed once and trained on once for all tests of this folder that can share it."""

import dataclasses
import logging

import pytest
import toy_world
from made_once import made_once

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
DEEP_CONFIG = {
    **RETRIEVAL_CONFIG,
    "family": "deep",
    "hyperparameters": {"batch_size": 32, "max_epochs": 8, "learning_rate": 0.02, "factor_l2": 1.0, "bias_l2": 1.0},
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
    return written_once("checkerboard", checkerboard, tmp_path_factory)


def written_once(name, world, tmp_path_factory):
    """A world's Artifacts; name: of the world."""
    told = made_once(
        tmp_path_factory, name, lambda folder: dataclasses.asdict(toy_world.write_artifacts(world, folder / "world"))
    )
    return toy_world.Artifacts(**told)


@pytest.fixture(scope="session")
def retrieval_training(artifacts, tmp_path_factory):
    """A retrieval model trained on the checkerboard: its path, and what training said."""
    config = RETRIEVAL_CONFIG
    return made_once(tmp_path_factory, "retrieval", lambda folder: _trained_retrieval(artifacts, folder, config))


def _trained_retrieval(artifacts, folder, config):
    from trainer_modules import retrieval

    said = []

    class Keep(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    logger, handler = logging.getLogger("movierec"), Keep()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    retrieval.run_fn(artifacts.fn_args(folder / "model", config))
    logger.removeHandler(handler)
    logger.setLevel(level)
    return {"path": str(folder / "model"), "said": said}


@pytest.fixture(scope="session")
def retrieval_path(retrieval_training):
    return retrieval_training["path"]


@pytest.fixture(scope="session")
def retrieval_again_path(artifacts, tmp_path_factory):
    """The same trained again, without a snapshot of the users."""
    config = {**RETRIEVAL_CONFIG, "user_snapshot": False}
    made = made_once(tmp_path_factory, "retrieval-again", lambda folder: _trained_retrieval(artifacts, folder, config))
    return made["path"]


@pytest.fixture(scope="session")
def deep_path(star_artifacts, tmp_path_factory):
    """A ranking model trained on the checkerboard of stars."""

    def make(folder):
        from trainer_modules import ranking

        ranking.run_fn(star_artifacts.fn_args(folder / "model", DEEP_CONFIG))
        return str(folder / "model")

    return made_once(tmp_path_factory, "deep", make)


@pytest.fixture(scope="session")
def star_world():
    return toy_world.checkerboard_of_stars()


@pytest.fixture(scope="session")
def star_artifacts(star_world, tmp_path_factory):
    return written_once("stars", star_world, tmp_path_factory)


@pytest.fixture
def without_graphs():
    """For trainings of a few steps, which take less time than to trace one."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
