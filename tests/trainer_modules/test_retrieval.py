"""The retrieval SavedModel: trained on the checkerboard, loaded again, asked as a server would ask it."""

import re

import numpy as np
import pytest
import toy_world
from conftest import NEVER_RATED, ONLY_IN_TEST, RETRIEVAL_CONFIG
from retrieval_requests import known, movies, request

from trainer_modules import contract as c
from trainer_modules import features as f
from trainer_modules import top_k

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


@pytest.fixture(scope="module")
def model(retrieval_path):
    return tf.saved_model.load(retrieval_path)


@pytest.fixture(scope="module")
def states(checkerboard):
    return toy_world.leave_last_out(checkerboard)


def test_every_user_is_shown_the_one_movie_that_is_left(model, states):
    users = [user for user in states if user[0] == "u"]
    answer = model.recommend_for_history(**request(users, [known(states, user) for user in users]))
    assert [row[0] for row in movies(answer)] == [states[user][-1][0] for user in users]


def test_titles_and_scores_belong_to_the_movies(model, checkerboard, states):
    answer = model.recommend_for_history(**request(["u0"], [known(states, "u0")], k=18))
    movie_id, title, score = (answer[name].numpy()[0] for name in (c.MOVIE_ID, c.MOVIE_TITLE, c.SCORE))
    titles = {movie: title for movie, (title, _) in checkerboard.movies.items()} | {"": ""}
    assert [text.decode() for text in title] == [titles[movie.decode()] for movie in movie_id]
    assert np.isneginf(score).tolist() == (movie_id == b"").tolist()
    found = movies(answer)[0]
    assert len(found) == len(set(found)) == 18 - 7
    assert set(found) == set(checkerboard.movies) - {row[0] for row in known(states, "u0")}
    assert (np.diff(answer[c.SCORE].numpy()[0, : len(found)]) <= 0).all()


def test_signatures_are_the_contracts(model):
    assert set(model.signatures) == set(c.RETRIEVAL_SIGNATURES)
    listed = {
        name: (sorted(function.structured_input_signature[1]), sorted(function.structured_outputs))
        for name, function in model.signatures.items()
    }
    state = [c.USER_ID, c.HISTORY_MOVIE_ID, c.HISTORY_RATING, c.HISTORY_TIMESTAMP, c.QUERY_TIMESTAMP]
    answer = sorted([c.MOVIE_ID, c.MOVIE_TITLE, c.SCORE])
    assert listed == {
        c.SERVING_DEFAULT: ([c.EXAMPLES], answer),
        c.RECOMMEND: (sorted([c.USER_ID, c.EXCLUDE_MOVIE_ID, c.K]), answer),
        c.RECOMMEND_FILTERED: (
            sorted([c.USER_ID, c.GENRE, c.MIN_YEAR, c.MAX_YEAR, c.EXCLUDE_MOVIE_ID, c.K]), answer,
        ),
        c.RECOMMEND_FOR_HISTORY: (sorted([*state, c.SEEN_MOVIE_ID, c.EXCLUDE_MOVIE_ID, c.K]), answer),
        c.RECOMMEND_FILTERED_FOR_HISTORY: (
            sorted([*state, c.SEEN_MOVIE_ID, c.GENRE, c.MIN_YEAR, c.MAX_YEAR, c.EXCLUDE_MOVIE_ID, c.K]), answer,
        ),
        c.SIMILAR: (sorted([c.MOVIE_ID, c.K]), answer),
        c.POPULAR: ([c.K], answer),
        c.EVALUATE: (sorted([*state, c.SEEN_MOVIE_ID, c.EXCLUDE_MOVIE_ID, c.POSITIVE_MOVIE_ID]), [c.RANK_OUT]),
        c.EMBED_QUERY: (sorted(state), [c.EMBEDDING]),
        c.EMBED_CANDIDATE: ([c.MOVIE_ID], [c.EMBEDDING]),
    }


def test_an_unknown_users_list_follows_the_history_given(model, states):
    even, odd = known(states, "u0"), known(states, "u1")
    answer = model.recommend_for_history(**request(["stranger"] * 3, [even, odd, []], k=6))
    lists = movies(answer)
    assert lists[0][0] == states["u0"][-1][0]
    assert lists[1][0] == states["u1"][-1][0]
    assert len(lists[2]) == 6
    assert len({tuple(row) for row in lists}) == 3
    assert np.isfinite(answer[c.SCORE].numpy()).all()


def test_unknown_user_in_the_snapshot_is_one_without_history(model):
    stored = model.recommend(["stranger", "nobody"], [[], []], [6, 6])
    explicit = model.recommend_for_history(**request(["stranger", "nobody"], [[], []], k=6))
    assert movies(stored) == movies(explicit)


def test_recommend_reads_the_snapshot_of_everything_known(model, states):
    """The test rows too: nobody wants to be shown what they rated last."""
    users = ["u0", "u1", "late"]
    stored = model.recommend(users, [[], [], []], [18] * 3)
    explicit = model.recommend_for_history(**request(users, [states[user] for user in users], k=18))
    assert movies(stored) == movies(explicit)
    np.testing.assert_allclose(stored[c.SCORE], explicit[c.SCORE], rtol=1e-5)
    assert states["u0"][-1][0] not in movies(stored)[0]
    assert ONLY_IN_TEST not in movies(stored)[2]


