"""How well a retrieval model does on held-out rows, while it is being trained.

One query per user, over the whole catalog, with everything the user's state holds masked.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from trainer_modules import features as f
from trainer_modules import metrics
from trainer_modules.inputs import UserStates
from trainer_modules.preprocessing import age_bucket
from trainer_modules.snapshot import History, UserSnapshot, dense, newest
from trainer_modules.top_k import mask, top_k
from trainer_modules.towers import Query

_BATCH = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Queries:
    """Q users with held-out rows, and what may be known of them."""

    user_index: np.ndarray
    """int64 [Q]; OOV_INDEX for a user without rows in the state."""
    history: History
    """[Q, HISTORY_LENGTH], the newest rows of the state, padded on the left."""
    whole_history: History
    """Ragged [Q, None]: all rows of the state."""
    seen: np.ndarray
    """int32 [Q, S], catalog positions of all rows of the state, -1 pads."""
    positive: np.ndarray
    """int32 [P], catalog positions of the held-out rows, one query after the other."""
    positive_rating: np.ndarray
    """float32 [P], stars."""
    positive_row_splits: np.ndarray
    """int64 [Q + 1]."""
    facts: np.ndarray
    """int64 [Q, 3]: features.USER_FACT_INDICES."""

    @property
    def asked(self) -> Query:
        """The queries as a query tower takes them."""
        age = age_bucket(tf.constant(self.history.timestamp), tf.constant(self.history.position >= 0))
        return Query(tf.constant(self.user_index), self.whole_history, self.history, age, tf.constant(self.facts))

    @property
    def num_relevant(self) -> np.ndarray:
        """int64 [Q]: held-out rows of each query."""
        return np.diff(self.positive_row_splits)


def queries(states: UserStates, user_index: np.ndarray, held_out: UserStates) -> Queries:
    """Asks once for every user with held-out rows.

    Args:
      states: what is known; never the held-out rows.
      user_index: int64 [U], how the model knows the users of `states`.
      held_out: the rows to be predicted.
    """
    num_rows = np.diff(held_out.row_splits)
    has_rows = num_rows > 0
    user_id = held_out.user_id[has_rows]
    rows = UserSnapshot(states).lookup(tf.constant(user_id, tf.string))
    index_of = dict(zip(states.user_id, user_index, strict=True))
    return Queries(
        user_index=np.array([index_of.get(user, f.OOV_INDEX) for user in user_id], np.int64),
        history=History(*(np.asarray(part) for part in newest(rows, f.HISTORY_LENGTH))),
        whole_history=rows,
        seen=np.asarray(dense(rows).position),
        positive=held_out.position,
        positive_rating=held_out.rating,
        positive_row_splits=np.concatenate([[0], np.cumsum(num_rows[has_rows])]).astype(np.int64),
        facts=held_out.facts[has_rows],
    )


def ndcg_at_10(query_vectors: tf.Tensor, candidate_vectors: tf.Tensor, asked: Queries) -> float:
    """Mean over the queries. float32 [Q, D] and [N, D], in the queries' and in catalog order."""
    return float(ndcg_at_10_of_each(query_vectors, candidate_vectors, asked).mean())


def ndcg_at_10_of_each(query_vectors: tf.Tensor, candidate_vectors: tf.Tensor, asked: Queries) -> np.ndarray:
    """float32 [Q, D] and [N, D] -> float64 [Q]."""
    best = []
    for n in range(0, len(asked.seen), _BATCH):
        scores = tf.matmul(query_vectors[n : n + _BATCH], candidate_vectors, transpose_b=True)
        scores = mask(scores, asked.seen[n : n + _BATCH])
        best.append(np.asarray(top_k(scores, tf.fill(tf.shape(scores)[:1], 10)).position))
    hit = metrics.hits(np.concatenate(best), asked.positive, asked.positive_row_splits)
    return metrics.ndcg_at_k(hit, asked.num_relevant, 10)


def cross_entropy(query_vectors: tf.Tensor, candidate_vectors: tf.Tensor, asked: Queries) -> float:
    """Of the held-out rows under the softmax over the whole catalog, nothing masked, in nats per row.

    float32 [Q, D] and [N, D], in the queries' and in catalog order.
    """
    log_sum = [
        tf.reduce_logsumexp(tf.matmul(query_vectors[n : n + _BATCH], candidate_vectors, transpose_b=True), axis=1)
        for n in range(0, len(asked.seen), _BATCH)
    ]
    query = np.repeat(np.arange(len(asked.num_relevant)), asked.num_relevant)
    score = np.einsum("pd,pd->p", np.asarray(query_vectors)[query], np.asarray(candidate_vectors)[asked.positive])
    return float(np.mean(np.concatenate(log_sum)[query] - score))
