"""The ranking SavedModel, trained on a world whose answer is known, asked as a server would ask it."""

import csv
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import toy_world
from conftest import DEEP_CONFIG
from ranking_questions import past_of, rank, rank_for_history, request, taste_of
from toy_world import COLD, NUM_STAR_MOVIES, NUM_STAR_USERS

from trainer_modules import baselines, ranking, ranking_data
from trainer_modules import contract as c
from trainer_modules import features as f

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

@pytest.fixture(scope="module")
def served(deep_path):
    return tf.saved_model.load(deep_path)


def serialized_test_rows(star_artifacts):
    files = tf.io.gfile.glob(f"{star_artifacts.examples}/Split-test/*")
    return next(iter(tf.data.TFRecordDataset(files, compression_type="GZIP").batch(1000)))


def test_signatures_are_the_contract(served):
    def listing(specs):
        return sorted((name, spec.dtype.name, spec.shape.as_list()) for name, spec in specs.items())

    assert sorted(served.signatures) == sorted(c.RANKING_SIGNATURES)
    seen = {
        name: (listing(signature.structured_input_signature[1]), listing(signature.structured_outputs))
        for name, signature in served.signatures.items()
    }
    stars = [(c.STARS, "float32", [None, None])]
    history = [
        (c.HISTORY_MOVIE_ID, "string", [None, None]),
        (c.HISTORY_RATING, "float32", [None, None]),
        (c.HISTORY_TIMESTAMP, "int64", [None, None]),
    ]
    user, movies = (c.USER_ID, "string", [None]), (c.MOVIE_ID, "string", [None, None])
    assert seen[c.RANK] == ([movies, user], stars)
    query_time = (c.QUERY_TIMESTAMP, "int64", [None])
    assert seen[c.RANK_FOR_HISTORY] == (sorted([*history, movies, query_time, user]), stars)
    assert [(name, dtype) for name, dtype, _ in seen[c.SERVING_DEFAULT][1]] == [(c.STARS, "float32")]
    assert seen[c.SERVING_DEFAULT][0] == [(c.EXAMPLES, "string", [None])]
    assert seen[c.POPULAR][0] == [(c.K, "int32", [None])]
    assert [name for name, _, _ in seen[c.POPULAR][1]] == [c.MOVIE_ID, c.MOVIE_TITLE, c.SCORE]


def test_every_epoch_is_noted(deep_path):
    with open(f"{deep_path}-run/epochs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    tuning = [row for row in rows if row["phase"] == "tuning"]
    refit = [row for row in rows if row["phase"] == "refit"]
    assert rows == [*tuning, *refit] and 0 < len(refit) <= len(tuning)
    assert [int(row["epoch"]) for row in tuning] == list(range(1, len(tuning) + 1))
    best = min(tuning, key=lambda row: float(row["eval_rmse"]))
    assert len(refit) == int(best["epoch"]) and not refit[0]["eval_rmse"]
    assert float(refit[-1]["train_rmse"]) < float(refit[0]["train_rmse"])


def test_learns_what_biases_cannot(served, star_artifacts, star_world):
    serialized = serialized_test_rows(star_artifacts)
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in ("user_id", "movie_id")}
    parsed = tf.io.parse_example(serialized, {**spec, "user_rating": tf.io.FixedLenFeature([], tf.float32)})
    truth = parsed["user_rating"].numpy()
    stars = served.signatures[c.SERVING_DEFAULT](examples=serialized)[c.STARS].numpy()
    assert stars.shape == (NUM_STAR_USERS, 1)

    fit = [(user, *row) for user in star_world.users for row in past_of(star_world, user, f.FIT_SPLITS)]
    number = {name: n for names in (star_world.users, star_world.movies) for n, name in enumerate(names)}
    biases = baselines.fit_biases(
        np.array([number[row[0]] for row in fit]), np.array([number[row[1]] for row in fit]),
        np.array([row[2] for row in fit]), NUM_STAR_USERS, NUM_STAR_MOVIES,
    )  # fmt: skip
    asked = [np.array([number[id_.decode()] for id_ in parsed[name].numpy()]) for name in ("user_id", "movie_id")]

    def rmse(predicted):
        return np.sqrt(np.mean((predicted - truth) ** 2))

    assert rmse(biases.predict(*asked)) > 1.5
    assert rmse(stars[:, 0]) < 0.7


