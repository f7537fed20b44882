"""What scores say of the stars: two likelihoods against their definitions, and against stars drawn from them."""

import numpy as np
import pytest

from trainer_modules import factorization_machine
from trainer_modules.likelihoods import Normal, Ordered
from trainer_modules.rating_matrix import RatingMatrix

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

NUM_USERS, NUM_MOVIES = 40, 50
HALVES = np.arange(1, 11, dtype=np.float32) / 2
CUTS = np.array([-3.0, -1.0, 0.5, 2.5])


def cells(stars):
    """Every user has rated every movie."""
    user, movie = np.divmod(np.arange(NUM_USERS * NUM_MOVIES), NUM_MOVIES)
    return RatingMatrix(user, movie, stars.astype(np.float32), np.zeros((NUM_USERS, 0)), np.zeros((NUM_MOVIES, 0)))


def drawn(of_levels, seed=2):
    random = np.random.default_rng(seed)
    return cells(random.choice(of_levels, NUM_USERS * NUM_MOVIES))


def scores_of(matrix, seed=5):
    return tf.constant(np.random.default_rng(seed).normal(0.0, 1.5, len(matrix.stars)), tf.float32)


def from_cuts(cuts, seed=3):
    """Scores, and stars drawn with them and the cuts by the definition."""
    random = np.random.default_rng(seed)
    scores = random.normal(0.0, 1.5, NUM_USERS * NUM_MOVIES)
    latent = scores + random.logistic(size=len(scores))
    return tf.constant(scores, tf.float32), cells(1 + np.searchsorted(cuts, latent))


@pytest.mark.parametrize("levels", [np.arange(1, 6), HALVES], ids=["whole stars", "half stars"])
def test_the_slope_and_the_curvature_of_an_order_are_derivatives(levels):
    matrix = drawn(levels)
    ordered, scores = Ordered(matrix), tf.cast(scores_of(matrix), tf.float64)
    level = np.searchsorted(levels, matrix.stars)

    def misfit(scores):
        cuts = tf.cast(tf.concat([[-50.0], ordered.cuts, [50.0]], axis=0), tf.float64)
        return -tf.math.log(
            tf.sigmoid(tf.gather(cuts, level + 1) - scores) - tf.sigmoid(tf.gather(cuts, level) - scores)
        )

    with tf.GradientTape() as outer:
        outer.watch(scores)
        with tf.GradientTape() as inner:
            inner.watch(scores)
            total = misfit(scores)
        slope = inner.gradient(total, scores)
    curvature = outer.gradient(slope, scores)
    np.testing.assert_allclose(ordered.slope(tf.cast(scores, tf.float32)), slope, atol=1e-5)
    ordered.redraw(tf.cast(scores, tf.float32), tf.constant(0))
    np.testing.assert_allclose(ordered.curvature(), curvature, atol=1e-5)


def test_an_order_finds_the_cuts_that_the_stars_were_drawn_with():
    scores, matrix = from_cuts(CUTS)
    ordered = Ordered(matrix)
    for number in range(30):
        misfit = float(ordered.redraw(scores, tf.constant(number)))
    np.testing.assert_allclose(ordered.cuts, CUTS, atol=0.25)
    assert 0.0 < misfit < 0.5


def test_an_order_expects_the_mean_over_its_stars():
    _, matrix = from_cuts(CUTS)
    ordered = Ordered(matrix)
    ordered.cuts.assign(CUTS)
    scores = np.array([[-100.0, 0.0], [1.2, 100.0]], np.float32)
    at_most = np.concatenate([1.0 / (1.0 + np.exp(scores[..., None] - CUTS)), np.ones((2, 2, 1))], axis=-1)
    expected = np.diff(at_most, prepend=0.0) @ np.arange(1, 6)
    np.testing.assert_allclose(ordered.expected(scores) + matrix.stars.mean(), expected, atol=1e-5)
    assert expected[0, 0] == pytest.approx(1.0) and expected[1, 1] == pytest.approx(5.0)


def test_an_order_of_one_number_of_stars_expects_that():
    matrix = cells(np.full(NUM_USERS * NUM_MOVIES, 4.0))
    ordered = Ordered(matrix)
    assert float(ordered.redraw(scores_of(matrix), tf.constant(0))) == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_array_equal(ordered.expected(np.ones((2, 3), np.float32)), np.zeros((2, 3)))


def test_users_and_movies_with_noisier_stars_weigh_less():
    random = np.random.default_rng(6)
    scale = np.where(np.arange(NUM_USERS) < 20, 0.5, 1.5)[:, None] * np.where(np.arange(NUM_MOVIES) < 25, 1.0, 2.0)
    noise = (random.normal(size=scale.shape) * scale).reshape(-1)
    matrix, normal = cells(3.0 + noise), Normal(cells(3.0 + noise), seed=4)
    scores = tf.constant(np.full(len(noise), 3.0 - matrix.stars.mean()), tf.float32)
    precisions = []
    for number in range(60):
        normal.redraw(scores, tf.constant(number))
        precisions.append(normal.curvature().numpy().reshape(scale.shape))
    found = np.mean(precisions[20:], axis=0) ** -0.5
    # A little nearer to each other than they are: everybody begins with some rows of everybody's noise.
    np.testing.assert_allclose(
        [found[:20, :25].mean(), found[20:, :25].mean(), found[:20, 25:].mean(), found[20:, 25:].mean()],
        [0.5, 1.5, 1.0, 3.0], rtol=0.2,
    )  # fmt: skip
    np.testing.assert_allclose(
        normal.slope(scores + 2.0),
        normal.curvature() * (scores + 2.0 - (matrix.stars - matrix.stars.mean())),
        rtol=1e-4,
    )


@pytest.mark.parametrize("of", ["normal", "ordered"])
def test_scores_that_leave_the_finite_are_told(of):
    matrix = drawn(np.arange(1, 6))
    for bad in (1e6, np.nan):
        likelihood = Normal(matrix, 3) if of == "normal" else Ordered(matrix)
        assert not float(likelihood.redraw(scores_of(matrix) * bad, tf.constant(0))) < 1.0
    fresh = Normal(matrix, 3) if of == "normal" else Ordered(matrix)
    assert float(fresh.redraw(tf.zeros(len(matrix.stars)), tf.constant(0))) < 1.0


def test_many_different_stars_are_not_taken_as_an_order():
    """Each is a cut of its own: 22 000 ratings with decimals would be as many parts of one graph."""
    assert len(factorization_machine._likelihoods(drawn(HALVES), 1)) == 2
    [only] = factorization_machine._likelihoods(drawn(np.arange(1.0, 5.0, 0.1)), 1)
    assert isinstance(only, Normal)
