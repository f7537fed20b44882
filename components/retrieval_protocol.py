"""How a retrieval model is measured: one query per user with test rows, the whole catalog ranked, fit rows masked.

What a model may know of the user at the test split is the user's train and eval rows; the positives are the user's
test rows. The metrics' definitions are trainer_modules.metrics'. Q queries, N movies in the catalog.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from components import evaluation_data, explicit_state
from components import slices as slices_by
from components.evaluation_data import Catalog, Ragged, UserStates
from trainer_modules import contract, metrics
from trainer_modules import features as f

NUM_RECOMMENDED = 100
QUERY_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ndcg_at_10": lambda hit, num_relevant: metrics.ndcg_at_k(hit, num_relevant, 10),
    "recall_at_10": lambda hit, num_relevant: metrics.recall_at_k(hit, num_relevant, 10),
    "recall_at_20": lambda hit, num_relevant: metrics.recall_at_k(hit, num_relevant, 20),
    "recall_at_100": lambda hit, num_relevant: metrics.recall_at_k(hit, num_relevant, 100),
    "mrr_at_100": lambda hit, num_relevant: metrics.mrr_at_k(hit, 100),
}
COVERAGE = "coverage_at_10"
GINI = "gini_at_10"
_BATCH = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Queries:
    """What is asked, and what would be right."""

    user_id: np.ndarray
    """bytes [Q], each once."""
    positives: Ragged
    """Catalog positions of each query's positives."""
    state: np.ndarray
    """int64 [Q]: the user's number among `states`, -1 for a user without fit rows."""
    states: UserStates
    """The fit rows."""
    facts: dict[str, np.ndarray]
    """Slice prefix -> [Q] names, "" where the user's fact is unknown."""


def read_queries(
    examples_uri: str, user_state_uri: str, catalog: Catalog, split: str = f.TEST, known: Sequence[str] = f.FIT_SPLITS
) -> Queries:
    """Builds a split's queries.

    Args:
      examples_uri: rating examples.
      user_state_uri: what is known of the users.
      catalog: what is ranked.
      split: whose rows are the positives.
      known: the splits that count as known, all of them before `split`.

    Raises:
      ValueError: no rows in the split, or one whose movie the catalog lacks.
    """
    facts = (f.USER_GENDER, f.RAW_USER_AGE, f.BUCKETIZED_USER_AGE)
    rows = evaluation_data.read(examples_uri, split, (f.USER_ID, f.MOVIE_ID, *facts))
    position = catalog.positions(rows[f.MOVIE_ID.name])
    if (position < 0).any():
        raise ValueError(
            f"{(position < 0).sum()} {split} rows are of movies that the catalog lacks; examples and catalog must come"
            " from the same run of the ExampleGen"
        )
    user_id, first_row, user = np.unique(rows[f.USER_ID.name], return_index=True, return_inverse=True)
    states = evaluation_data.read_user_states(user_state_uri, known)
    state = states.users(user_id)
    return Queries(
        user_id=user_id,
        positives=_grouped(position, user, len(user_id)),
        state=np.where((state >= 0) & (np.diff(states.row_splits)[state] > 0), state, -1),
        states=states,
        facts={
            "user_gender": slices_by.first_values(rows[f.USER_GENDER.name], str)[first_row],
            "user_age": slices_by.first_values(
                rows[f.RAW_USER_AGE.name], slices_by.age_group, otherwise=rows[f.BUCKETIZED_USER_AGE.name]
            )[first_row],
        },
    )


def recommend(saved_model_path: str, queries: Queries, catalog: Catalog) -> np.ndarray:
    """Asks a model through its signature recommend_for_history, with explicit state.

    Returns:
      int64 [Q, NUM_RECOMMENDED]: catalog positions, best first; -1 pads.

    Raises:
      ValueError: the model lacks the signature.
    """
    # The signature lives no longer than what loaded it.
    model = tf.saved_model.load(saved_model_path)
    if contract.RECOMMEND_FOR_HISTORY not in model.signatures:
        raise ValueError(
            f"{saved_model_path} lacks the signature {contract.RECOMMEND_FOR_HISTORY}; it has"
            f" {', '.join(sorted(model.signatures))}"
        )
    signature = model.signatures[contract.RECOMMEND_FOR_HISTORY]
    recommended = np.full((len(queries.user_id), NUM_RECOMMENDED), -1, np.int64)
    for rows, request in requests(queries):
        movie_id = signature(**request)[contract.MOVIE_ID].numpy().astype(bytes)
        recommended[rows, : movie_id.shape[1]] = catalog.positions(movie_id)
    return recommended


