"""An approximate index in stock TensorFlow operations: an inverted file, as in Sivic and Zisserman, "Video Google"
(ICCV 2003), with k-means cells.

The candidates are divided into cells around centroids. A query looks into the cells alone whose centroids have the
largest product with it, so it scores a few per cent of the catalog. What it scores it scores exactly; what is hidden is
never shown; and where the cells hold fewer candidates than are wanted, the whole catalog is scored, so that a list is
as long as an exact one. N candidates of D coordinates, C cells, B queries.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from trainer_modules.top_k import PADDING_POSITION, TopK, mask, top_k

_NUM_ITERATIONS = 10
_SAMPLE_PER_CELL = 100
"""Candidates that the centroids are fitted on, for each cell: more change little."""
_CHUNK = 8192
_QUERIES_AT_ONCE = 8


class InvertedFile(tf.Module):
    """Which candidates lie in which cell."""

    def __init__(self, vectors: np.ndarray, num_cells: int, num_probes: int) -> None:
        """Divides the candidates.

        Args:
          vectors: float32 [N, D].
          num_cells: C, 1 to N; 0: the square root of N.
          num_probes: cells that a query looks into, 1 to C; 0: a sixteenth of them, at least 4.

        Raises:
          ValueError: more cells than candidates, or more probes than cells.
        """
        super().__init__(name="inverted_file")
        num_cells = num_cells or max(1, round(len(vectors) ** 0.5))
        self.num_probes = num_probes or min(num_cells, max(4, num_cells // 16))
        if num_cells > len(vectors) or self.num_probes > num_cells:
            raise ValueError(
                f"An inverted file of {num_cells} cells for {len(vectors)} candidates, of which {self.num_probes} are"
                " looked into: there can be no more cells than candidates, and no more probes than cells."
            )
        centroids, cell = k_means(vectors, num_cells)
        order = np.argsort(cell, kind="stable")
        row_splits = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=num_cells))])
        self._centroids = tf.Variable(centroids, trainable=False, name="centroids")
        self._position = tf.Variable(order.astype(np.int32), trainable=False, name="position_by_cell")
        self._row_splits = tf.Variable(row_splits.astype(np.int32), trainable=False, name="cell_row_splits")

    def __call__(self, query: tf.Tensor, vectors: tf.Tensor, hidden: tf.Tensor, k: tf.Tensor) -> TopK:
        """The best candidates of the cells looked into.

        Args:
          query: float32 [B, D].
          vectors: float32 [N, D], those the cells were made of.
          hidden: int32 [B, M], catalog positions not to be shown, any negative number pads.
          k: int32 [B], how many each query wants; may exceed N.

        Returns:
          As top_k.top_k; of equal scores any may come first.
        """
        width = tf.reduce_max(tf.concat([k, [0]], axis=0))
        num_queries = tf.shape(query)[0]
        # The loop cannot say what nothing is like: an empty batch has one query that nobody asked.
        asked_rows = [[0, tf.maximum(1 - num_queries, 0)], [0, 0]]
        query, hidden = tf.pad(query, asked_rows), tf.pad(hidden, asked_rows)
        cell = tf.math.top_k(tf.matmul(query, self._centroids, transpose_b=True), self.num_probes).indices
        some = tf.fill([tf.shape(hidden)[0], 1], PADDING_POSITION)  # a row to search in is never empty
        hidden_in_order = tf.sort(tf.concat([some, hidden], axis=1), axis=1)

        def look(asked: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> TopK:
            own_query, own_cell, own_hidden = asked
            begin, end = tf.gather(self._row_splits, own_cell), tf.gather(self._row_splits, own_cell + 1)
            position = tf.gather(self._position, tf.ragged.range(begin, end).values)
            score = tf.linalg.matvec(tf.gather(vectors, position), own_query)
            place = tf.minimum(tf.searchsorted(own_hidden, position), tf.shape(own_hidden)[0] - 1)
            is_hidden = tf.gather(own_hidden, place) == position
            best = top_k(tf.where(is_hidden, tf.constant(-np.inf), score)[None], width[None])
            row = tf.where(best.position[0] >= 0, best.position[0], tf.size(position))
            return TopK(tf.gather(tf.concat([position, [PADDING_POSITION]], axis=0), row), best.score[0])

        best = tf.map_fn(
            look,
            (query, cell, hidden_in_order),
            fn_output_signature=TopK(tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)),
            parallel_iterations=_QUERIES_AT_ONCE,
        )
        best = TopK(*(part[:num_queries] for part in best))
        is_wanted = tf.range(width) < k[:, None]
        is_short = tf.reduce_any(is_wanted & (best.position < 0))

        def exact() -> TopK:
            scores = tf.matmul(query[:num_queries], vectors, transpose_b=True)
            return top_k(mask(scores, hidden[:num_queries]), k)

        def approximate() -> TopK:
            minus_infinity = tf.constant(-np.inf, tf.float32)
            return TopK(
                tf.where(is_wanted, best.position, PADDING_POSITION), tf.where(is_wanted, best.score, minus_infinity)
            )

        return tf.cond(is_short, exact, approximate)


def k_means(vectors: np.ndarray, num_cells: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's algorithm on a sample; then every vector goes to the nearest centroid.

    Args:
      vectors: float32 [N, D].
      num_cells: C, at most N.
      seed: of the sample and of the first centroids.

    Returns:
      Centroids float32 [C, D], and the cell of each vector, int64 [N].
    """
    random = np.random.default_rng(seed)
    sample = vectors
    if len(vectors) > num_cells * _SAMPLE_PER_CELL:
        sample = vectors[np.sort(random.choice(len(vectors), num_cells * _SAMPLE_PER_CELL, replace=False))]
    centroids = sample[random.choice(len(sample), num_cells, replace=False)].copy()
    for _ in range(_NUM_ITERATIONS):
        cell = _nearest(sample, centroids)
        order = np.argsort(cell, kind="stable")
        counts = np.bincount(cell, minlength=num_cells)
        is_used = counts > 0  # a centroid that nobody is near stays where it is
        first = (np.cumsum(counts) - counts)[is_used]
        centroids[is_used] = np.add.reduceat(sample[order], first, axis=0) / counts[is_used, None]
    return centroids, _nearest(vectors, centroids)


def _nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """int64 [N]: each vector's nearest centroid."""
    half_square = 0.5 * np.square(centroids).sum(axis=1)
    chunks = (vectors[start : start + _CHUNK] for start in range(0, len(vectors), _CHUNK))
    return np.concatenate([np.argmax(chunk @ centroids.T - half_square, axis=1) for chunk in chunks])
