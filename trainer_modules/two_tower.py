"""The retrieval family "two_tower": a query tower over the user's last movies, a candidate tower over a movie's facts.

Both towers are made of the same item vectors. D coordinates, N candidates, H heads, L = HISTORY_LENGTH.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer_modules import features as f
from trainer_modules.candidate_tower import CandidateFeatures, CandidateTower
from trainer_modules.hyperparameters import TwoTower
from trainer_modules.preprocessing import age_bucket
from trainer_modules.towers import Query

_MASKED = -1e9


class QueryTower(tf.Module):
    """History and user -> vector.

    Each head is a weighted mean of the history's item vectors. A movie's weight is the softmax of two learned numbers,
    one for its place in the history, one for its age. The heads go through a linear layer that starts as their mean
    and a small network that starts at zero; the user's own vector, which starts at zero, is added.
    """

    def __init__(self, num_user_indices: int, hyperparameters: TwoTower) -> None:
        super().__init__(name="query_tower")
        p = hyperparameters
        self._dropout, self._id_dropout = p.dropout, p.user_id_dropout
        size, heads = p.embedding_dimension, p.num_heads
        # Head 0 starts with equal weights; each further head with weights that fall with distance, less and less fast.
        decay = [0.0, *(0.3 / 4.0**head for head in range(heads - 1))]
        place = np.outer(decay, np.arange(1 - f.HISTORY_LENGTH, 1))
        mean = np.tile(np.eye(size), (heads, 1)) / heads
        self.place_weight = _weight(place, "place_weight")
        self.age_weight = _weight(np.zeros((heads, f.NUM_AGE_BUCKETS)), "age_weight")
        self.linear_kernel = _weight(mean, "linear_kernel")
        self.linear_bias = _weight(np.zeros(size), "linear_bias")
        glorot = tf.keras.initializers.GlorotUniform()((size, p.hidden_units))
        self.hidden_kernel = _weight(glorot, "hidden_kernel")
        self.hidden_bias = _weight(np.zeros(p.hidden_units), "hidden_bias")
        self.output_kernel = _weight(np.zeros((p.hidden_units, size)), "output_kernel")
        self.output_bias = _weight(np.zeros(size), "output_bias")
        self.user_embedding = _weight(np.zeros((num_user_indices, size)), "user_embedding")

    def __call__(
        self,
        user_index: tf.Tensor,
        item_vector: tf.Tensor,
        history_age_bucket: tf.Tensor,
        is_history: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Makes the queries of B users at T consecutive points of time each, from one stretch of W = L + T - 1 rows.

        Query t reads the rows t to t + L - 1. In serving T is 1 and the stretch is the history.

        Args:
          user_index: int64 [B].
          item_vector: float32 [B, W, D], oldest first.
          history_age_bucket: int64 [B, T, W], as seen from query t.
          is_history: bool [B, T, W], False for rows that query t must not read and where padded.
          training: drops coordinates and user ids at random.

        Returns:
          float32 [B, T, D].
        """
        num_queries, num_rows = tf.shape(is_history)[1], tf.shape(is_history)[2]
        place = tf.range(num_rows)[None, :] - tf.range(num_queries)[:, None]
        place = tf.clip_by_value(place, 0, f.HISTORY_LENGTH - 1)
        logit = tf.stack(
            [
                tf.gather(place_weight, place)[None] + tf.gather(age_weight, history_age_bucket)
                for place_weight, age_weight in zip(
                    tf.unstack(self.place_weight), tf.unstack(self.age_weight), strict=True
                )
            ],
            axis=2,
        )
        is_read = is_history[:, :, None, :]
        weight = tf.nn.softmax(tf.where(is_read, logit, _MASKED))
        weight = tf.where(is_read, weight, 0.0)  # an empty history has a mean of zero
        num_heads, size = weight.shape[2], item_vector.shape[2]
        heads = tf.matmul(tf.reshape(weight, [-1, num_queries * num_heads, num_rows]), item_vector)
        heads = tf.reshape(heads, [-1, num_heads * size])
        if training:
            heads = tf.nn.dropout(heads, self._dropout)
            is_dropped = tf.random.uniform(tf.shape(user_index)) < self._id_dropout
            user_index = tf.where(is_dropped, tf.constant(f.OOV_INDEX, tf.int64), user_index)
        mean = tf.matmul(heads, self.linear_kernel) + self.linear_bias
        hidden = tf.nn.gelu(tf.matmul(mean, self.hidden_kernel) + self.hidden_bias)
        query = mean + tf.matmul(hidden, self.output_kernel) + self.output_bias
        user = tf.gather(self.user_embedding, user_index)
        return tf.reshape(query, [-1, num_queries, size]) + user[:, None, :]