@pytest.mark.parametrize(
    ("genres", "min_year", "max_year", "passes"),
    [
        ([], 0, 0, lambda genres, year: True),
        (["odd"], 0, 0, lambda genres, year: "odd" in genres),
        (["", "odd", "even"], 0, 0, lambda genres, year: genres),
        (["western"], 0, 0, lambda genres, year: False),
        ([], 1993, 1994, lambda genres, year: year in (1993, 1994)),
        ([], 1998, 0, lambda genres, year: year >= 1998),
        ([], 0, 1994, lambda genres, year: year <= 1994),
        (["even"], 1994, 1999, lambda genres, year: "even" in genres and 1994 <= year <= 1999),
        ([], 1999, 1993, lambda genres, year: False),
    ],
)
def test_filtered_is_recommended_less_what_does_not_pass(model, checkerboard, genres, min_year, max_year, passes):
    everything = movies(model.recommend(["u1"], [["m4"]], [1000]))[0]
    year = {movie: int(re.search(r"\((\d{4})", title)[1]) for movie, (title, _) in checkerboard.movies.items()}
    expected = [movie for movie in everything if passes(checkerboard.movies[movie][1], year[movie])]
    answer = model.recommend_filtered(
        ["u1"], np.array([genres], object).reshape(1, -1).astype(str), [min_year], [max_year], [["m4"]], [1000]
    )
    assert movies(answer)[0] == expected


def test_a_history_that_is_sent_along_is_filtered_as_the_stored_one(model, states):
    users = ["u0", "u1", "late"]
    filters = {
        c.GENRE: [["odd", ""], ["even", "odd"], ["", ""]], c.MIN_YEAR: [0, 1993, 0], c.MAX_YEAR: [0, 0, 1996],
    }
    sent = request(users, [states[user] for user in users], k=18)
    explicit = model.recommend_filtered_for_history(**sent, **filters)
    stored = model.recommend_filtered(users, *filters.values(), [[], [], []], [18] * 3)
    assert movies(stored) == movies(explicit)
    assert all(0 < len(found) < len(everything) for found, everything in zip(
        movies(explicit), movies(model.recommend_for_history(**sent)), strict=True))


def test_each_request_of_a_batch_has_its_own_filter(model, checkerboard):
    answer = model.recommend_filtered(
        ["stranger"] * 3, [["odd", ""], ["", ""], ["even", "odd"]], [0, 0, 1994], [0, 1991, 0], [[]] * 3, [20, 20, 2]
    )
    odd, early, late = movies(answer)
    assert sorted(odd) == sorted(movie for movie, (_, genres) in checkerboard.movies.items() if genres == ["odd"])
    assert sorted(early) == ["m0", "m1"]
    assert len(late) == 2


def test_mixed_k_k_beyond_the_catalog_and_exclusions(model, states):
    users, rows = ["u0", "u1", "stranger"], [known(states, "u0"), known(states, "u1"), []]
    full = movies(model.recommend_for_history(**request(users, rows, k=1000)))
    assert [len(row) for row in full] == [11, 11, 18]
    mixed = model.recommend_for_history(**request(users, rows, k=[1, 1000, 3]))
    assert mixed[c.MOVIE_ID].shape == [3, 1000]
    assert movies(mixed) == [full[0][:1], full[1], full[2][:3]]
    assert np.isneginf(mixed[c.SCORE].numpy()[0, 1:]).all()
    without = model.recommend_for_history(**request(users, rows, k=4, exclude=(full[0][0], "", "no such movie")))
    assert movies(without)[0] == full[0][1:5]


def test_seen_is_what_is_masked_history_is_what_is_read(model, states):
    rows = known(states, "u0")
    unmasked = movies(model.recommend_for_history(**request(["u0"], [rows], seen=[[("",)]], k=18)))[0]
    assert {row[0] for row in rows} <= set(unmasked)
    masked = movies(model.recommend_for_history(**request(["u0"], [rows], k=18)))[0]
    assert [movie for movie in unmasked if movie in masked] == masked


def test_movies_nobody_knows_do_not_disturb_a_history(model, states):
    rows = known(states, "u0")
    strange = [("nope", 3.0, rows[-1][2] + 10**6, 0, "train")]
    with_them = model.recommend_for_history(**request(["u0"], [rows[:3] + strange + rows[3:] + strange]))
    without = model.recommend_for_history(**request(["u0"], [rows]))
    assert movies(with_them) == movies(without)
    np.testing.assert_allclose(with_them[c.SCORE], without[c.SCORE], rtol=1e-6)


