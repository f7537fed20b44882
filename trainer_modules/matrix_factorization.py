"""The retrieval family "matrix_factorization": score = p_u . q_i, fitted to the sparse rating matrix.

Both solvers minimise the same objective, the one of Google's collaborative filtering exercise (the course
"Recommendation Systems"), with the means written out. Over U users, N movies and the observed cells O, with targets y:

    1 / |O| sum_O (y - p.q)^2  +  gravity / (U N) sum_all (p.q)^2  +  regularization (sum |p|^2 / U + sum |q|^2 / N)

The gravity pulls every cell towards 0 and costs no more than the observed ones, through sum_all (p.q)^2 =
<P^T P, Q^T Q>. With y = 1 it is the weighted objective of Hu, Koren and Volinsky, "Collaborative Filtering for Implicit
Feedback Datasets" (ICDM 2008), where unobserved cells weigh 1 and observed ones 1 + alpha: alpha = U N / (|O| gravity),
and all scores are alpha / (1 + alpha) times theirs. Alternating least squares solves for one side after the other
exactly; Adam is the way of the exercise. Given the movies, the best vector of a user follows from the user's rows: so
every query is solved for, the unknown user's too, and no user's vector is stored. D coordinates, B queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trainer_modules import hyperparameters
from trainer_modules.hyperparameters import MatrixFactorization
from trainer_modules.inputs import UserStates
from trainer_modules.retrieval_data import RetrievalData
from trainer_modules.retrieval_fitting import Epoch, tune_and_refit
from trainer_modules.towers import Query, Towers

IMPLICIT, STARS = "implicit", "stars"
ALS = "als"

_ROWS_PER_SOLVE = 1024
_CELLS_PER_STEP = 8192


class Weights(NamedTuple):
    """The objective times |O|: a cell's error then weighs 1."""

    gravity: float
    user_ridge: float
    movie_ridge: float

    @classmethod
    def of(cls, p: MatrixFactorization, num_rows: int, num_users: int, num_movies: int) -> Weights:
        """For so many observed cells, users and movies."""
        return cls(
            gravity=p.gravity * num_rows / (num_users * num_movies),
            user_ridge=p.regularization * num_rows / num_users,
            movie_ridge=p.regularization * num_rows / num_movies,
        )


def solve(
    vectors: tf.Tensor, gravity: float, ridge: float, index: tf.RaggedTensor, target: tf.RaggedTensor
) -> tf.Tensor:
    """The other side's best vectors: each minimises sum (y - x.v)^2 + gravity sum_all (x.v)^2 + ridge |x|^2.

    Args:
      vectors: float32 [M, D], of the side that stands.
      gravity: weight of every cell's pull to 0.
      ridge: above 0.
      index: int32 ragged [B, None], rows of `vectors` that each x has cells with.
      target: float32 ragged [B, None], y of those cells.

    Returns:
      float32 [B, D]; zeros for an x without cells.
    """
    common = gravity * tf.matmul(vectors, vectors, transpose_a=True) + ridge * tf.eye(vectors.shape[1])

    def gram(limits: tf.Tensor) -> tf.Tensor:
        own = tf.gather(vectors, index.values[limits[0] : limits[1]])
        return tf.matmul(own, own, transpose_a=True)

    # One after the other: all outer products at once would need rows x D x D numbers.
    limits = tf.stack([index.row_starts(), index.row_limits()], axis=1)
    grams = tf.map_fn(gram, limits, fn_output_signature=tf.TensorSpec([vectors.shape[1]] * 2, tf.float32))
    pulls = target.values[:, None] * tf.gather(vectors, index.values)
    pull = tf.math.unsorted_segment_sum(pulls, index.value_rowids(), index.nrows())
    return tf.linalg.cholesky_solve(tf.linalg.cholesky(grams + common), pull[:, :, None])[:, :, 0]


class FoldIn(tf.Module):
    """The query tower: solves for the user's vector. Who has no rows is answered by popularity, the last coordinate."""

    def __init__(self, weights: Weights, target: str) -> None:
        super().__init__(name="fold_in")
        self._gravity, self._ridge = weights.gravity, weights.user_ridge
        self._target = target

    def __call__(self, query: Query, candidate_vectors: tf.Tensor) -> tf.Tensor:
        """As Towers.query_tower says."""
        rows = query.history
        target = rows.rating if self._target == STARS else rows.rating.with_values(tf.ones_like(rows.rating.values))
        user = solve(candidate_vectors[:, :-1], self._gravity, self._ridge, rows.position, target)
        is_empty = tf.cast(tf.equal(rows.position.row_lengths(), 0), tf.float32)
        return tf.concat([user, is_empty[:, None]], axis=1)


