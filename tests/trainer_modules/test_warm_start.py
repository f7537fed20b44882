"""Warm starts: what was learned stays with its id, wherever that stands now, and nothing that is known is forgotten."""

import dataclasses
import itertools
import logging
import pathlib

import numpy as np
import pytest
import toy_world
from conftest import RETRIEVAL_CONFIG

from trainer_modules import deep_ranking, fit_pairs, hyperparameters, ranking, ranking_data, retrieval, retrieval_data
from trainer_modules import features as f
from trainer_modules import two_tower_training as training
from trainer_modules import warm_start as ws
from trainer_modules.transform_graph import TransformGraph

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

RANKING_CONFIG = {
    "family": "deep", "hyperparameters": {"factors": 4, "key_size": 3, "max_epochs": 2}, "seed": 7,
    "user_snapshot": True, "rating_range": [1.0, 5.0],
}  # fmt: skip
RETRIEVAL_CONFIG = {**RETRIEVAL_CONFIG, "hyperparameters": {**RETRIEVAL_CONFIG["hyperparameters"], "num_epochs": 2}}
MODULES = {"two_tower": (retrieval, retrieval_data, RETRIEVAL_CONFIG), "deep": (ranking, ranking_data, RANKING_CONFIG)}
GONE_USER, GONE_MOVIE, NEW_USER, NEW_MOVIE = b"u0", b"m0", b"newcomer", b"m99"


@pytest.fixture(scope="module")
def later_world(checkerboard):
    """Another day: some users are gone, one movie is not rated, a user and a movie are new, the order is another."""
    ratings = [
        (user, movie, stars, time + 10**6)
        for user, movie, stars, time in checkerboard.ratings
        if user in {f"u{n}" for n in range(5, 30)} and movie != GONE_MOVIE.decode()
    ]
    ratings += [("newcomer", f"m{n}", 4.0, 882_000_000 + n) for n in (15, 13, 11, 9)]
    ratings += [(f"u{n}", "m99", 5.0, 870_000_000 + n) for n in range(10, 20)]
    ratings += [("u7", "m15", 5.0, 870_000_000), ("u9", "m15", 2.0, 870_000_000)]
    movies = {**checkerboard.movies, "m99": ("Movie odd 99 (2003)", ["odd", "new"])}
    return toy_world.World(ratings[::-1], movies, checkerboard.users)


@pytest.fixture(scope="module")
def later(later_world, tmp_path_factory):
    return toy_world.write_artifacts(later_world, tmp_path_factory.mktemp("later"))


@pytest.fixture(scope="module")
def first(artifacts, tmp_path_factory):
    """Family -> the place of the model that is continued."""
    found = {}
    for family in MODULES:
        found[family] = str(tmp_path_factory.mktemp(f"first-{family}") / "Format-Serving")
        train(family, arguments(family, artifacts, found[family], None))
    return found


def arguments(family, artifacts, path, base_model):
    found = artifacts.fn_args(path, MODULES[family][2])
    found.base_model = base_model
    return found


def train(family, fn_args):
    """What run_fn does, less the export; and retrieval, which takes long to compile, is not tuned."""
    module, data, config = MODULES[family]
    loaded = data.load(fn_args, ws.load(fn_args, family))
    if family == "two_tower":
        p = hyperparameters.parse(hyperparameters.TwoTower, config["hyperparameters"])
        model = training.fit(loaded.fit, loaded, p, config["seed"], p.num_epochs, lambda *said: None)
        loaded.warm_start.keep(lambda: training.weights(model, loaded))
    else:
        module.FAMILIES[family](loaded, config["hyperparameters"], config["seed"])
    model_uri = str(pathlib.Path(fn_args.serving_model_dir).parent)
    loaded.warm_start.save(model_uri, family, loaded.transform_output, *loaded.fit_ids)


