"""The ranking family tutorial: what every family must do but for what its model cannot."""

import dataclasses

import numpy as np
import pytest
from ranking_family_suite import EVERY_MOVIE, RankingFamilySuite
from ranking_questions import rank, rank_for_history, taste_of

from trainer_modules import features as f
from trainer_modules import hyperparameters, ranking_data, tutorial_ranking


class TestTutorial(RankingFamilySuite):
    family = "tutorial"
    hyperparameters = {"num_epochs": 12, "batch_size": 20}  # noqa: RUF012

    def test_a_stranger_is_scored_from_the_history(self, served):
        """It is not: the plain tower knows ids and nothing else."""
        asked = [EVERY_MOVIE]
        nothing, something = (rank_for_history(served, ["stranger"], [rows], asked) for rows in ([], taste_of(0)))
        np.testing.assert_array_equal(nothing, something)

    def test_stars_are_the_towers(self, served, star_artifacts, config):
        """Trained again: the same weights; plain NumPy over them."""
        data = ranking_data.load(star_artifacts.fn_args("", config))
        p = hyperparameters.TutorialRanking(**self.hyperparameters)
        model = tutorial_ranking._train(data, data.fit, None, p, 7, [])
        rows = {name: values[:50] for name, values in data.fit.items()}
        asked = np.concatenate([
            model.users.embeddings.numpy()[rows[f.USER_INDEX.name]],
            model.titles.embeddings.numpy()[model._title.numpy()[rows[f.MOVIE_INDEX.name]]],
        ], axis=1)  # fmt: skip
        (first, second, last) = (layer.get_weights() for layer in model.ratings.layers)
        hidden = np.maximum(asked @ first[0] + first[1], 0.0)
        stars = np.maximum(hidden @ second[0] + second[1], 0.0) @ last[0] + last[1]
        assert [len(bias) for _, bias in (first, second, last)] == [256, 64, 1]
        users, movies = (ids.astype(str) for ids in data.fit_ids)
        served_stars = [rank(served, users[n : n + 1], [movies[n : n + 1]])[0, 0] for n in range(50)]
        np.testing.assert_allclose(served_stars, np.clip(stars[:, 0], 1.0, 5.0), atol=2e-3)


def test_movies_of_one_title_are_one_to_it(star_artifacts):
    """As in the tutorial, which knows titles alone."""
    data = ranking_data.load(star_artifacts.fn_args("", {"rating_range": [1.0, 5.0]}))
    titles = data.catalog.movie_title.copy()
    titles[2] = titles[0]
    data = dataclasses.replace(data, catalog=dataclasses.replace(data.catalog, movie_title=titles))
    model = tutorial_ranking.TutorialRanking(data, hyperparameters.TutorialRanking(), seed=1)
    rows = {f.USER_INDEX.name: np.array([2, 2, 2]), f.MOVIE_INDEX.name: data.catalog.movie_index[[0, 2, 4]]}
    same, as_well, other = model(rows).numpy()
    assert same == pytest.approx(as_well) and same != pytest.approx(other)