def requests(queries: Queries) -> Iterator[tuple[np.ndarray, dict[str, tf.Tensor]]]:
    """Batches of like length: the queries' numbers, and the tensors of recommend_for_history."""
    lengths = np.where(queries.state < 0, 0, np.diff(queries.states.row_splits)[queries.state])
    by_length = np.argsort(lengths, kind="stable")
    for start in range(0, len(by_length), _BATCH):
        rows = by_length[start : start + _BATCH]
        users = queries.state[rows]
        request = explicit_state.query(queries.user_id[rows], queries.states, users, contract.MAX_HISTORY)
        request[contract.SEEN_MOVIE_ID] = tf.constant(explicit_state.seen_movie_id(queries.states, users))
        request[contract.EXCLUDE_MOVIE_ID] = tf.fill([len(rows), 1], "")
        request[contract.K] = tf.fill([len(rows)], NUM_RECOMMENDED)
        yield rows, request


def recommend_by_score(score: np.ndarray, queries: Queries, seen: Ragged) -> np.ndarray:
    """The same list for everyone, less what each has seen; equal scores: the lower catalog position first.

    Args:
      score: [N], higher is better.
      queries: whom to answer.
      seen: catalog positions that each query masks.

    Returns:
      int64 [Q, NUM_RECOMMENDED], -1 pads.
    """
    order = np.argsort(-score, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    recommended = np.full((len(queries.user_id), NUM_RECOMMENDED), -1, np.int64)
    for start in range(0, len(recommended), _BATCH):
        splits = seen.row_splits[start : start + _BATCH + 1]
        query = np.repeat(np.arange(len(splits) - 1), np.diff(splits))
        # So many places suffice: whoever has seen the most still finds the rest below.
        width = min(len(order), NUM_RECOMMENDED + int(np.diff(splits).max(initial=0)))
        hidden_place = place[seen.values[splits[0] : splits[-1]]]
        hidden = np.zeros((len(splits) - 1, width), bool)
        hidden[query[hidden_place < width], hidden_place[hidden_place < width]] = True
        shown_first = np.argsort(hidden, axis=1, kind="stable")[:, :NUM_RECOMMENDED]
        found = np.where(np.take_along_axis(hidden, shown_first, axis=1), -1, order[shown_first])
        recommended[start : start + _BATCH, : found.shape[1]] = found
    return recommended


def seen_positions(queries: Queries, catalog: Catalog) -> Ragged:
    """Catalog positions of each query's fit rows; rows of movies that left the catalog are dropped."""
    query_of_state = np.full(len(queries.states.user_id), -1)
    query_of_state[queries.state[queries.state >= 0]] = np.nonzero(queries.state >= 0)[0]
    query = query_of_state[queries.states.row_user]
    position = catalog.positions(queries.states.movie_id)
    counts = (query >= 0) & (position >= 0)
    return _grouped(position[counts], query[counts], len(queries.user_id))


def measure(recommended: np.ndarray, positives: Ragged) -> dict[str, np.ndarray]:
    """Every metric of QUERY_METRICS for each query: name -> float64 [Q]."""
    hit = metrics.hits(recommended, positives.values, positives.row_splits)
    return {name: metric(hit, positives.lengths) for name, metric in QUERY_METRICS.items()}


def summary(measured: dict[str, np.ndarray], chosen: np.ndarray | slice = slice(None)) -> dict[str, float]:
    """Means over the chosen queries."""
    return {name: float(values[chosen].mean()) for name, values in measured.items()}


def bootstrap_interval(
    values: np.ndarray, num_resamples: int = 1000, seed: int = 7
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % intervals of means over users, by the percentile bootstrap.

    Args:
      values: [Q, ...], user by user: a metric, or what the candidate has more of it than another model. Differences of
        two models are paired: both are drawn with the same users.
      num_resamples: how often as many users are drawn, with replacement.
      seed: the same users are drawn each time.

    Returns:
      The lower ends [...] and the upper ends [...].
    """
    random = np.random.default_rng(seed)
    draws = (random.integers(len(values), size=len(values)) for _ in range(num_resamples))
    low, high = np.percentile([values[drawn].mean(axis=0) for drawn in draws], [2.5, 97.5], axis=0)
    return low, high


def _grouped(values: np.ndarray, group: np.ndarray, num_groups: int) -> Ragged:
    """[T] values and the group, 0 to num_groups - 1, of each -> one list per group."""
    lengths = np.bincount(group, minlength=num_groups)
    return Ragged(values[np.argsort(group, kind="stable")], np.concatenate([[0], np.cumsum(lengths)]))
