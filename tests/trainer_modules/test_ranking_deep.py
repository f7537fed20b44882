"""The ranking family deep by itself: its formula, its training, what it does with what it does not know."""

import types

import numpy as np
import pytest

from trainer_modules import deep_ranking, deep_scoring, hyperparameters, inputs, ranking_data, ranking_training
from trainer_modules import features as f

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)
import tensorflow_recommenders as tfrs  # isort: skip

NUM_USERS, NUM_MOVIES, NUM_GENRES, H = 30, 20, 4, f.HISTORY_LENGTH
ALL_PARTS = {"factors": 4, "key_size": 3, "time": True, "cross_layers": 2, "cross_rank": 5}
SETTINGS = {"factors": 4, "key_size": 3, "batch_size": 64, "max_epochs": 2}


def random_rows(num_rows, seed):
    random = np.random.default_rng(seed)
    history = random.integers(0, NUM_MOVIES, (num_rows, H))
    history[0] = f.PADDING_INDEX
    return {
        f.USER_INDEX.name: random.integers(1, NUM_USERS, num_rows),
        f.USER_AGE_INDEX.name: random.integers(1, f.NUM_USER_AGE_INDICES, num_rows),
        f.USER_GENDER_INDEX.name: random.integers(1, f.NUM_USER_GENDER_INDICES, num_rows),
        f.USER_OCCUPATION_INDEX.name: random.integers(1, 5, num_rows),
        f.HISTORY_MOVIE_INDEX.name: history,
        f.HISTORY_RATING.name: np.where(history > 0, random.integers(1, 6, history.shape), 0).astype(np.float32),
        f.HISTORY_AGE_BUCKET.name: np.where(history > 0, random.integers(0, f.NUM_AGE_BUCKETS, history.shape), 0),
        f.HISTORY_HOUR_INDEX.name: random.integers(1, f.NUM_HOUR_INDICES, num_rows),
        f.HISTORY_WEEKDAY_INDEX.name: random.integers(1, f.NUM_WEEKDAY_INDICES, num_rows),
        f.MOVIE_INDEX.name: random.integers(1, NUM_MOVIES, num_rows),
        f.USER_RATING.name: random.integers(1, 6, num_rows).astype(np.float32),
    }


@pytest.fixture(scope="module")
def data():
    """Random rows. Movie index n stands at catalog position n - 1; position 0 and the last have no fit rows."""
    random = np.random.default_rng(0)
    index = np.append(np.arange(f.OOV_INDEX, NUM_MOVIES), f.OOV_INDEX)
    catalog = inputs.Catalog(
        movie_id=np.array([f"m{n}" for n in range(len(index))], object),
        movie_title=np.array(["Title"] * len(index), object),
        movie_index=index,
        year_index=random.integers(1, f.NUM_YEAR_INDICES, len(index)),
        genres=random.integers(0, 2, (len(index), NUM_GENRES)).astype(np.float32),
        genre_name=np.zeros(0, object),
        genre_row_splits=np.zeros(len(index) + 1, np.int64),
        word_index=np.zeros(0, np.int64),
        word_row_splits=np.zeros(len(index) + 1, np.int64),
    )
    return ranking_data.RankingData(
        train=random_rows(300, 1), eval=random_rows(40, 2), catalog=catalog, num_users=NUM_USERS,
        num_movies=NUM_MOVIES, num_occupations=5, rating_range=(1.0, 5.0), transform_output=None, user_state_uri="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(data):
    """Untrained, but with every part, and with no parameter left at zero."""
    model = deep_ranking.DeepRanking(data, data.train, hyperparameters.DeepRanking(**ALL_PARTS), seed=1)
    random = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.3, variable.shape))
    return model


