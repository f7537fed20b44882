"""What every ranking family must do, trained on the checkerboard of stars, saved and loaded again.

    class TestMine(RankingFamilySuite):
        family = "mine"
        hyperparameters = {"num_epochs": 3}
"""

import csv
import pathlib

import numpy as np
import pytest
from ranking_questions import past_of, rank, rank_for_history, taste_of
from toy_world import COLD, NUM_STAR_MOVIES

from trainer_modules import contract as c
from trainer_modules import features as f
from trainer_modules import fit_pairs, ranking, ranking_data

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

SEED = 7
EVERY_MOVIE = [f"m{n}" for n in range(NUM_STAR_MOVIES)]


class RankingFamilySuite:
    family: str
    hyperparameters: dict
    learns_taste = True
    """Whether it finds who likes which colour; biases cannot."""
    continues = False
    """Whether a warm start can begin with it."""

    @pytest.fixture(scope="class")
    def config(self):
        return {
            "family": self.family, "hyperparameters": self.hyperparameters, "seed": SEED, "user_snapshot": True,
            "rating_range": [1.0, 5.0],
        }  # fmt: skip

    @pytest.fixture(scope="class")
    def model_path(self, config, star_artifacts, tmp_path_factory):
        path = tmp_path_factory.mktemp(self.family) / "model"
        ranking.run_fn(star_artifacts.fn_args(path, config))
        return str(path)

    @pytest.fixture(scope="class")
    def served(self, model_path):
        return tf.saved_model.load(model_path)

    def test_the_known_answer(self, served, star_world):
        """The movies that the fit rows of a user lack: five stars for the own colour, one for the other."""
        users = [f"u{n}" for n in range(12)]
        stars = rank(served, users, [EVERY_MOVIE[: -len(COLD)]] * len(users))
        right = []
        for user, row in zip(users, stars, strict=True):
            fitted = {movie for movie, *_ in past_of(star_world, user, f.FIT_SPLITS)}
            asked = [n for n in range(len(row)) if f"m{n}" not in fitted]
            likes = np.array([n % 2 == int(user[1:]) % 2 for n in asked])
            right.extend((row[asked] > 3.0) == likes)
        assert np.mean(right) > 0.9 if self.learns_taste else 0.2 < np.mean(right) < 0.8

    def test_a_stranger_is_scored_from_the_history(self, served):
        asked = [["m14", "m15", "m16", "m17"]]
        if self.learns_taste:
            even, odd = rank_for_history(served, ["stranger"] * 2, [taste_of(0), taste_of(1)], asked * 2)
            assert even[[0, 2]].min() > even[[1, 3]].max() + 0.5
            assert odd[[1, 3]].min() > odd[[0, 2]].max() + 0.5
            return
        generous = [(movie, 5.0, 890_000_000) for movie, *_ in taste_of(0)]
        nothing, much = (rank_for_history(served, ["stranger"], [rows], asked) for rows in ([], generous))
        assert (much > nothing + 0.05).all()

    def test_of_whom_nothing_is_known_gets_what_all_users_make_of_a_movie(self, served, star_artifacts):
        """Each movie is liked by every second user: only the differences of means are left."""
        data = ranking_data.load(star_artifacts.fn_args("", {"rating_range": [1.0, 5.0]}))
        mean = data.fit[f.USER_RATING.name].mean()
        first, second, nameless = rank_for_history(served, ["stranger", "someone", ""], [[]] * 3, [EVERY_MOVIE] * 3)
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, nameless)
        assert np.abs(first - mean).max() < 1.2
        unheard_of = rank(served, ["stranger"], [["no such movie", ""]])[0]
        assert unheard_of[0] == unheard_of[1] and abs(unheard_of[0] - mean) < 1.2

    def test_whatever_is_asked_gets_finite_stars_in_range(self, served):
        users = ["u1", "stranger", "", "stranger"]
        odd_stars = [("m1", 1e30, 2**62), ("m2", -1e30, -5), ("m3", float("nan"), 7)]
        histories = [[], [("no such movie", 3.0, 5)], [(COLD[0], 4.0, 9)], odd_stars]
        asked = [["", "no such movie", "m3", *COLD]] * len(users)
        for stars in (rank_for_history(served, users, histories, asked), rank(served, users, asked)):
            assert stars.shape == (4, 5)
            assert np.isfinite(stars).all() and stars.min() >= 1.0 and stars.max() <= 5.0

    def test_stored_and_explicit_state_give_the_same_stars(self, served, star_world):
        users = ["u0", "u1", "u17"]
        explicit = rank_for_history(served, users, [past_of(star_world, user) for user in users], [EVERY_MOVIE] * 3)
        np.testing.assert_allclose(rank(served, users, [EVERY_MOVIE] * 3), explicit, atol=1e-5)

    def test_one_by_one_as_in_a_batch(self, served):
        histories = [taste_of(0), [], taste_of(1, 3)]
        together = rank_for_history(served, ["stranger", "u4", "u5"], histories, [EVERY_MOVIE] * 3)
        alone = [
            rank_for_history(served, [user], [rows], [EVERY_MOVIE])
            for user, rows in zip(["stranger", "u4", "u5"], histories, strict=True)
        ]
        np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)

    def test_the_same_seed_gives_the_same_stars(self, served, star_artifacts, config):
        """Trained again and not saved: the same, so saving and loading changes nothing either."""
        data = ranking_data.load(star_artifacts.fn_args("", config))
        tf.random.set_seed(99)  # what another training in the process may leave behind
        again = ranking.FAMILIES[self.family](data, self.hyperparameters, SEED).scorer
        model = ranking.ranking_signatures.RankingModel(again, data, user_snapshot=True)
        asked = (["u0", "u1", "stranger"], [EVERY_MOVIE] * 3)
        eager = model.rank(tf.constant(asked[0]), tf.constant(asked[1]))[c.STARS].numpy()
        np.testing.assert_allclose(eager, rank(served, *asked), atol=2e-3)

    def test_the_training_is_noted(self, model_path):
        with open(f"{model_path}-run/epochs.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["phase"] for row in rows} == {"tuning", "refit"}
        for row in rows:
            assert 0.0 < float(row["train_rmse"]) < 3.0 and int(row["epoch"]) > 0
            assert (0.0 < float(row["eval_rmse"]) < 3.5) if row["phase"] == "tuning" else row["eval_rmse"] == ""

    def test_it_tells_which_rows_it_was_fitted_on(self, model_path, star_world):
        """A model that cannot tell is shown beside its successor, and no gate."""
        users = {user for user, *_ in star_world.ratings}
        rows = [f"{user}\t{row[0]}".encode() for user in users for row in past_of(star_world, user, f.FIT_SPLITS)]
        model_uri = pathlib.Path(model_path).parent
        assert fit_pairs.read(str(model_uri)).tolist() == sorted(fit_pairs.hashes(np.array(rows)).tolist())
        assert (model_uri / "Warm-start").is_dir() is self.continues

    def test_an_unknown_hyperparameter_is_named(self):
        with pytest.raises(ValueError, match="no hyperparameter learning_rat"):
            ranking.FAMILIES[self.family](None, {"learning_rat": 1.0}, 1)