def test_an_unknown_user_is_scored_from_the_history(served):
    movies = [["m14", "m15", "m16", "m17"]] * 3
    even, odd, nobody = rank_for_history(served, ["stranger"] * 3, [taste_of(0), taste_of(1), []], movies)
    assert even[[0, 2]].min() > 3.3 and even[[1, 3]].max() < 2.7
    assert odd[[0, 2]].max() < 2.7 and odd[[1, 3]].min() > 3.3
    # Of whom nothing is known, only what all users make of a movie can be said.
    assert nobody.min() > 2.0 and nobody.max() < 4.0


def test_a_movie_nobody_rated_lives_from_its_facts(served):
    even, odd = rank_for_history(served, ["stranger"] * 2, [taste_of(0), taste_of(1)], [list(COLD)] * 2)
    assert even[0] > even[1] + 1.0
    assert odd[1] > odd[0] + 1.0


def test_the_newest_rows_count_and_no_others(served):
    old, new = taste_of(1) * 3, taste_of(0, 10) * 5
    movies = [["m14", "m15"]]
    of_all = rank_for_history(served, ["stranger"], [old + new], movies)
    np.testing.assert_allclose(of_all, rank_for_history(served, ["stranger"], [new], movies), atol=1e-5)
    assert np.abs(of_all - rank_for_history(served, ["stranger"], [old], movies)).min() > 1.0


def test_whatever_is_unknown_gets_stars_in_range(served):
    odd_things = ["", "no such movie", "m3", *COLD]
    users = ["u1", "stranger", "", "stranger"]
    histories = [[], [("no such movie", 3.0, 5)], [("m18", 4.0, 9)], [("m1", 1e30, 2**62), ("m2", -1e30, -5)]]
    stars = rank_for_history(served, users, histories, [odd_things] * 4)
    assert stars.shape == (4, 5)
    assert np.isfinite(stars).all() and stars.min() >= 1.0 and stars.max() <= 5.0
    stored = rank(served, users, [odd_things] * 4)
    assert np.isfinite(stored).all() and stored.min() >= 1.0 and stored.max() <= 5.0
    assert rank_for_history(served, ["u1"], [[]], np.zeros((1, 0), str)).shape == (1, 0)
    empty = served.signatures[c.RANK](user_id=tf.constant([], tf.string), movie_id=tf.zeros([0, 2], tf.string))
    assert empty[c.STARS].shape == (0, 2)


def test_stars_are_clipped_to_the_range(star_artifacts, served):
    """The same world told that stars go from 2 to 3: what lies beyond is cut, and something does."""
    stars = rank_for_history(served, ["stranger"] * 2, [taste_of(0), taste_of(1)], [["m14", "m15"]] * 2)
    assert stars.min() < 2.0 and stars.max() > 3.0
    config = {**DEEP_CONFIG, "rating_range": [2.0, 3.0]}
    data = ranking_data.load(star_artifacts.fn_args("", config))
    scores = np.array([[-7.0, 2.5, 40.0]], np.float32)
    narrow = ranking.ranking_signatures.RankingModel(lambda query, position: tf.constant(scores), data, False)
    np.testing.assert_array_equal(narrow.rank(["u1"], [["m1", "m2", "m3"]])[c.STARS], [[2.0, 2.5, 3.0]])


def test_stored_and_explicit_state_give_the_same_stars(served, star_world):
    users = ["u0", "u1", "u2", "u17"]
    movies = [[f"m{m}" for m in range(NUM_STAR_MOVIES)]] * 4
    explicit = rank_for_history(served, users, [past_of(star_world, user) for user in users], movies)
    np.testing.assert_allclose(rank(served, users, movies), explicit, atol=1e-5)
    without_past = rank_for_history(served, users, [[]] * 4, movies)
    assert np.abs(without_past - explicit).max() > 0.05


def test_serving_default_knows_what_the_example_says_and_nothing_stored(served, star_world):
    def example(**values):
        return toy_world.example({"user_id": "u1", "movie_id": "m4", **values}, f.RATING_EXAMPLE).SerializeToString()

    def stars(*examples):
        return served.signatures[c.SERVING_DEFAULT](examples=tf.constant(examples))[c.STARS].numpy()[:, 0]

    past = past_of(star_world, "u1", f.FIT_SPLITS)
    pad = f.HISTORY_LENGTH - len(past)
    history = {
        "history_movie_id": [""] * pad + [row[0] for row in past],
        "history_rating": [0.0] * pad + [row[1] for row in past],
        "history_timestamp": [0] * pad + [row[2] for row in past],
    }
    facts = star_world.users["u1"]
    assert facts
    whole, bare, of_facts = stars(example(**history, **facts), example(), example(**facts))
    explicit, without_past = (rank_for_history(served, ["u1"], [rows], [["m4"]])[0, 0] for rows in (past, []))
    # rank_for_history takes the facts from what is stored of u1: they are the example's.
    assert whole == pytest.approx(explicit, abs=1e-5)
    assert of_facts == pytest.approx(without_past, abs=1e-5)
    assert bare != pytest.approx(of_facts, abs=1e-6)


