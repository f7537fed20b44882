"""Metrics in plain NumPy, per query. Q queries, K recommended movies each, best first.

Everything about a ranked list follows from its hits, so `hits` comes first and the metrics take its answer.
"""

from __future__ import annotations

import numpy as np


def hits(recommended: np.ndarray, positives: np.ndarray, positive_row_splits: np.ndarray) -> np.ndarray:
    """Which recommendations are among the query's positives.

    Args:
      recommended: [Q, K], ids or catalog positions, best first. What pads it must not occur among the positives.
      positives: [P], of the same kind: the queries' relevant movies, one query after the other, each once per query.
      positive_row_splits: int [Q + 1]: query q has positives[positive_row_splits[q]:positive_row_splits[q + 1]].

    Returns:
      bool [Q, K].
    """
    num_queries, num_recommended = recommended.shape
    movies, number = np.unique(np.concatenate([recommended.ravel(), positives]), return_inverse=True)
    recommended_number = number[: recommended.size].reshape(num_queries, num_recommended)
    positive_query = np.repeat(np.arange(num_queries), np.diff(positive_row_splits))
    pairs = np.arange(num_queries)[:, None] * len(movies) + recommended_number
    return np.isin(pairs, positive_query * len(movies) + number[recommended.size :])


def ndcg_at_k(hit: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Binary normalised discounted cumulative gain (Järvelin and Kekäläinen, 2002).

    DCG = sum over hits at rank r (from 1) of 1 / log2(r + 1); divided by the DCG of min(num_relevant, k) hits on top.

    Args:
      hit: bool [Q, K], from `hits`.
      num_relevant: int [Q], the query's number of positives, at least 1.
      k: how far down the list counts.

    Returns:
      float64 [Q], 0 to 1.

    Raises:
      ValueError: a query without positives.
    """
    _check(num_relevant)
    gain = 1.0 / np.log2(np.arange(k) + 2.0)
    ideal = np.concatenate([[0.0], np.cumsum(gain)])[np.minimum(num_relevant, k)]
    return _first(hit, k) @ gain[: min(k, hit.shape[1])] / ideal


def recall_at_k(hit: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Hits among the first k over min(num_relevant, k), so that 1 can be reached. Arguments as in ndcg_at_k."""
    _check(num_relevant)
    return _first(hit, k).sum(axis=1) / np.minimum(num_relevant, k)


def mrr_at_k(hit: np.ndarray, k: int) -> np.ndarray:
    """Reciprocal rank: bool [Q, K] -> float64 [Q]: 1 / rank of the first hit among the first k, 0 without one."""
    first = _first(hit, k)
    if not first.shape[1]:
        return np.zeros(len(first))
    return first.any(axis=1) / (first.argmax(axis=1) + 1.0)


def coverage_at_k(recommended: np.ndarray, num_movies: int, k: int) -> float:
    """Share of the catalog that is among somebody's first k.

    Args:
      recommended: int [Q, K], catalog positions, negative where padded.
      num_movies: size of the catalog.
      k: how far down the lists count.
    """
    shown = np.unique(recommended[:, :k])
    return float((shown >= 0).sum() / num_movies)


def gini_at_k(recommended: np.ndarray, num_movies: int, k: int) -> float:
    """How unevenly the first k places of all lists are shared out among the movies: the Gini coefficient.

    0: every movie of the catalog is shown equally often; near 1: a few movies have all the places. With x_(1) <= ... <=
    x_(N) the number of times each movie is shown, it is sum_i (2 i - N - 1) x_(i) / (N sum_i x_(i)).

    Args:
      recommended: int [Q, K], catalog positions, negative where padded.
      num_movies: N, size of the catalog.
      k: how far down the lists count.

    Returns:
      0 to 1; 0 where nothing is shown.
    """
    shown = recommended[:, :k]
    times = np.sort(np.bincount(shown[shown >= 0], minlength=num_movies))
    weight = 2 * np.arange(1, num_movies + 1) - num_movies - 1
    return float(weight @ times / (num_movies * max(times.sum(), 1)))


def graded_ndcg_at_k(gain: np.ndarray, score: np.ndarray, group: np.ndarray, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain with grades (Järvelin and Kekäläinen, 2002): sum of gain / log2(rank + 1).

    Args:
      gain: [R], what a row is worth, above 0 for some row of each group.
      score: [R], by which a group's rows are put in order, largest first; equals stay as they stand.
      group: int [R], 0 to G - 1, each of them there: the list that a row belongs to.
      k: how far down the lists count.

    Returns:
      float64 [G], 0 to 1.
    """

    def dcg(by: np.ndarray) -> np.ndarray:
        order = np.lexsort((-by, group))
        size = np.bincount(group)
        rank = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
        worth = np.where(rank < k, gain[order] / np.log2(rank + 2.0), 0.0)
        return np.bincount(group[order], worth)

    _, group = np.unique(group, return_inverse=True)
    return dcg(score) / dcg(gain)


def rmse(stars: np.ndarray, predicted: np.ndarray) -> float:
    """Root of the mean squared error, in stars. Both [R]."""
    return float(np.sqrt(np.mean((np.asarray(stars, np.float64) - predicted) ** 2)))


def mae(stars: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error, in stars. Both [R]."""
    return float(np.mean(np.abs(np.asarray(stars, np.float64) - predicted)))


def _first(hit: np.ndarray, k: int) -> np.ndarray:
    if k < 1:
        raise ValueError(f"k is {k}; a list has at least one place.")
    return hit[:, :k].astype(bool)


def _check(num_relevant: np.ndarray) -> None:
    if (np.asarray(num_relevant) < 1).any():
        raise ValueError("A query has no positives, so its metric has no value: leave such queries out.")