def stars_in_numpy(model, data, rows, n):
    """The formula of the module's docstring for one row, written down once more, term by term."""
    parameter = {variable.name.split(":")[0]: variable.numpy() for variable in model.trainable_variables}
    d, mean = 4, data.train[f.USER_RATING.name].mean()
    facts = (
        f.USER_INDEX, f.USER_AGE_INDEX, f.USER_GENDER_INDEX, f.USER_OCCUPATION_INDEX, f.HISTORY_HOUR_INDEX,
        f.HISTORY_WEEKDAY_INDEX,
    )  # fmt: skip
    user = sum(parameter[fact.name][rows[fact.name][n]] for fact in facts)

    def movie_of(index):
        vector = parameter[f.MOVIE_INDEX.name][index].copy()
        position = index - 1 if index > f.OOV_INDEX else None
        genres = np.zeros(NUM_GENRES) if position is None else data.catalog.genres[position]
        year = f.OOV_INDEX if position is None else data.catalog.year_index[position]
        return vector + genres @ parameter["genres"] / max(1.0, genres.sum()) ** 0.5 + parameter["year"][year]

    movie = movie_of(rows[f.MOVIE_INDEX.name][n])
    taste, attention, total = user[1:].copy(), 0.0, np.exp(parameter["attention"][0])
    history = [h for h in range(H) if rows[f.HISTORY_MOVIE_INDEX.name][n, h] != f.PADDING_INDEX]
    for h in history:
        index = rows[f.HISTORY_MOVIE_INDEX.name][n, h]
        log_weight, recency = parameter["recency"][rows[f.HISTORY_AGE_BUCKET.name][n, h]]
        residual = rows[f.HISTORY_RATING.name][n, h] - mean - movie_of(index)[0]
        explicit, implicit = np.split(parameter["history"][index], 2)
        taste += np.exp(log_weight) * (residual * explicit + implicit) / (1 + len(history)) ** 0.5
        weight = np.exp(movie[1 + d :] @ movie_of(index)[1 + d :] + recency)
        attention, total = attention + weight * residual, total + weight
    neighbours = attention / total
    first = np.concatenate([user[:1], taste, movie[: 1 + d], [neighbours]])
    crossed = first
    for layer in range(2):
        inwards, outwards, bias = (parameter[name][layer] for name in ("cross_in", "cross_out", "cross_bias"))
        crossed = first * (crossed @ inwards @ outwards + bias[0]) + crossed
    by_cross = crossed @ parameter["cross_score"][:, 0]
    return mean + user[0] + movie[0] + taste @ movie[1 : 1 + d] + parameter["attention"][1] * neighbours + by_cross


def test_stars_are_the_formula(model, data):
    rows = random_rows(12, 5)
    expected = [stars_in_numpy(model, data, rows, n) for n in range(12)]
    np.testing.assert_allclose(model(rows), expected, rtol=1e-4, atol=1e-4)


def test_the_scorer_says_what_the_model_says(model, data):
    rows = random_rows(12, 6)
    scorer = deep_ranking.DeepScorer(model, data.catalog)
    query = {feature.name: rows[feature.name] for feature in ranking_data.QUERY}
    positions = np.tile(np.arange(NUM_MOVIES - 1, dtype=np.int32), (12, 1))
    stars = scorer(query, positions).numpy()
    of_rows = stars[np.arange(12), rows[f.MOVIE_INDEX.name] - 1]
    known = rows[f.MOVIE_INDEX.name] > f.OOV_INDEX
    np.testing.assert_allclose(of_rows[known], model(rows).numpy()[known], rtol=1e-4, atol=1e-4)


def test_a_cross_layer_is_that_of_tensorflow_recommenders(model):
    first = np.random.default_rng(11).normal(size=(3, 2 * 4 + 3)).astype(np.float32)
    tables, last = model.tables(), first
    for layer in range(2):
        cross = tfrs.layers.dcn.Cross(projection_dim=5)
        cross.build(first.shape)
        cross(first, last)
        inwards, outwards, bias = (tables[name][layer].numpy() for name in ("cross_in", "cross_out", "cross_bias"))
        cross.set_weights([inwards, outwards, bias[0]])
        last = cross(first, last)
    found = deep_scoring.crossed(tables, tf.constant(first)[:, None])[:, 0]
    np.testing.assert_allclose(found, last, rtol=1e-4, atol=1e-5)


def test_without_time_and_cross_layers_their_tables_are_not_there(data):
    model = deep_ranking.DeepRanking(data, data.train, hyperparameters.DeepRanking(time=False, cross_layers=0), seed=1)
    assert not [name for name in model.tables() if "hour" in name or "weekday" in name or "cross" in name]
    rows = random_rows(12, 12)
    before = model(rows).numpy()
    rows[f.HISTORY_HOUR_INDEX.name][:], rows[f.HISTORY_WEEKDAY_INDEX.name][:] = f.OOV_INDEX, f.OOV_INDEX
    np.testing.assert_array_equal(model(rows), before)


def test_a_movie_without_fit_rows_is_told_apart_by_its_facts_alone(model, data):
    rows = random_rows(3, 7)
    scorer = deep_ranking.DeepScorer(model, data.catalog)
    query = {feature.name: rows[feature.name] for feature in ranking_data.QUERY}
    first_cold, last_cold, unknown = 0, NUM_MOVIES - 1, -1
    stars = scorer(query, np.tile(np.int32([first_cold, last_cold, unknown]), (3, 1))).numpy()
    assert np.isfinite(stars).all()
    assert (np.abs(np.diff(stars, axis=1)) > 1e-3).all()


