"""The sampler behind two ranking families: its slope, its posterior, and what it does when it diverges."""

import numpy as np
import pytest

from trainer_modules import hyperparameters, langevin, likelihoods, low_rank, sampled_matrix
from trainer_modules.ranking_watch import Watch
from trainer_modules.rating_matrix import RatingMatrix

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

NUM_USERS, NUM_MOVIES = 7, 5


def cells(num_users=NUM_USERS, num_movies=NUM_MOVIES, share=0.6):
    random = np.random.default_rng(4)
    filled = np.argwhere(random.random((num_users, num_movies)) < share)
    return RatingMatrix(
        filled[:, 0], filled[:, 1], random.integers(1, 6, len(filled)).astype(np.float32),
        random.random((num_users, 3)).astype(np.float32), random.random((num_movies, 2)).astype(np.float32),
    )  # fmt: skip


def both(cells, seed):
    return likelihoods.Normal(cells, seed), likelihoods.Ordered(cells)


def started(implicit, machines=both):
    """A chain away from zero, with precisions that are not all alike."""
    chain = langevin.Chain(cells(), machines(cells(), 3), factors=2, step_size=0.2, implicit=implicit, seed=3)
    random = np.random.default_rng(8)
    chain._values.assign(random.normal(0.0, 0.5, chain._values.shape))
    chain._prior_mean.assign(random.normal(0.0, 0.5, chain._prior_mean.shape))
    chain._prior_precision.assign(random.uniform(0.5, 3.0, chain._prior_precision.shape))
    return chain


@pytest.mark.parametrize("implicit", [True, False])
def test_the_slope_is_that_of_the_model_as_it_is_written_down(implicit):
    """Of two machines side by side, which have nothing to do with each other."""
    chain, matrix = started(implicit), cells()
    rated = np.zeros((NUM_USERS, NUM_MOVIES), np.float32)
    rated[matrix.user, matrix.movie] = 1.0
    of_user, of_movie = (rated / np.sqrt(np.maximum(rated.sum(axis=axis, keepdims=True), 1.0)) for axis in (1, 0))

    def scores(groups):
        users = groups[0] + matrix.user_side @ groups[4]
        movies = groups[1] + matrix.movie_side @ groups[5]
        if implicit:
            users += of_user @ groups[2]
            movies += of_movie.T @ groups[3]
        scores = tf.matmul(users[:, :2], movies[:, :2], transpose_b=True) + users[:, 2:] + movies[:, 2]
        return tf.gather_nd(scores, np.stack([matrix.user, matrix.movie], axis=1))

    def energy(values):
        sums = [NUM_MOVIES, NUM_USERS] if implicit else [0, 0]
        groups = tf.split(values, [NUM_USERS, NUM_MOVIES, *sums, 3, 2])
        first, second = (scores([group[:, part] for group in groups]) for part in (slice(3), slice(3, 6)))
        normal = 0.5 * tf.reduce_sum(tf.square(matrix.stars - matrix.stars.mean() - first))
        cuts = tf.concat([[-np.inf], chain._likelihoods[1].cuts, [np.inf]], axis=0)
        level = np.searchsorted(np.unique(matrix.stars), matrix.stars)
        up_to, below = tf.sigmoid(tf.gather(cuts, level + 1) - second), tf.sigmoid(tf.gather(cuts, level) - second)
        prior = tf.add_n([
            tf.reduce_sum(chain._prior_precision[n] * tf.square(group - chain._prior_mean[n]))
            for n, group in enumerate(groups)
        ])
        return normal - tf.reduce_sum(tf.math.log(up_to - below)) + 0.5 * prior

    values = chain._values.read_value()
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = energy(values)
    np.testing.assert_allclose(chain._slope(values), tape.gradient(total, values), rtol=1e-3, atol=1e-3)