def train(data: RetrievalData, values: Mapping[str, Any], seed: int) -> Towers:
    """The family's entry: tunes, refits, hands over what is served.

    Args:
      data: all of it.
      values: hyperparameters by field name of MatrixFactorization; the rest by default.
      seed: of every random choice.

    Raises:
      ValueError: an unknown hyperparameter or value, or a split without rows.
    """
    p = hyperparameters.parse(MatrixFactorization, values)

    def target_of(stars: np.ndarray) -> np.ndarray:
        return stars if p.target == STARS else np.ones_like(stars)

    def fit(states: UserStates) -> Iterator[Epoch]:
        num_movies = data.catalog.num_movies
        weights = Weights.of(p, len(states.position), int((np.diff(states.row_splits) > 0).sum()), num_movies)
        tf.keras.utils.set_random_seed(seed)
        start = tf.random.normal([num_movies, p.embedding_dimension], stddev=p.initial_stddev)
        solver = _alternating if p.solver == ALS else _descending
        popularity = np.log1p(states.counts(num_movies)).astype(np.float32)
        fold_in = FoldIn(weights, p.target)
        for users, movies in solver(states, target_of(states.rating), weights, start, p, seed):
            score = np.einsum("td,td->t", users[states.row_user], movies[states.position])
            error = float(np.sqrt(np.mean((target_of(states.rating) - score) ** 2)))
            towers = Towers(
                np.concatenate([movies, popularity[:, None]], axis=1), fold_in,
                num_taste_coordinates=p.embedding_dimension,
            )  # fmt: skip
            yield Epoch(towers, error)

    return tune_and_refit(fit, data, p.num_epochs, target_of)


Sides = Iterator[tuple[np.ndarray, np.ndarray]]
"""Users' and movies' vectors, float32 [U, D] and [N, D], after each epoch."""


def _alternating(
    states: UserStates, target: np.ndarray, weights: Weights, movies: tf.Tensor, p: MatrixFactorization, seed: int
) -> Sides:
    """Alternating least squares: nothing is random but the start."""
    rows = states.row_user
    by_user = _side(states.position, target, states.row_splits)
    order = np.argsort(states.position, kind="stable")
    counts = states.counts(len(movies))
    by_movie = _side(rows[order].astype(np.int32), target[order], np.concatenate([[0], np.cumsum(counts)]))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, p.embedding_dimension], tf.float32), tf.TensorSpec([], tf.float32),
            *by_user.element_spec,
        ],
        autograph=False,
    )  # fmt: skip
    def step(vectors: tf.Tensor, ridge: tf.Tensor, index: tf.RaggedTensor, y: tf.RaggedTensor) -> tf.Tensor:
        return solve(vectors, weights.gravity, ridge, index, y)

    def other_side(vectors: tf.Tensor, ridge: float, side: tf.data.Dataset) -> tf.Tensor:
        return tf.concat([step(vectors, ridge, *batch) for batch in side], axis=0)

    users = other_side(movies, weights.user_ridge, by_user)
    while True:
        movies = other_side(users, weights.movie_ridge, by_movie)
        users = other_side(movies, weights.user_ridge, by_user)
        yield users.numpy(), movies.numpy()


def _descending(
    states: UserStates, target: np.ndarray, weights: Weights, movies: tf.Tensor, p: MatrixFactorization, seed: int
) -> Sides:
    """Adam on batches of cells; gravity and regularisation are those of all cells in every step."""
    start = tf.random.normal([states.num_users, p.embedding_dimension], stddev=p.initial_stddev)
    user_vectors, movie_vectors = tf.Variable(start), tf.Variable(movies)
    optimizer = tf.keras.optimizers.Adam(p.learning_rate)
    optimizer.build([user_vectors, movie_vectors])
    num_rows = len(target)
    cells = tf.data.Dataset.from_tensor_slices((states.row_user, states.position, target))
    batches = cells.shuffle(num_rows, seed=seed).batch(_CELLS_PER_STEP)

    @tf.function(input_signature=batches.element_spec, autograph=False)
    def step(user: tf.Tensor, movie: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            score = tf.reduce_sum(tf.gather(user_vectors, user) * tf.gather(movie_vectors, movie), axis=1)
            user_gram = tf.matmul(user_vectors, user_vectors, transpose_a=True)
            movie_gram = tf.matmul(movie_vectors, movie_vectors, transpose_a=True)
            of_all = (
                weights.gravity * tf.reduce_sum(user_gram * movie_gram)
                + weights.user_ridge * tf.linalg.trace(user_gram)
                + weights.movie_ridge * tf.linalg.trace(movie_gram)
            )
            loss = tf.reduce_mean(tf.square(y - score)) + of_all / num_rows
        gradients = tape.gradient(loss, [user_vectors, movie_vectors])
        optimizer.apply_gradients(zip(gradients, [user_vectors, movie_vectors], strict=True))

    while True:
        for batch in batches:
            step(*batch)
        yield user_vectors.numpy(), movie_vectors.numpy()


def _side(index: np.ndarray, target: np.ndarray, row_splits: np.ndarray) -> tf.data.Dataset:
    """Batches of (index, target), ragged [up to _ROWS_PER_SOLVE, None]."""
    rows = [tf.RaggedTensor.from_row_splits(values, row_splits) for values in (index, target)]
    numbers = tf.data.Dataset.range(len(row_splits) - 1).batch(_ROWS_PER_SOLVE)
    return numbers.map(lambda number: tuple(tf.gather(values, number) for values in rows))
