"""What users without a history are shown, against counting by hand; and which facts a served model goes by."""

import dataclasses

import numpy as np
import pytest
import toy_world

from trainer_modules import contract as c
from trainer_modules import features as f
from trainer_modules import inputs, newcomers, retrieval_data, retrieval_model
from trainer_modules.newcomers import Taste
from trainer_modules.towers import Towers

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

N, DAY_S = 6, 86_400
FEMALE, MALE = f.FIRST_INDEX, f.FIRST_INDEX + 1
FIRST_GENDER = f.NUM_USER_AGE_INDICES


def states(rows, gender):
    """Of (user, movie, day), and each user's gender; nothing else is known of anybody."""
    user, movie, day = np.array(sorted(rows, key=lambda row: (row[0], row[2]))).T
    nothing = np.full(len(gender), f.OOV_INDEX)
    return inputs.UserStates(
        np.array([b"%d" % n for n in range(len(gender))], object), np.arange(len(gender)) + f.FIRST_INDEX, nothing,
        np.array(gender), nothing, np.searchsorted(user, np.arange(len(gender) + 1)), movie.astype(np.int32),
        np.full(len(user), 3.0, np.float32), day * DAY_S,
    )  # fmt: skip


def arrivals(num_users, movies_of, gender):
    """One user a day, with two movies each."""
    return states(
        [(u, movie, u) for u in range(num_users) for movie in movies_of(u)], [gender(u) for u in range(num_users)]
    )


def scores(part, gender):
    facts = newcomers.first_rows(f.FIRST_INDEX)[:-1] + np.array([f.OOV_INDEX, gender, f.OOV_INDEX])
    return part.candidates @ np.append(1.0, part.facts[facts].sum(axis=0))


def test_lifts_are_shrunk_shares():
    rows = states([(0, 0, 1), (0, 1, 2), (1, 0, 1), (2, 2, 1)], [FEMALE, FEMALE, MALE])
    part = newcomers.part(rows, N, f.FIRST_INDEX, Taste(7.0, 0.5), rank=8)
    assert part.candidates.shape == (N, 9) and part.facts.shape == (15, 8)
    unknown = scores(part, f.OOV_INDEX)
    for gender, num_rows, share in ((FEMALE, [2, 1, 0, 0, 0, 0], 0.75), (MALE, [0, 0, 1, 0, 0, 0], 0.25)):
        total = np.array([2, 1, 1, 0, 0, 0])
        lift = np.log((np.array(num_rows) + 100 * share) / ((total + 100) * share))
        np.testing.assert_allclose(scores(part, gender) - unknown, 0.5 * lift, atol=1e-6)
    age = 0.5 ** (1 / 7)
    np.testing.assert_allclose(unknown[:3] - unknown[5], np.log(np.array([2 * age, 1, age]) / 0.1 + 1.0), rtol=1e-5)
    np.testing.assert_allclose(part.unrated[0], unknown[5], rtol=1e-5)
    assert not part.unrated[1:].any() and not part.candidates[3:, 1:].round(6).any()


def test_what_is_not_known_says_nothing():
    rows = states([(0, 0, 1), (1, 1, 1)], [f.OOV_INDEX, f.OOV_INDEX])
    part = newcomers.part(rows, N, f.FIRST_INDEX, Taste(7.0, 0.5), rank=2)
    assert np.isfinite(part.candidates).all() and not (part.candidates[:, 1:] @ part.facts.T).any()
    assert not newcomers.part(rows, N, f.FIRST_INDEX, Taste(7.0, 0.0), rank=2).facts.any()


def test_facts_count_where_they_told_newcomers_apart():
    told = arrivals(120, lambda u: [u % 2 * 3, 1 + u % 2 * 3], lambda u: (FEMALE, MALE)[u % 2])
    assert newcomers.choose(told, N, f.FIRST_INDEX).fact_share > 0
    random = np.random.default_rng(0)
    mixed = arrivals(120, lambda u: [u % 2 * 3, 1 + u % 2 * 3], lambda u: random.choice([FEMALE, MALE]))
    nothing = dataclasses.replace(told, user_gender_index=np.full(120, f.OOV_INDEX))
    assert newcomers.choose(nothing, N, f.FIRST_INDEX).fact_share == 0.0
    part = newcomers.part(mixed, N, f.FIRST_INDEX, Taste(7.0, 0.5), rank=8)
    assert np.ptp(scores(part, FEMALE) - scores(part, MALE)) < 0.3


@pytest.mark.parametrize(("days_in_fashion", "half_lives_days"), [(4, (3.0,)), (1000, (30.0, 90.0))])
def test_the_half_life_is_that_which_would_have_served_best(days_in_fashion, half_lives_days):
    """Fashions come and go; or all is as ever, and the more rows are counted the better."""
    random = np.random.default_rng(1)
    share = np.arange(40, 0, -1.0) ** 0.5

    def movies_of(u):
        if days_in_fashion < 100:
            return [u // days_in_fashion % 40, (u // days_in_fashion + 1) % 40]
        return random.choice(40, 2, replace=False, p=share / share.sum())

    rows = arrivals(300, movies_of, lambda u: f.OOV_INDEX)
    assert newcomers.choose(rows, 40, f.FIRST_INDEX).half_life_days in half_lives_days


def test_without_arrivals_the_defaults_stand():
    everyone_at_once = states([(u, 0, 0) for u in range(3)] + [(u, 1, 1 + u) for u in range(3)] * 5, [FEMALE] * 3)
    assert newcomers.choose(everyone_at_once, N, f.FIRST_INDEX) == Taste()
    assert newcomers.choose(states([(0, 0, 0)], [MALE]), N, f.FIRST_INDEX) == Taste()


class GenderTower(tf.Module):
    """Every movie's score is the gender's index."""

    def __call__(self, query, candidate_vectors):
        return tf.cast(query.facts[:, 1:2], tf.float32)


@pytest.fixture(scope="module")
def data(star_artifacts):
    return retrieval_data.load(star_artifacts.fn_args("unused", {}))


def served(data, snapshot):
    towers = Towers(np.ones((data.catalog.num_movies, 1), np.float32), GenderTower())
    counts = data.fit.counts(data.catalog.num_movies)
    return retrieval_model.RetrievalModel(
        data.catalog, towers, data.transform_output, counts, snapshot, retrieval_model.Index()
    )


def test_facts_are_the_examples_or_else_the_stored_ones(data, star_world):
    user, facts = next((user, facts) for user, facts in star_world.users.items() if facts.get("user_gender") == 0)

    def example(**values):
        return toy_world.example(values, f.RATING_EXAMPLE).SerializeToString()

    model, without = served(data, data.everything), served(data, None)
    examples = [example(user_id=user), example(user_id=user, user_gender=1), example(user_id="stranger", **facts)]
    examples.append(example(user_id="stranger"))
    for one, expected in (
        (model, [FEMALE, MALE, FEMALE, f.OOV_INDEX]),
        (without, [f.OOV_INDEX, MALE, FEMALE, f.OOV_INDEX]),
    ):
        assert one.serving_default(examples)[c.SCORE].numpy()[:, 0].tolist() == expected
    for one, expected in ((model, FEMALE), (without, f.OOV_INDEX)):
        none, nobody = [[]], tf.zeros([1, 0], tf.string)
        query = one.embed_query([user], nobody, tf.constant(none, tf.float32), tf.constant(none, tf.int64), [0])
        assert query[c.EMBEDDING].numpy() == [[expected]]
        assert one.recommend([user], nobody, [1])[c.SCORE].numpy() == [[expected]]