@pytest.fixture(scope="module")
def second(first, later, tmp_path_factory):
    """Family -> the arguments of a run_fn that went on from the first on the other day."""
    found = {}
    for family in MODULES:
        path = tmp_path_factory.mktemp(f"second-{family}") / "Format-Serving"
        found[family] = arguments(family, later, path, first[family])
        train(family, found[family])
    return found


def learned_by(model_path, family):
    """What the model in this place left."""
    nowhere = toy_world.Artifacts("", "", "", "", "")
    return ws.load(arguments(family, nowhere, "", model_path), family)._before


def untrained(family, fn_args, start):
    """The model as it stands before its first step, as Weights."""
    data = dataclasses.replace(MODULES[family][1].load(fn_args, ws.load(fn_args, family)), warm_start=start)
    if family == "two_tower":
        p = hyperparameters.parse(hyperparameters.TwoTower, RETRIEVAL_CONFIG["hyperparameters"])
        return training.weights(training.fit(data.train, data, p, 7, 0, print), data)
    settings = hyperparameters.parse(hyperparameters.DeepRanking, RANKING_CONFIG["hyperparameters"])
    return deep_ranking.DeepRanking(data, data.train, settings, 7).named_weights()


@pytest.mark.parametrize("family", MODULES)
def test_rows_go_with_their_ids_and_new_ones_start_as_a_fresh_models(family, first, later, tmp_path):
    fn_args = arguments(family, later, tmp_path / "Format-Serving", first[family])
    before = learned_by(first[family], family)
    warm = untrained(family, fn_args, ws.WarmStart(before))
    fresh = untrained(family, fn_args, ws.WarmStart())
    moved = new = 0
    assert set(warm.variables) == set(before.values)
    for name, variable in warm.variables.items():
        start, cold = variable.numpy(), fresh.variables[name].numpy()
        if name not in warm.keys:
            np.testing.assert_array_equal(start, before.values[name], err_msg=name)
            continue
        old_keys = before.keys[name].tolist()
        assert len(set(warm.keys[name].tolist())) == len(start)
        for row, key in enumerate(warm.keys[name].tolist()):
            if key in old_keys:
                moved += old_keys.index(key) != row
                np.testing.assert_array_equal(start[row], before.values[name][old_keys.index(key)], err_msg=str(key))
            else:
                new += 1
                np.testing.assert_array_equal(start[row], cold[row], err_msg=str(key))
    assert moved > 20 and new > 2  # or the order was the same, or nothing new came
    users = warm.keys["user_embedding" if family == "two_tower" else "user_index"].tolist()
    assert GONE_USER in users and NEW_USER in users


@pytest.mark.parametrize("family", MODULES)
def test_what_todays_rows_say_nothing_of_stays_exactly_as_it_was(family, first, second):
    before, after = learned_by(first[family], family), learned_by(second[family].serving_model_dir, family)
    name = {"two_tower": "user_embedding", "deep": "user_index"}[family]

    def row(learned, key):
        return learned.values[name][learned.keys[name].tolist().index(key)]

    assert np.abs(row(before, GONE_USER)).max() > 0
    np.testing.assert_array_equal(row(after, GONE_USER), row(before, GONE_USER))
    assert np.abs(row(after, b"u10") - row(before, b"u10")).max() > 1e-4  # who has rows goes on learning
    if family == "deep":  # retrieval has every movie as a negative
        name = "movie_index"
        np.testing.assert_array_equal(row(after, GONE_MOVIE), row(before, GONE_MOVIE))


@pytest.mark.parametrize("family", MODULES)
def test_the_rows_behind_a_model_are_those_of_all_it_continued(family, second, checkerboard, later_world):
    def fitted_on(world):
        states = toy_world.leave_last_out(world).items()
        rows = [f"{user}\t{movie}".encode() for user, rows in states for movie, *_, split in rows if split != "test"]
        return set(fit_pairs.hashes(np.array(rows)).tolist())

    kept = fit_pairs.read(str(pathlib.Path(second[family].serving_model_dir).parent))
    assert set(kept.tolist()) == fitted_on(checkerboard) | fitted_on(later_world)
    assert len(fitted_on(later_world) - fitted_on(checkerboard)) > 10