def test_compute_loss_leaves_its_features_alone(model, data):
    rows = random_rows(12, 8)
    before = {name: values.copy() for name, values in rows.items()}
    model.compute_loss(rows, training=True)
    assert list(rows) == list(before)
    for name, values in before.items():
        np.testing.assert_array_equal(rows[name], values)


def test_eval_loss_is_of_clipped_stars(data):
    model = deep_ranking.DeepRanking(data, data.train, hyperparameters.DeepRanking(), seed=1)
    rows = random_rows(12, 9)
    rows[f.USER_RATING.name] = np.full(12, 5.0, np.float32)
    user = next(v for v in model.trainable_variables if v.name.startswith(f.USER_INDEX.name))
    user.assign(np.full(user.shape, [100.0] + [0.0] * (user.shape[1] - 1)))
    assert model.compute_loss(rows).numpy() == 0.0
    assert model.compute_loss(rows, training=True).numpy() > 100.0


def test_training_drops_ids_histories_and_facts(data):
    settings = hyperparameters.DeepRanking(
        user_dropout=1.0, fact_dropout=1.0, movie_dropout=1.0, history_dropout=1.0, **ALL_PARTS
    )
    model = deep_ranking.DeepRanking(data, data.train, settings, seed=1)
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(4).normal(0, 0.3, variable.shape))
    rows, blank = random_rows(12, 10), random_rows(12, 10)
    blank[f.HISTORY_MOVIE_INDEX.name][:] = f.PADDING_INDEX
    for fact in (f.USER_INDEX, *ranking_data.FACTS, *ranking_data.TIMES):
        blank[fact.name][:] = f.OOV_INDEX
    without_movie = model.movie_vectors(  # what genres and year say, with the unknown movie's own row
        np.full(12, f.OOV_INDEX),
        data.catalog.genres[rows[f.MOVIE_INDEX.name] - 1], data.catalog.year_index[rows[f.MOVIE_INDEX.name] - 1],
    )  # fmt: skip
    tables = model.tables()
    expected = deep_scoring.stars_of(tables, deep_scoring.query_of(tables, blank), without_movie[:, None])[:, 0]
    known = rows[f.MOVIE_INDEX.name] > f.OOV_INDEX
    np.testing.assert_allclose(model(rows, training=True)[known], expected[known], rtol=1e-4, atol=1e-4)


def test_it_begins_with_its_seed_and_an_epoch_moves_it(data, without_graphs):
    settings = hyperparameters.parse(hyperparameters.DeepRanking, SETTINGS)
    model, again, other = (deep_ranking.DeepRanking(data, data.train, settings, seed) for seed in (7, 7, 8))
    untrained = model(data.eval).numpy()
    np.testing.assert_array_equal(again(data.eval), untrained)
    assert np.abs(other(data.eval) - untrained).max() > 1e-4
    next(ranking_training._epochs(model, data.train, settings, seed=7))
    assert np.abs(model(data.eval) - untrained).max() > 1e-2


def test_the_penalty_counts_against_the_rows(data):
    settings = hyperparameters.DeepRanking(bias_l2=7.0, factor_l2=0.0, key_l2=0.0, history_l2=0.0, cross_layers=0)
    model = deep_ranking.DeepRanking(data, data.train, settings, seed=1)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    has_bias = [v for v in model.trainable_variables if not v.name.startswith(("history", "recency", "attention"))]
    num_biases = sum(v.shape[0] for v in has_bias)
    assert float(sum(model.losses)) == pytest.approx(7.0 * num_biases / 300, rel=1e-5)


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        ([0.95, 0.92, 0.90], 3),
        ([0.90, 0.91, 0.905], 3),
        ([0.90, 0.95, 0.93], 1),
        ([0.95, 0.90, np.nan], 2),
        ([0.95, np.inf], 1),
    ],
)
def test_fewer_epochs_must_be_clearly_better(errors, chosen):
    assert ranking_training.chosen_epoch(np.array(errors)) == chosen


def test_divergence_says_what_to_change(data, without_graphs):
    with pytest.raises(ValueError, match="Set a learning_rate below 1e\\+30"):
        deep_ranking.fit(data, {**SETTINGS, "learning_rate": 1e30}, 7)


def test_an_unknown_hyperparameter_is_named(data):
    with pytest.raises(ValueError, match="no hyperparameter rank"):
        deep_ranking.fit(data, {"rank": 3}, 7)


def test_an_unknown_family_is_named():
    from trainer_modules import ranking

    with pytest.raises(ValueError, match=r"no ranking family 'deeper'\. Choose one of: factorization_machine, deep"):
        ranking.run_fn(types.SimpleNamespace(custom_config={"family": "deeper"}))