def test_the_chain_draws_from_the_posterior(monkeypatch):
    """With one bias per user and per movie and precisions held fast it is a normal distribution that can be solved."""
    monkeypatch.setattr(langevin.Chain, "_draw_priors", lambda self, *_: None)
    monkeypatch.setattr(likelihoods.Normal, "redraw", lambda self, *_: tf.constant(0.0))
    matrix = cells()._replace(
        user_side=np.zeros((NUM_USERS, 0), np.float32), movie_side=np.zeros((NUM_MOVIES, 0), np.float32)
    )
    machines = [likelihoods.Normal(matrix, 3)]
    chain = langevin.Chain(matrix, machines, factors=0, step_size=0.3, implicit=False, seed=3)
    chain._prior_precision.assign(np.full(chain._prior_precision.shape, 2.0))
    columns = np.concatenate([np.eye(NUM_USERS)[matrix.user], np.eye(NUM_MOVIES)[matrix.movie]], axis=1)
    precision = columns.T @ columns + 2.0 * np.eye(NUM_USERS + NUM_MOVIES)
    mean = np.linalg.solve(precision, columns.T @ (matrix.stars - matrix.stars.mean()))
    draws = []
    for number in range(1500):
        _, (draw,) = chain.cycle(tf.constant(number), tf.constant(number < 20))
        draws.append(np.concatenate([draw.user[:, 0], draw.movie[:, 1]]))
    drawn = np.array(draws[100:])
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.12)
    np.testing.assert_allclose(drawn.std(axis=0), np.sqrt(np.diag(np.linalg.inv(precision))), rtol=0.2)


def test_stars_are_what_the_likelihood_makes_of_the_scores():
    chain = started(implicit=True)
    for draw, likelihood in zip(chain._draws(chain._values.read_value()), chain._likelihoods, strict=True):
        users, movies = draw.user.numpy(), draw.movie.numpy()
        scores = users[:, :2] @ movies[:, :2].T + users[:, 2:3] + movies[:, 3]
        found = sampled_matrix.above_mean(draw, likelihood)
        np.testing.assert_allclose(found, likelihood.expected(scores), rtol=1e-4, atol=1e-5)


def settings(**values):
    return hyperparameters.FactorizationMachine(
        **{"factors": 2, "num_steps": 60, "num_tuning_steps": 60, "burn_in_steps": 30, **values}
    )


def test_a_chain_that_diverges_is_begun_anew_with_half_the_step_size(caplog, monkeypatch):
    matrix = cells()
    watch = Watch(60, matrix, None, (1.0, 5.0), "step")
    filled = sampled_matrix.fill(matrix, both, settings(step_size=20.0), 60, True, watch, seed=3)
    said = [record.getMessage() for record in caplog.records if "diverged" in record.getMessage()]
    assert said[0].endswith("step size 10") and len(said) >= 2
    assert np.isfinite(filled.stars).all() and filled.noise > 0.0
    monkeypatch.setattr(sampled_matrix, "_MAX_RESTARTS", 2)
    with pytest.raises(ValueError, match=r"diverges at every step size from 1e\+06 down to 250000"):
        sampled_matrix.fill(matrix, both, settings(step_size=1e6), 60, True, watch, seed=3)


@pytest.mark.parametrize("name", ["num_steps", "num_tuning_steps"])
@pytest.mark.parametrize(("num_steps", "burn_in"), [(30, 30), (39, 30), (45, 31)])
def test_steps_that_leave_no_sample_are_refused(name, num_steps, burn_in):
    with pytest.raises(ValueError, match=rf"FactorizationMachine\.{name} is {num_steps}: with {burn_in} burn_in_steps"):
        settings(**{name: num_steps}, burn_in_steps=burn_in)


@pytest.mark.parametrize("size", [(2_000_001, 10, 10), (100, 70_000, 10_000)])
def test_too_large_a_matrix_is_refused_with_the_way_out(size):
    with pytest.raises(ValueError, match=r"family autorec .* Choose\n? ?--ranking deep"):
        low_rank.check_size(*size, "autorec")
    low_rank.check_size(1_000_209, 6040, 3706, "autorec")


def test_low_rank_is_the_nearest():
    random = np.random.default_rng(0)
    exact = random.normal(size=(30, 3)) @ random.normal(size=(3, 22))
    filled = low_rank.Filled(3.5, exact.astype(np.float32), 0.7)
    found = low_rank.truncated(filled, 24, 18, rank=3, seed=1)
    users = np.concatenate([found.user, found.new_user[None], found.user_side])
    movies = np.concatenate([found.movie, found.new_movie[None], found.movie_side])
    assert found.user.shape == (24, 3) and found.movie.shape == (18, 3)
    np.testing.assert_allclose(users @ movies.T, exact, atol=1e-4)
    assert (found.mean, found.noise) == (3.5, 0.7)
    coarse = low_rank.truncated(filled, 24, 18, rank=1, seed=1)
    strength = np.linalg.svd(exact, compute_uv=False)
    users = np.concatenate([coarse.user, coarse.new_user[None], coarse.user_side])
    movies = np.concatenate([coarse.movie, coarse.new_movie[None], coarse.movie_side])
    assert np.linalg.norm(users @ movies.T - exact) == pytest.approx(np.linalg.norm(strength[1:]), rel=1e-3)