@pytest.mark.slow
def test_a_gone_user_and_an_unrated_movie_are_still_known_to_the_served_model(first, later, tmp_path):
    fn_args = arguments("two_tower", later, tmp_path / "Format-Serving", first["two_tower"])
    retrieval.run_fn(fn_args)
    served = tf.saved_model.load(fn_args.serving_model_dir)
    vector = served.signatures["embed_candidate"](movie_id=tf.constant([GONE_MOVIE.decode(), "m97"]))["embedding"]
    vector = vector[:, : RETRIEVAL_CONFIG["hyperparameters"]["embedding_dimension"]]  # the towers'
    learned = learned_by(fn_args.serving_model_dir, "two_tower")
    row = learned.values["movie_embedding"][learned.keys["movie_embedding"].tolist().index(GONE_MOVIE)]
    oov = learned.values["movie_embedding"][f.OOV_INDEX]
    # Both are even and near each other in time: what tells them apart is the id that one of them has.
    side = np.asarray(vector[0]) - row
    assert np.abs(row).max() > 0 and np.abs(side - (np.asarray(vector[1]) - oov)).max() < np.abs(row - oov).max()
    history = {"history_movie_id": [["m2"]], "history_rating": [[4.0]], "history_timestamp": [[880_000_000]]}
    query = {"query_timestamp": tf.constant([881_000_000], tf.int64)}
    query |= {name: tf.constant(value, tf.int64 if "time" in name else None) for name, value in history.items()}
    ask = served.signatures["embed_query"]
    gone, nobody = (ask(user_id=tf.constant([user]), **query)["embedding"] for user in ("u0", "who?"))
    assert np.abs(gone - nobody).max() > 1e-6


def test_old_entries_follow_todays_in_the_vocabularies(artifacts, later, tmp_path):
    old = artifacts.transform_output.vocabulary_by_name(f.USER_VOCABULARY)
    today = later.transform_output.vocabulary_by_name(f.USER_VOCABULARY)
    output = ws.grown(later.transform_graph, {f.USER_VOCABULARY: old}, str(tmp_path / "grown"))
    found = output.vocabulary_by_name(f.USER_VOCABULARY)
    assert found[: len(today)] == today and sorted(found) == sorted({*old, *today})
    assert output.vocabulary_size_by_name(f.USER_VOCABULARY) == len(found) > len(today)
    user_id = tf.constant([*found, b"who?"])
    indices = TransformGraph(output)({f.USER_ID.name: user_id}, [f.USER_INDEX.name])[f.USER_INDEX.name]
    assert indices.numpy().tolist() == [*range(f.FIRST_INDEX, f.FIRST_INDEX + len(found)), f.OOV_INDEX]
    assert later.transform_output.vocabulary_by_name(f.USER_VOCABULARY) == today  # the original is as it was


def test_tuning_looks_only_at_eval_rows_that_are_not_known(first, later, tmp_path, caplog):
    fn_args = arguments("two_tower", later, tmp_path / "Format-Serving", first["two_tower"])
    cold = retrieval_data.load(later.fn_args("", RETRIEVAL_CONFIG))
    with caplog.at_level(logging.INFO, "movierec"):
        data = retrieval_data.load(fn_args, ws.load(fn_args, "two_tower"))
    before = ws.load(fn_args, "two_tower")
    ids = data.held_out.user_id[data.held_out.row_user], data.catalog.movie_id[data.held_out.position]
    assert 0 < len(data.held_out.position) < len(cold.held_out.position)
    assert not before.has_fitted(*ids).any()
    assert f"of {len(cold.held_out.position)} eval rows" in caplog.text
    assert len(data.fit.position) == len(cold.fit.position)  # the refit has them all
    ranked = ranking_data.load(arguments("deep", later, tmp_path / "Format-Serving", first["deep"]),
                               ws.load(arguments("deep", later, "", first["deep"]), "deep"))
    assert len(ranked.tuned_on[f.USER_RATING.name]) == len(data.held_out.position)
    assert len(ranked.eval[f.USER_RATING.name]) == len(cold.held_out.position)


