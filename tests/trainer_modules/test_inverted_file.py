"""The approximate index: exact where it looks, never showing what is hidden, as long as an exact list."""

import numpy as np
import pytest

from trainer_modules import inverted_file, top_k

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


@pytest.fixture(scope="module")
def world():
    """600 vectors around 12 centres, 20 queries, and 30 positions that each of them hides."""
    random = np.random.default_rng(5)
    centres = random.normal(size=(12, 8))
    vectors = (centres[random.integers(12, size=600)] + 0.3 * random.normal(size=(600, 8))).astype(np.float32)
    queries = (centres[random.integers(12, size=20)] + 0.3 * random.normal(size=(20, 8))).astype(np.float32)
    hidden = random.integers(-1, 600, size=(20, 30)).astype(np.int32)
    return vectors, queries, hidden


def exact(vectors, queries, hidden, k):
    return top_k.top_k_numpy(top_k.mask_numpy(queries @ vectors.T, hidden), k)


@pytest.mark.parametrize("num_cells, num_probes", [(10, 10), (1, 1), (600, 600)])
def test_who_looks_into_every_cell_finds_what_is_best(world, num_cells, num_probes):
    vectors, queries, hidden = world
    k = np.array([10, 1, 700, *[5] * 17], np.int32)
    index = inverted_file.InvertedFile(vectors, num_cells, num_probes)
    found = index(tf.constant(queries), tf.constant(vectors), hidden, k)
    expected = exact(vectors, queries, hidden, k)
    np.testing.assert_array_equal(found.position, expected.position)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)


def test_a_few_cells_hold_most_of_the_best_and_nothing_hidden(world):
    vectors, queries, hidden = world
    k = np.full(20, 10, np.int32)
    best = exact(vectors, queries, np.full((20, 1), -1), k).position
    hidden = np.concatenate([hidden, best[:, :5]], axis=1)  # what would come first
    expected = exact(vectors, queries, hidden, k)
    index = inverted_file.InvertedFile(vectors, 24, 5)
    found = index(tf.constant(queries), tf.constant(vectors), hidden, k)
    assert not any(np.isin(own, gone).any() for own, gone in zip(found.position.numpy(), hidden, strict=True))
    common = [np.isin(own, all_of).sum() for own, all_of in zip(found.position.numpy(), expected.position, strict=True)]
    assert np.mean(common) / 10 > 0.85
    scores = (queries[:, None, :] * vectors[found.position.numpy()]).sum(axis=2)
    np.testing.assert_allclose(found.score, scores, rtol=1e-4)
    assert (np.diff(found.score.numpy(), axis=1) <= 0).all()


def test_a_list_is_as_long_as_an_exact_one(world):
    vectors, queries, hidden = world
    index = inverted_file.InvertedFile(vectors, 60, 1)  # about ten candidates are looked at
    k = np.full(20, 100, np.int32)
    found = index(tf.constant(queries), tf.constant(vectors), hidden, k)
    np.testing.assert_array_equal(found.position, exact(vectors, queries, hidden, k).position)


def test_an_empty_batch_and_nothing_hidden(world):
    vectors, queries, _ = world
    index = inverted_file.InvertedFile(vectors, 0, 0)
    assert index.num_probes == 4
    nothing = np.zeros((0, 0), np.int32)
    found = index(tf.constant(queries[:0]), tf.constant(vectors), nothing, np.zeros(0, np.int32))
    assert found.position.shape == (0, 0)
    nothing = np.zeros((2, 0), np.int32)
    found = index(tf.constant(queries[:2]), tf.constant(vectors), nothing, np.array([3, 1], np.int32))
    assert (found.position.numpy() >= 0).sum(axis=1).tolist() == [3, 1]


def test_cells_are_where_the_vectors_are():
    blobs = np.repeat(np.eye(3, dtype=np.float32) * 10, 50, axis=0) + np.tile([[0.1], [-0.1]], (75, 1)).astype("f4")
    centroids, cell = inverted_file.k_means(blobs, 6, seed=1)
    assert centroids.shape == (6, 3)
    for blob in range(3):  # no cell reaches over two of them, as long as each has a centroid
        assert len(set(cell[blob * 50 : blob * 50 + 50]) & set(np.delete(cell, np.s_[blob * 50 : blob * 50 + 50]))) == 0
    again, _ = inverted_file.k_means(blobs, 6, seed=1)
    np.testing.assert_array_equal(centroids, again)


@pytest.mark.parametrize("num_cells, num_probes", [(601, 1), (10, 11)])
def test_more_cells_than_candidates_or_probes_than_cells_are_refused(world, num_cells, num_probes):
    with pytest.raises(ValueError, match=f"of {num_cells} cells for 600 candidates"):
        inverted_file.InvertedFile(world[0], num_cells, num_probes)
