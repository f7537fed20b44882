"""Metrics against values worked out by hand."""

import numpy as np
import pytest

from trainer_modules import metrics

# Three queries of four recommendations. Query 0 has one positive, found first; query 1 has two, found second and
# fourth; query 2 has one that is not found.
RECOMMENDED = np.array([[7, 1, 2, 3], [4, 5, 6, 8], [1, 2, 3, 4]])
POSITIVES = np.array([7, 8, 5, 9])
ROW_SPLITS = np.array([0, 1, 3, 4])
NUM_RELEVANT = np.array([1, 2, 1])
HIT = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]], bool)


def test_hits():
    assert (metrics.hits(RECOMMENDED, POSITIVES, ROW_SPLITS) == HIT).all()
    as_bytes = metrics.hits(RECOMMENDED.astype("S"), POSITIVES.astype("S"), ROW_SPLITS)
    assert (as_bytes == HIT).all()


def test_ndcg():
    two = (1 / np.log2(3) + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(metrics.ndcg_at_k(HIT, NUM_RELEVANT, 4), [1, two, 0])
    # Among the first two places there is one hit, and the best there can be is two.
    np.testing.assert_allclose(
        metrics.ndcg_at_k(HIT, NUM_RELEVANT, 2), [1, (1 / np.log2(3)) / (1 + 1 / np.log2(3)), 0]
    )


def test_recall_divides_by_what_could_be_found():
    np.testing.assert_allclose(metrics.recall_at_k(HIT, NUM_RELEVANT, 4), [1, 1, 0])
    np.testing.assert_allclose(metrics.recall_at_k(HIT, NUM_RELEVANT, 1), [1, 0, 0])
    np.testing.assert_allclose(metrics.recall_at_k(HIT, NUM_RELEVANT, 2), [1, 0.5, 0])


def test_mrr_and_coverage():
    np.testing.assert_allclose(metrics.mrr_at_k(HIT, 4), [1, 0.5, 0])
    np.testing.assert_allclose(metrics.mrr_at_k(HIT, 1), [1, 0, 0])
    padded = np.array([[0, 1, -1], [1, 2, -1]])
    assert metrics.coverage_at_k(padded, num_movies=10, k=3) == pytest.approx(0.3)
    assert metrics.coverage_at_k(padded, num_movies=10, k=1) == pytest.approx(0.2)


def test_lists_shorter_than_k():
    np.testing.assert_allclose(metrics.ndcg_at_k(HIT, NUM_RELEVANT, 10), metrics.ndcg_at_k(HIT, NUM_RELEVANT, 4))


def test_a_query_without_positives_is_refused():
    for metric in (metrics.ndcg_at_k, metrics.recall_at_k):
        with pytest.raises(ValueError, match="no positives"):
            metric(HIT, np.array([1, 0, 1]), 4)
    with pytest.raises(ValueError, match="k is 0"):
        metrics.mrr_at_k(HIT, 0)


def test_errors_in_stars():
    stars, predicted = np.array([1, 2, 5]), np.array([2, 2, 3])
    assert metrics.rmse(stars, predicted) == pytest.approx(np.sqrt(5 / 3))
    assert metrics.mae(stars, predicted) == pytest.approx(1)


def test_gini_is_that_of_the_textbook():
    everyone_the_same = np.tile([2, 3, -1], (5, 1))
    assert metrics.gini_at_k(everyone_the_same, 10, 3) == pytest.approx(0.8)
    assert metrics.gini_at_k(np.arange(10).reshape(5, 2), 10, 2) == 0.0
    assert metrics.gini_at_k(np.full((2, 3), -1), 10, 3) == 0.0
    shown = np.array([[0], [1], [1], [1]])
    pairs = np.abs(np.subtract.outer([1, 3, 0], [1, 3, 0])).sum() / (2 * 3 * 4)  # the mean difference's definition
    assert metrics.gini_at_k(shown, 3, 1) == pytest.approx(pairs)