def test_where_every_eval_row_is_known_all_are_looked_at_and_the_log_says_so(caplog):
    user, movie = np.array([b"u1", b"u2"]), np.array([b"m1", b"m1"])
    pairs = fit_pairs.hashes(fit_pairs.join(user, movie))
    start = ws.WarmStart(ws.Learned("deep", {}, {}, {}, pairs))
    assert start.may_tune_on(user, movie).tolist() == [True, True] and "all the same" in caplog.text
    assert start.may_tune_on(user, np.array([b"m1", b"m2"])).tolist() == [False, True]


def test_nothing_to_continue_from_is_a_cold_start_and_the_log_says_so(first, later, tmp_path, caplog):
    nothing = arguments("deep", later, "", str(tmp_path / "Format-Serving"))
    assert ws.load(nothing, "deep")._before is None and "no blessed model" in caplog.text
    other = arguments("deep", later, "", first["two_tower"])
    assert ws.load(other, "deep")._before is None and "two_tower" in caplog.text
    assert ws.load(later.fn_args("", {}), "deep")._before is None


def test_another_width_starts_fresh_and_the_log_says_so(caplog):
    variable = tf.Variable(np.ones((3, 2)), dtype=tf.float32)
    keys = np.array([b"a", b"b", b"c"])
    before = ws.Learned("deep", {"table": np.zeros((3, 5))}, {"table": keys}, {}, np.zeros(0, np.int64))
    [(_, anchor)] = ws.carry_over(ws.Weights({"table": variable}, {"table": keys}), before)
    assert variable.numpy().min() == 1 and not anchor.numpy().any() and "another shape" in caplog.text
    assert not ws.WarmStart(before).knows("table", keys, 2).any() and ws.WarmStart(before).knows("table", keys, 5).all()


def test_decay_draws_to_the_anchor_and_without_one_is_adamws():
    random = np.random.default_rng(0)
    start, anchor, gradient = (random.normal(0, 1, (3, 2)).astype(np.float32) for _ in range(3))
    gradient[1] = 0.0

    def stepped(optimizer_of, num_steps=3):
        variable = tf.Variable(start)
        optimizer = optimizer_of(variable)
        for _ in range(num_steps):
            optimizer.apply_gradients([(tf.constant(gradient), variable)])
        return variable.numpy()

    plain = stepped(lambda variable: tf.keras.optimizers.AdamW(0.1, weight_decay=0.5))
    np.testing.assert_array_equal(stepped(lambda variable: ws.adamw(0.1, 0.5, [], [])), plain)
    undrawn = stepped(lambda variable: tf.keras.optimizers.Adam(0.1))
    for anchors in ([], [anchor]):
        pairs = lambda variable, anchors=anchors: [(variable, tf.constant(one)) for one in anchors]  # noqa: E731
        left_alone = stepped(lambda variable, pairs=pairs: ws.adamw(0.1, 0.5, [variable], pairs(variable)))
        np.testing.assert_array_equal(left_alone, undrawn)
    drawn = stepped(lambda variable: ws.adamw(0.1, 0.5, [], [(variable, tf.constant(anchor))]))
    # Adam's own steps do not depend on where the weights are, so each step's decay can be told apart.
    expected, undecayed = start, [stepped(lambda v: tf.keras.optimizers.Adam(0.1), n) for n in range(4)]
    for before, after in itertools.pairwise(undecayed):
        expected = expected - 0.05 * (expected - anchor) + (after - before)
    np.testing.assert_allclose(drawn, expected, rtol=1e-4, atol=1e-6)
