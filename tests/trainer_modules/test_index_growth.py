"""More movies in a served model without a training, and an approximate index in it."""

import dataclasses

import numpy as np
import pytest
import toy_world
from conftest import NEVER_RATED
from retrieval_requests import ask_in_a_fresh_process, request

from trainer_modules import contract as c
from trainer_modules import hyperparameters, index_growth, retrieval_data, retrieval_model

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

NEW = {"new1": ("Movie even 500 (1994)", ["even"]), "new2": ("Never heard (2031)", ["Unheard-of"])}


@pytest.fixture(scope="module")
def trained(retrieval_path):
    return tf.saved_model.load(retrieval_path)


@pytest.fixture(scope="module")
def grown_data(checkerboard, artifacts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grown")
    world = dataclasses.replace(checkerboard, movies={**checkerboard.movies, **NEW})
    toy_world.write_examples(toy_world.catalog_examples(world), folder)
    return retrieval_data.load(dataclasses.replace(artifacts, catalog_uri=str(folder)).fn_args("unused", {}))


@pytest.fixture(scope="module", params=["exact", "inverted_file"])
def grown(request, trained, grown_data, tmp_path_factory):
    towers = index_growth.grown(trained, grown_data.catalog, grown_data.catalog.num_movies - len(NEW))
    # All cells are looked into, so that answers are those of the exact index; how well fewer do is tested elsewhere.
    index = hyperparameters.Index(request.param, 4, 4) if request.param == "inverted_file" else None
    path = str(tmp_path_factory.mktemp("grown") / "model")
    retrieval_model.export(grown_data, towers, path, user_snapshot=True, index=index)
    grown = tf.saved_model.load(path)
    grown.path = path
    return grown


def ids(answer):
    return [[movie.decode() for movie in row if movie] for row in answer[c.MOVIE_ID].numpy()]


def test_a_new_movie_has_the_vector_that_its_facts_have_given_one_nobody_rated(trained, grown_data):
    catalog = grown_data.catalog
    place = catalog.movie_id.tolist().index(NEVER_RATED.encode())
    words = tf.RaggedTensor.from_row_splits(catalog.word_index, catalog.word_row_splits)
    one = slice(place, place + 1)
    vector = trained.parts.new_candidates(catalog.genres[one], catalog.year_index[one], words[one])
    expected = index_growth.candidate_vectors(trained, catalog.movie_id[one])
    np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=1e-6)


def test_who_was_known_keeps_vector_and_order(trained, grown, checkerboard):
    known = np.array(list(checkerboard.movies), "S")
    before, after = (index_growth.candidate_vectors(model, known) for model in (trained, grown))
    np.testing.assert_allclose(after, before, rtol=1e-6)
    users = ["u0", "u1", "late", "stranger"]
    lists = [ids(model.recommend(users, [[]] * 4, [1000] * 4)) for model in (trained, grown)]
    assert [[movie for movie in row if movie not in NEW] for row in lists[1]] == lists[0]


def test_a_new_movie_is_recommended_named_filtered_and_excluded(grown):
    for user, place in (("u0", "before"), ("u1", "behind")):  # u0 likes what is even
        [row] = ids(grown.recommend([user], [[]], [1000]))
        assert (row.index("new1") < row.index("new2")) is (place == "before")
    answer = grown.recommend_filtered(["u1"], [["Unheard-of"]], [2030], [0], [[]], [5])
    assert ids(answer) == [["new2"]] and answer[c.MOVIE_TITLE].numpy()[0, 0] == b"Never heard (2031)"
    assert "new1" not in ids(grown.recommend(["u0"], [["new1"]], [1000]))[0]
    history = {c.HISTORY_MOVIE_ID: [["m0", "new1"]], c.HISTORY_RATING: [[5.0, 5.0]], c.HISTORY_TIMESTAMP: [[1, 2]]}
    told = {"user_id": ["stranger"], **history, c.QUERY_TIMESTAMP: [3], c.EXCLUDE_MOVIE_ID: [["m2"]], c.K: [1000]}
    [row] = ids(grown.recommend_for_history(**told, seen_movie_id=[["m0", "new1"]]))
    assert not {"m0", "new1", "m2"} & set(row) and "new2" in row
    assert ids(grown.similar(["new1"], [3]))[0] and "new1" not in ids(grown.popular([1000]))[0]


def test_any_server_can_load_it(grown):
    history = [("m0", 5.0, 10), ("new1", 4.0, 20)]
    asked = request(["u0", "stranger"], [history, []], k=[3, 30])
    told = ask_in_a_fresh_process(grown.path, asked)
    assert told["ours"] == []
    here = grown.recommend_for_history(**asked)
    for loader in ("eager", "session"):
        assert told[loader][0] == here[c.MOVIE_ID].numpy().astype(str).tolist()


def test_a_family_without_vectors_for_new_movies_says_so(trained, grown_data):
    with pytest.raises(ValueError, match="knows no movie that it was not fitted on"):
        index_growth.grown(tf.Module(), grown_data.catalog, 1)
    with pytest.raises(AssertionError, match="cannot grow"):
        index_growth.parts(index_growth.grown(trained, grown_data.catalog, grown_data.catalog.num_movies - len(NEW)))


@pytest.mark.parametrize("index", [{"kind": "scann"}, {"kind": "inverted_file", "cells": -1}])
def test_an_index_that_is_none_is_named(index):
    with pytest.raises(ValueError, match="the kinds are exact and inverted_file"):
        hyperparameters.parse(hyperparameters.Index, index)