def test_the_towers_read_only_the_newest_rows_of_a_long_history(model, states):
    """The linear part of the score reads them all: test_linear_part."""
    odd, even = known(states, "u1"), known(states, "u0")
    long = [(movie, stars, 1000 + n, 0, "train") for n, (movie, stars, *_) in enumerate(odd * 30)]
    tail = [(*row[:2], 10**6 + n, 0, "train") for n, row in enumerate(even * 8)][-f.HISTORY_LENGTH :]
    whole = model.embed_query(*list(request(["x"], [long + tail]).values())[:5])[c.EMBEDDING]
    end = model.embed_query(*list(request(["x"], [tail]).values())[:5])[c.EMBEDDING]
    size = RETRIEVAL_CONFIG["hyperparameters"]["embedding_dimension"]
    np.testing.assert_allclose(whole[:, :size], end[:, :size], rtol=1e-5)


def test_a_movie_nobody_rated_is_found_by_its_facts(model, states):
    """An even movie without a row: even users get it before every odd one."""
    users = ["u0", "u4", "u8"]
    for row in movies(model.recommend_for_history(**request(users, [states[u] for u in users], k=18))):
        odd = [place for place, movie in enumerate(row) if int(movie[1:]) % 2 and movie != NEVER_RATED]
        assert row.index(NEVER_RATED) < min(odd)


def test_serving_default_reads_the_examples_history_or_else_the_snapshot(model, states):
    rows = known(states, "u1")
    pad = f.HISTORY_LENGTH - len(rows)
    with_history = toy_world.example(
        {
            "user_id": "u0",
            "history_movie_id": [""] * pad + [row[0] for row in rows],
            "history_rating": [0.0] * pad + [row[1] for row in rows],
            "history_timestamp": [0] * pad + [row[2] for row in rows],
        },
        (f.USER_ID, *f.HISTORY),
    )
    user_alone = toy_world.example({"user_id": "u2"}, (f.USER_ID,))
    examples = [row.SerializeToString() for row in (with_history, user_alone)]
    answer = model.serving_default(examples)
    assert answer[c.MOVIE_ID].shape == [2, c.DEFAULT_K]
    explicit = model.recommend_for_history(**request(["u0"], [rows], k=c.DEFAULT_K))
    assert movies(answer)[0] == movies(explicit)[0]
    assert movies(answer)[1] == movies(model.recommend(["u2"], [[]], [c.DEFAULT_K]))[0]


def test_similar_is_the_same_colour_and_never_the_movie_itself(model):
    answer = model.similar(["m0", "m3", "nope"], [3, 3, 3])
    lists = movies(answer)
    for movie, row in zip((0, 3), lists, strict=False):
        assert f"m{movie}" not in row
        assert all(int(other[1:]) % 2 == movie % 2 or other == NEVER_RATED for other in row)
    assert lists[2] == []
    assert np.abs(answer[c.SCORE].numpy()[:2]).max() <= 1.0 + 1e-6


def test_popular_counts_fit_rows(model, states):
    counts = {}
    for user in states:
        for row in known(states, user):
            counts[row[0]] = counts.get(row[0], 0) + 1
    answer = model.popular([20])
    found = movies(answer)[0]
    assert answer[c.SCORE].numpy()[0, : len(found)].tolist() == [counts[movie] for movie in found]
    assert sorted(found) == sorted(counts)
    assert answer[c.SCORE].numpy()[0, 0] == max(counts.values())


def test_evaluate_gives_the_place_in_the_full_list(model, states):
    inputs_ = request(["u0", "u1"], [known(states, "u0"), known(states, "u1")], k=1000, exclude=("m2",))
    full = movies(model.recommend_for_history(**inputs_))
    del inputs_[c.K]
    seen = states["u0"][0][0]
    asked = [[full[0][0], full[0][6], seen, "", "nope", "m2"], [full[1][3], "", "", "", "", "m2"]]
    ranks = model.evaluate(**inputs_, positive_movie_id=np.array(asked))[c.RANK_OUT]
    assert ranks.dtype == tf.int32
    assert ranks.numpy().tolist() == [[1, 7, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0]]


def test_scores_are_the_products_of_the_embeddings(model, checkerboard, states):
    """NumPy = the graph: embeddings multiplied, masked and sorted outside give the same list."""
    users, rows = ["u0", "u1", "stranger"], [known(states, "u0"), known(states, "u1"), []]
    asked = request(users, rows, k=[4, 20, 9])
    candidates = model.embed_candidate(list(checkerboard.movies))[c.EMBEDDING].numpy()
    queries = model.embed_query(*list(asked.values())[:5])[c.EMBEDDING].numpy()
    index = {movie: n for n, movie in enumerate(checkerboard.movies)}
    seen = np.array([[index.get(movie, -1) for movie in row] for row in asked[c.SEEN_MOVIE_ID]])
    best = top_k.top_k_numpy(top_k.mask_numpy(queries @ candidates.T, seen), np.array(asked[c.K]))
    answer = model.recommend_for_history(**asked)
    names = [*checkerboard.movies, ""]
    assert [[names[n] for n in row if n >= 0] for row in best.position] == movies(answer)
    np.testing.assert_allclose(best.score, answer[c.SCORE], rtol=1e-4)
    assert (model.embed_candidate(["nope"])[c.EMBEDDING].numpy() == 0).all()
