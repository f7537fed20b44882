"""What every retrieval family must do, trained on the checkerboard, saved and loaded again.

    class TestMine(RetrievalFamilySuite):
        family = "mine"
        hyperparameters = {"num_epochs": 3}
"""

import pathlib

import numpy as np
import pytest
import toy_world
from conftest import RETRIEVAL_CONFIG

from trainer_modules import contract as c
from trainer_modules import fit_pairs, retrieval, retrieval_data

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

KNOWN_SPLITS = ("train", "eval")


def movies(answer):
    return [[movie.decode() for movie in row if movie] for row in answer[c.MOVIE_ID].numpy()]


class RetrievalFamilySuite:
    family: str
    hyperparameters: dict
    continues = False
    """Whether a warm start can begin with it."""

    def world(self, checkerboard):
        """What the family is trained on, of these users and movies; one that learns from stars alone brings its own."""
        return checkerboard

    def answers(self, states):
        """user -> the movie that must come first, of all that the user's fit rows lack."""
        return {user: rows[-1][0] for user, rows in states.items() if user[0] == "u"}

    @pytest.fixture(scope="class")
    def family_world(self, checkerboard):
        return self.world(checkerboard)

    @pytest.fixture(scope="class")
    def family_artifacts(self, family_world, checkerboard, artifacts, tmp_path_factory):
        if family_world is checkerboard:
            return artifacts
        folder = tmp_path_factory.mktemp(self.family)
        return toy_world.write_artifacts(family_world, folder, artifacts.transform_graph)

    @pytest.fixture(scope="class")
    def states(self, family_world):
        return toy_world.leave_last_out(family_world)

    @pytest.fixture(scope="class")
    def model_path(self, family_artifacts, tmp_path_factory):
        path = tmp_path_factory.mktemp(self.family) / "model"
        config = {**RETRIEVAL_CONFIG, "family": self.family, "hyperparameters": self.hyperparameters}
        retrieval.run_fn(family_artifacts.fn_args(path, config))
        return str(path)

    @pytest.fixture(scope="class")
    def model(self, model_path):
        return tf.saved_model.load(model_path)

    @pytest.fixture(scope="class")
    def ask(self, model, states):
        """recommend_for_history of some users: with the fit rows, or as strangers with them, or without any."""

        def ask(users, k, stranger=False, rows=None, exclude=()):
            known = [[row for row in states[user] if row[4] in KNOWN_SPLITS] for user in users]
            rows = known if rows is None else rows
            width = max(map(len, rows), default=0)

            def column(n, pad, dtype):
                values = [[row[n] for row in user] + [pad] * (width - len(user)) for user in rows]
                return np.array(values, dtype).reshape(len(users), width)

            movie_id = column(0, "", object).astype(str)
            return model.recommend_for_history(
                user_id=["stranger"] * len(users) if stranger else users,
                history_movie_id=movie_id,
                history_rating=column(1, 0.0, np.float32),
                history_timestamp=column(2, 0, np.int64),
                query_timestamp=[0] * len(users),
                seen_movie_id=movie_id,
                exclude_movie_id=np.array([list(exclude)] * len(users), object).reshape(len(users), -1).astype(str),
                k=[k] * len(users) if isinstance(k, int) else k,
            )

        return ask

    def test_the_known_answer_comes_first(self, ask, states):
        expected = self.answers(states)
        assert [row[0] for row in movies(ask(list(expected), 5))] == list(expected.values())

    def test_a_stranger_with_a_history_is_answered_from_it(self, ask, states):
        expected = self.answers(states)
        assert [row[0] for row in movies(ask(list(expected), 5, stranger=True))] == list(expected.values())

    def test_a_stranger_without_history_is_answered(self, ask, family_world):
        found = ask(["u0", "u1"], 1000, stranger=True, rows=[[], []])
        lists = movies(found)
        assert sorted(lists[0]) == sorted(family_world.movies)
        assert lists[0] == lists[1]
        assert np.isfinite(found[c.SCORE].numpy()[:, : len(lists[0])]).all()

    def test_k_beyond_the_catalog_mixed_k_and_exclusions(self, ask, states, family_world):
        users = ["u0", "u1", "u2"]
        full = movies(ask(users, 1000))
        for user, row in zip(users, full, strict=True):
            seen = {movie for movie, *_, split in states[user] if split in KNOWN_SPLITS}
            assert sorted(row) == sorted(set(family_world.movies) - seen)
        mixed = ask(users, [1, 1000, 3])
        assert movies(mixed) == [full[0][:1], full[1], full[2][:3]]
        assert np.isneginf(mixed[c.SCORE].numpy()[0, 1:]).all()
        without = movies(ask(users, 4, exclude=(full[0][0], "", "no such movie")))
        assert without[0] == full[0][1:5]

    def test_a_user_without_rows_is_answered_from_none(self, ask, family_world):
        """Known by name, with an empty history: everything is there to be shown."""
        found = ask(["u0"], 1000, rows=[[]])
        assert sorted(movies(found)[0]) == sorted(family_world.movies)
        assert np.isfinite(found[c.SCORE].numpy()[0, : len(family_world.movies)]).all()

    def test_filters_leave_the_order_of_what_passes(self, ask, model, states):
        user = "u0"
        rows = [row for row in states[user] if row[4] in KNOWN_SPLITS]
        columns = ([row[n] for row in rows] for n in range(3))
        seen, stars, time = ([column] for column in columns)
        full = movies(ask([user], 1000))[0]

        def filtered(genre, min_year, max_year, k=1000, exclude=()):
            return movies(model.recommend_filtered_for_history(
                user_id=[user], history_movie_id=seen, history_rating=np.array(stars, np.float32),
                history_timestamp=np.array(time, np.int64), query_timestamp=[0], seen_movie_id=seen,
                genre=[genre], min_year=[min_year], max_year=[max_year],
                exclude_movie_id=np.array([list(exclude)], object).reshape(1, -1).astype(str), k=[k],
            ))[0]  # fmt: skip

        odd = [movie for movie in full if movie in {f"m{n}" for n in range(1, 16, 2)}]
        assert odd and filtered(["odd"], 0, 0) == odd
        assert filtered(["odd"], 0, 0, k=2, exclude=odd[:1]) == odd[1:3]
        assert filtered([""], 1993, 1995) == [movie for movie in full if movie in ("m3", "m4", "m5", "m97")]
        assert filtered(["no such genre"], 0, 0) == []

    def test_scores_fall_and_are_products_of_the_embeddings(self, ask, model, states, family_world):
        rows = [[row for row in states["u3"] if row[4] in KNOWN_SPLITS]]
        query = model.embed_query(
            ["u3"], [[row[0] for row in rows[0]]], np.array([[row[1] for row in rows[0]]], np.float32),
            [[row[2] for row in rows[0]]], [0],
        )[c.EMBEDDING].numpy()  # fmt: skip
        answer = ask(["u3"], 100)
        found = movies(answer)[0]
        candidates = model.embed_candidate(found)[c.EMBEDDING].numpy()
        score = answer[c.SCORE].numpy()[0, : len(found)]
        np.testing.assert_allclose(score, candidates @ query[0], rtol=1e-3, atol=1e-5)
        assert (np.diff(score) <= 0).all()

    def test_signatures_are_the_contracts(self, model):
        assert set(model.signatures) == set(c.RETRIEVAL_SIGNATURES)
        stored = movies(model.recommend(["u0", "nobody there"], [[], []], [3, 3]))
        assert all(len(row) == 3 for row in stored)
        assert len(movies(model.similar(["m0"], [3]))[0]) == 3

    def test_the_same_seed_gives_the_same_vectors(self, family_artifacts, model, family_world):
        data = retrieval_data.load(family_artifacts.fn_args("unused", {}))
        again = retrieval.FAMILIES[self.family](data, self.hyperparameters, RETRIEVAL_CONFIG["seed"])
        vectors = model.embed_candidate(list(family_world.movies))[c.EMBEDDING].numpy()
        np.testing.assert_allclose(again.candidate_vectors, vectors, rtol=1e-4, atol=1e-5)

    def test_an_unknown_hyperparameter_is_named(self):
        with pytest.raises(ValueError, match="no hyperparameter learning_rat"):
            retrieval.FAMILIES[self.family](None, {"learning_rat": 1.0}, 1)

    def test_it_tells_which_rows_it_was_fitted_on(self, model_path, states):
        """A model that cannot tell is shown beside its successor, and no gate."""
        fitted = [
            f"{user}\t{row[0]}".encode() for user, rows in states.items() for row in rows if row[4] in KNOWN_SPLITS
        ]
        model_uri = pathlib.Path(model_path).parent
        assert fit_pairs.read(str(model_uri)).tolist() == sorted(fit_pairs.hashes(np.array(fitted)).tolist())
        assert (model_uri / "Warm-start").is_dir() is self.continues


def with_the_other_colour_disliked(checkerboard):
    """Each user rates the movies of the own colour 5 stars, and before that three of the other colour with 1."""
    ratings = []
    for number, (user, movie, _, time) in enumerate(checkerboard.ratings):
        if user[0] != "u":
            continue
        own, row = int(user[1:]), number % 8
        if row < 3:
            other = 2 * ((own * 5 + row * 3) % 8) + (own + 1) % 2
            ratings.append((user, f"m{other}", 1.0, time - 86_400))
        ratings.append((user, movie, 5.0, time))
    return toy_world.World(ratings, checkerboard.movies, checkerboard.users)