def test_without_a_snapshot_nothing_of_a_user_is_stored(star_artifacts):
    data = ranking_data.load(star_artifacts.fn_args("", DEEP_CONFIG))
    forgetful, remembering = (ranking.ranking_signatures.RankingModel(_echo, data, kept) for kept in (False, True))
    assert forgetful.rank(["u1"], [["m4"]])[c.STARS].numpy() == pytest.approx(1.0)
    assert remembering.rank(["u1"], [["m4"]])[c.STARS].numpy() == pytest.approx(5.0)
    stored = [value for value in forgetful.variables if value.shape[0] >= NUM_STAR_USERS]
    assert not stored and any(value.shape[0] >= NUM_STAR_USERS for value in remembering.variables)


def _echo(query, position):
    """1 for a user of whom nothing is known, else more."""
    known = tf.reduce_sum(tf.cast(query[f.HISTORY_MOVIE_INDEX.name] != f.PADDING_INDEX, tf.float32), axis=1)
    facts = tf.cast(query[f.USER_AGE_INDEX.name] - f.OOV_INDEX, tf.float32)
    return 1.0 + (known + facts)[:, None] + 0.0 * tf.cast(position, tf.float32)


def test_limits_are_said(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"movie_id has at most {c.MAX_RANK} columns"):
        rank(served, ["u1"], [["m1"] * (c.MAX_RANK + 1)])
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {c.MAX_BATCH} requests"):
        rank(served, ["u1"] * (c.MAX_BATCH + 1), [["m1"]] * (c.MAX_BATCH + 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="movie_id needs as many rows"):
        rank(served, ["u1", "u2"], [["m1"]])


def test_popular_is_the_most_rated(served, star_world):
    counts = dict.fromkeys(star_world.movies, 0)
    for user in star_world.users:
        for movie, *_ in past_of(star_world, user, f.FIT_SPLITS):
            counts[movie] += 1
    best = sorted(counts, key=lambda movie: -counts[movie])[:3]  # stable: ties in catalog order
    answer = served.signatures[c.POPULAR](k=tf.constant([3]))
    assert [movie.decode() for movie in answer[c.MOVIE_ID].numpy()[0]] == best
    np.testing.assert_array_equal(answer[c.SCORE].numpy()[0], [counts[movie] for movie in best])


FRESH = """
    import json, sys
    import tensorflow as tf
    path, question = sys.argv[1], json.loads(sys.argv[2])
    dtypes = {"user_id": tf.string, "movie_id": tf.string, "history_movie_id": tf.string}
    dtypes |= {"history_rating": tf.float32, "history_timestamp": tf.int64, "query_timestamp": tf.int64}
    signature = tf.saved_model.load(path).signatures["rank_for_history"]
    inputs = {name: tf.constant(value, dtypes[name]) for name, value in question.items()}
    answers = {"tf2": signature(**inputs)["stars"].numpy().tolist()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], path)
        definition = loaded.signature_def["rank_for_history"]
        feed = {definition.inputs[name].name: value for name, value in question.items()}
        answers["tf1"] = session.run(definition.outputs["stars"].name, feed).tolist()
    foreign = ("trainer_modules", "tensorflow_transform", "tensorflow_recommenders", "tfx_bsl", "tensorflow_text")
    assert not set(foreign) & set(sys.modules)
    print(json.dumps(answers))
"""


def test_a_fresh_process_without_our_classes_says_the_same(served, deep_path, tmp_path):
    asked = request(["u1", "stranger"], [taste_of(0), taste_of(1)], [["m1", "m2", "", *COLD]] * 2)
    here = served.signatures[c.RANK_FOR_HISTORY](**asked)[c.STARS].numpy()
    question = {name: value.numpy().astype(str if value.dtype == tf.string else value.numpy().dtype).tolist()
                for name, value in asked.items()}  # fmt: skip
    script = tmp_path / "fresh.py"
    script.write_text(textwrap.dedent(FRESH))
    done = subprocess.run(
        [sys.executable, str(script), deep_path, json.dumps(question)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(answers["tf2"], here, atol=1e-5)
    np.testing.assert_allclose(answers["tf1"], here, atol=1e-5)