class ServedQueryTower(tf.Module):
    """A query tower for one query per user: what retrieval_model.RetrievalModel calls."""

    def __init__(self, tower: QueryTower, size: int) -> None:
        """Takes the tower; size: D, the first so many coordinates of the candidates are its items'."""
        super().__init__(name="served_query_tower")
        self._tower, self._size = tower, size

    def __call__(self, query: Query, candidate_vectors: tf.Tensor) -> tf.Tensor:
        """As Towers.query_tower says."""
        position = query.newest.position
        item_vector = tf.gather(candidate_vectors, tf.maximum(position, 0))[:, :, : self._size]
        is_history = (position >= 0)[:, None, :]
        return self._tower(query.user_index, item_vector, query.age_bucket[:, None, :], is_history)[:, 0]


class RetrievalTask(tfrs.tasks.Retrieval):
    """tfrs.tasks.Retrieval for a step without AutoGraph: its `call` alone is converted, for its `if` on a tensor."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._converted_call = tf.autograph.to_graph(tfrs.tasks.Retrieval.call, recursive=False)

    def call(self, query_embeddings: tf.Tensor, candidate_embeddings: tf.Tensor, **kwargs: tf.Tensor) -> tf.Tensor:
        kwargs.pop("training", None)  # Keras adds it wherever it sees **kwargs
        return self._converted_call(self, query_embeddings, candidate_embeddings, **kwargs)


class TwoTowerModel(tfrs.Model):
    """Both towers and the loss that trains them."""

    def __init__(
        self,
        hyperparameters: TwoTower,
        candidate_features: CandidateFeatures,
        num_rows: np.ndarray,
        num_user_indices: int,
        num_movie_indices: int,
    ) -> None:
        """Builds the towers with fresh weights.

        Args:
          hyperparameters: the family's.
          candidate_features: of the whole catalog, N movies.
          num_rows: int [N], training rows by movie; they say how probable a movie is as a sampled negative.
          num_user_indices: rows of the user embedding.
          num_movie_indices: rows of the movie embedding.
        """
        super().__init__()
        self.candidate_tower = CandidateTower(candidate_features, num_movie_indices, hyperparameters)
        self.query_tower = QueryTower(num_user_indices, hyperparameters)
        self._task = RetrievalTask(temperature=hyperparameters.temperature, remove_accidental_hits=True)
        # Half of a sample is spread over the catalog, half goes where the rows are: the hard ones are popular.
        probability = 0.5 / len(num_rows) + 0.5 * num_rows / num_rows.sum()
        self._log_probability = np.log(probability).astype(np.float32)
        self._num_negatives = hyperparameters.num_negatives
        self._temperature = hyperparameters.temperature
        self._label_smoothing = hyperparameters.label_smoothing
        # XLA joins the task's twenty passes over the score matrix: a step takes half the time.
        self._compiled_loss = tf.function(self._loss_among_negatives, autograph=False, jit_compile=True)
        self._compiled_full_loss = tf.function(self._loss_in_catalog, autograph=False, jit_compile=True)

    def queries(
        self,
        item_vectors: tf.Tensor,
        user_index: tf.Tensor,
        position: tf.Tensor,
        timestamp: tf.Tensor,
        num_queries: int = 1,
        training: bool = False,
    ) -> tf.Tensor:
        """Query vectors from rows.

        Args:
          item_vectors: float32 [N, D], the candidate tower's.
          user_index: int64 [B].
          position: int32 [B, W], catalog positions of L + T - 1 rows, oldest first, -1 where padded.
          timestamp: int64 [B, W], seconds.
          num_queries: T.
          training: as in QueryTower.

        Returns:
          float32 [B, T, D].
        """
        user_index, position, timestamp = map(tf.convert_to_tensor, (user_index, position, timestamp))
        place = tf.range(tf.shape(position)[1])[None, :] - tf.range(num_queries)[:, None]
        is_history = ((place >= 0) & (place < f.HISTORY_LENGTH))[None] & (position >= 0)[:, None, :]
        age = age_bucket(tf.broadcast_to(timestamp[:, None, :], tf.shape(is_history)), is_history)
        vectors = tf.gather(item_vectors, tf.maximum(position, 0))
        return self.query_tower(user_index, vectors, age, is_history, training=training)

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Softmax cross-entropy of each target among the negatives, its label smoothed, in nats per target.

        Args:
          features: of B blocks: user_index [B], position and timestamp [B, L + T - 1], target_position [B, T] with
            -1 where padded.
          training: as in the towers.

        Returns:
          float32 scalar.
        """
        item_vectors = self.candidate_tower.vectors(training)
        target = features["target_position"]
        query = self.queries(
            item_vectors, features["user_index"], features["position"], features["timestamp"], target.shape[1], training
        )
        query, target = tf.reshape(query, [-1, query.shape[-1]]), tf.reshape(target, [-1])
        target_vector = tf.gather(item_vectors, tf.maximum(target, 0))
        if len(self._log_probability) <= self._num_negatives:
            return self._compiled_full_loss(query, target_vector, item_vectors, target)
        negative, expected_count = self._negatives()
        negative_vector = tf.gather(item_vectors, negative)
        return self._compiled_loss(query, target_vector, negative_vector, target, negative, expected_count)

    def _loss_in_catalog(
        self, query: tf.Tensor, target_vector: tf.Tensor, item_vectors: tf.Tensor, target: tf.Tensor
    ) -> tf.Tensor:
        """Of Q queries and targets, float32 [Q, D] and int32 [Q], -1 pads, against all N vectors: see compute_loss.

        What _loss_among_negatives gives with every movie as a negative, without the columns that the task wants for
        the targets and then has to mask: half the time.
        """
        log_sum = tf.reduce_logsumexp(tf.matmul(query, item_vectors, transpose_b=True) / self._temperature, axis=1)
        # Smoothed labels: 1 - s of the target's logit, s of the mean logit, which is that of the mean vector.
        mean_vector = tf.reduce_mean(item_vectors, axis=0)
        label_vector = target_vector + self._label_smoothing * (mean_vector - target_vector)
        of_label = tf.reduce_sum(query * label_vector, axis=1) / self._temperature
        is_target = tf.cast(target >= 0, tf.float32)
        return tf.reduce_sum(is_target * (log_sum - of_label)) / tf.reduce_sum(is_target)

    def _loss_among_negatives(
        self,
        query: tf.Tensor,
        target_vector: tf.Tensor,
        negative_vector: tf.Tensor,
        target: tf.Tensor,
        negative: tf.Tensor,
        expected_count: tf.Tensor,
    ) -> tf.Tensor:
        """Of Q queries and targets, float32 [Q, D] and int32 [Q], -1 pads, against M negatives: see compute_loss."""
        num_targets, num_negatives = tf.shape(target)[0], tf.shape(negative)[0]
        # A column for each target, scored by its own query alone, then the negatives. The targets stand there for
        # certain, so their logits need no correction; a target drawn as a negative too is an accidental hit.
        own = tf.eye(num_targets, dtype=tf.bool)
        negative_count = expected_count
        expected_count = tf.concat([tf.ones([num_targets]), negative_count], axis=0)
        is_target = tf.cast(target >= 0, tf.float32)
        loss = self._task(
            query,
            tf.concat([target_vector, negative_vector], axis=0),
            sample_weight=is_target,
            # The task cuts off what is above 1. A common factor changes nothing: it adds the same to every logit.
            candidate_sampling_probability=expected_count / tf.reduce_max(expected_count),
            candidate_ids=tf.concat([target, negative], axis=0),
            score_mask=tf.concat([own, tf.ones([num_targets, num_negatives], tf.bool)], axis=1),
            compute_metrics=False,
        )
        # Smoothed labels take share s off the target and spread it: + s (own logit - mean logit of the catalog), the
        # mean of a linear function being that of the mean vector; a sample's is weighted to be the catalog's.
        mean_vector = tf.reduce_sum(negative_vector / negative_count[:, None], axis=0) / len(self._log_probability)
        above_mean = tf.reduce_sum(query * (target_vector - mean_vector), axis=1) / self._temperature
        loss += self._label_smoothing * tf.reduce_sum(is_target * above_mean)
        return loss / tf.reduce_sum(is_target)

    def unshrunk_weights(self) -> list[tf.Variable]:
        """What weight decay leaves alone: all but the embeddings."""
        shrunk = (self.candidate_tower.embedding, self.candidate_tower.side_kernel, self.query_tower.user_embedding)
        return [weight for weight in self.trainable_variables if all(weight is not other for other in shrunk)]

    def _negatives(self) -> tuple[tf.Tensor, tf.Tensor]:
        """A sample of catalog positions, int32 [M], and how often each was to be expected in it, float32 [M]."""
        log_probability = tf.constant(self._log_probability)
        sample = tf.random.categorical(log_probability[None], self._num_negatives, dtype=tf.int32)[0]
        return sample, self._num_negatives * tf.exp(tf.gather(log_probability, sample))


def _weight(start: np.ndarray | tf.Tensor, name: str) -> tf.Variable:
    return tf.Variable(tf.cast(start, tf.float32), name=name)
