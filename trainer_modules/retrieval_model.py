"""The retrieval model that is served: candidate vectors, a query tower, and the signatures of contract.py.

Nothing here knows a family: whatever gives query and candidate vectors whose dot product is the score can be served.
N candidates of D coordinates, B requests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from trainer_modules import contract as c
from trainer_modules import features as f
from trainer_modules import hyperparameters
from trainer_modules.catalog_filter import CatalogFilter
from trainer_modules.hyperparameters import Index
from trainer_modules.index_growth import parts
from trainer_modules.inputs import Catalog, UserStates
from trainer_modules.inverted_file import InvertedFile
from trainer_modules.retrieval_data import RetrievalData
from trainer_modules.signatures import (
    EXAMPLE_SPEC,
    QUERY,
    CatalogNames,
    ExampleFacts,
    TransformedQuery,
    checked,
    seen_positions,
    specs,
)
from trainer_modules.snapshot import FACTS_TYPE, HISTORY_TYPES, History, UserSnapshot, dense, ragged
from trainer_modules.top_k import mask, ranks, top_k
from trainer_modules.towers import Query, Towers
from trainer_modules.transform_graph import TransformGraph

_MOVIE_ID = tf.TensorSpec([None], tf.string, c.MOVIE_ID)

Answer = dict[str, tf.Tensor]


def export(data: RetrievalData, towers: Towers, path: str, user_snapshot: bool, index: Index | None = None) -> None:
    """Saves the model that is served, with every signature of contract.RETRIEVAL_SIGNATURES.

    Args:
      data: what the towers were trained on.
      towers: refitted on data.fit.
      path: of the SavedModel.
      user_snapshot: whether the model may hold its users' rows.
      index: how candidates are looked up; None: exactly.
    """
    model = RetrievalModel(
        data.catalog,
        towers,
        data.transform_output,
        num_fit_rows=data.fit.counts(data.catalog.num_movies),
        snapshot=data.everything if user_snapshot else None,
        index=index or Index(),
    )
    tf.saved_model.save(model, path, signatures=model.signatures())


class RetrievalModel(tf.Module):
    """What tf.saved_model.save writes. Every answer follows from the request and the model's constants."""

    def __init__(
        self,
        catalog: Catalog,
        towers: Towers,
        transform_output: tft.TFTransformOutput,
        num_fit_rows: np.ndarray,
        snapshot: UserStates | None,
        index: Index,
    ) -> None:
        """Puts a trained model together.

        Args:
          catalog: N movies.
          towers: of a trained family.
          transform_output: turns users and histories into indices.
          num_fit_rows: int [N], by movie; `popular` is made of it.
          snapshot: the states that `recommend` answers from; None leaves them out.
          index: how candidates are looked up.
        """
        super().__init__(name="retrieval")
        self._names = CatalogNames(catalog, num_fit_rows)
        self._filter = CatalogFilter(catalog)
        self._candidates = tf.Variable(towers.candidate_vectors, trainable=False, name="candidates")
        transform = TransformGraph(transform_output)
        self._transformed = TransformedQuery(transform, self._names)
        self._example_facts = ExampleFacts(transform, transform_output)
        self._query_tower = towers.query_tower
        self._num_taste_coordinates = towers.num_taste_coordinates
        self._snapshot = UserSnapshot(snapshot)
        self._inverted_file = None
        if index.kind == hyperparameters.INVERTED_FILE:
            self._inverted_file = InvertedFile(towers.candidate_vectors, index.cells, index.probes)
        if towers.new_candidates is not None:
            # Not signatures: what an index needs that grows (index_growth).
            self.parts = parts(towers)

    def signatures(self) -> dict[str, Callable[..., Answer]]:
        """The functions to save, by contract.RETRIEVAL_SIGNATURES."""
        return {name: getattr(self, name) for name in c.RETRIEVAL_SIGNATURES}

    @tf.function(input_signature=specs(c.EXAMPLES), autograph=False)
    def serving_default(self, examples: tf.Tensor) -> Answer:
        """The example's history where it brings one, else the stored snapshot; and so with each of the user's facts."""
        (examples,) = checked(examples=examples)
        parsed = tf.io.parse_example(examples, {**EXAMPLE_SPEC, **self._example_facts.spec})
        movie_id, rating, timestamp = (parsed[feature.name] for feature in f.HISTORY)
        brought = History(self._names.positions(movie_id), rating, timestamp)
        user_id = parsed[f.USER_ID.name]
        stored = dense(self._snapshot.lookup(user_id, tf.reduce_all(brought.position < 0, axis=1)))
        # One of the two is empty in every row.
        history = ragged(History(*(tf.concat(parts, axis=1) for parts in zip(brought, stored, strict=True))))
        facts = self._example_facts(parsed)
        facts = tf.where(facts == f.OOV_INDEX, self._snapshot.facts(user_id), facts)
        k = tf.fill(tf.shape(user_id), c.DEFAULT_K)
        return self._recommended(user_id, history, seen_positions(history), k, facts)

    @tf.function(input_signature=specs(c.USER_ID, c.EXCLUDE_MOVIE_ID, c.K), autograph=False)
    def recommend(self, user_id: tf.Tensor, exclude_movie_id: tf.Tensor, k: tf.Tensor) -> Answer:
        """From the stored snapshot, less what it has seen."""
        user_id, exclude_movie_id, k = checked(user_id=user_id, exclude_movie_id=exclude_movie_id, k=k)
        history = self._snapshot.lookup(user_id)
        hidden = tf.concat([seen_positions(history), self._names.positions(exclude_movie_id)], axis=1)
        return self._recommended(user_id, history, hidden, k)

    @tf.function(
        input_signature=specs(c.USER_ID, c.GENRE, c.MIN_YEAR, c.MAX_YEAR, c.EXCLUDE_MOVIE_ID, c.K), autograph=False
    )
    def recommend_filtered(
        self,
        user_id: tf.Tensor,
        genre: tf.Tensor,
        min_year: tf.Tensor,
        max_year: tf.Tensor,
        exclude_movie_id: tf.Tensor,
        k: tf.Tensor,
    ) -> Answer:
        """As recommend, but only what passes the filters."""
        user_id, genre, min_year, max_year, exclude_movie_id, k = checked(
            user_id=user_id, genre=genre, min_year=min_year, max_year=max_year, exclude_movie_id=exclude_movie_id, k=k
        )
        history = self._snapshot.lookup(user_id)
        passes = self._filter(genre, min_year, max_year)
        scores = tf.where(passes, self._scores(user_id, history), tf.constant(-np.inf, tf.float32))
        hidden = tf.concat([seen_positions(history), self._names.positions(exclude_movie_id)], axis=1)
        return self._best(scores, hidden, k)

    @tf.function(input_signature=specs(*QUERY, c.SEEN_MOVIE_ID, c.EXCLUDE_MOVIE_ID, c.K), autograph=False)
    def recommend_for_history(
        self,
        user_id: tf.Tensor,
        history_movie_id: tf.Tensor,
        history_rating: tf.Tensor,
        history_timestamp: tf.Tensor,
        query_timestamp: tf.Tensor,
        seen_movie_id: tf.Tensor,
        exclude_movie_id: tf.Tensor,
        k: tf.Tensor,
    ) -> Answer:
        """From the caller's state, which replaces the stored one."""
        user_id, movie_id, rating, timestamp, _, seen, exclude, k = checked(
            user_id=user_id,
            history_movie_id=history_movie_id,
            history_rating=history_rating,
            history_timestamp=history_timestamp,
            query_timestamp=query_timestamp,
            seen_movie_id=seen_movie_id,
            exclude_movie_id=exclude_movie_id,
            k=k,
        )
        hidden = self._names.positions(tf.concat([seen, exclude], axis=1))
        return self._recommended(user_id, self._names.history(movie_id, rating, timestamp), hidden, k)

    @tf.function(
        input_signature=specs(*QUERY, c.SEEN_MOVIE_ID, c.GENRE, c.MIN_YEAR, c.MAX_YEAR, c.EXCLUDE_MOVIE_ID, c.K),
        autograph=False,
    )
    def recommend_filtered_for_history(
        self,
        user_id: tf.Tensor,
        history_movie_id: tf.Tensor,
        history_rating: tf.Tensor,
        history_timestamp: tf.Tensor,
        query_timestamp: tf.Tensor,
        seen_movie_id: tf.Tensor,
        genre: tf.Tensor,
        min_year: tf.Tensor,
        max_year: tf.Tensor,
        exclude_movie_id: tf.Tensor,
        k: tf.Tensor,
    ) -> Answer:
        """As recommend_for_history, but only what passes the filters."""
        user_id, movie_id, rating, timestamp, _, seen, genre, min_year, max_year, exclude, k = checked(
            user_id=user_id,
            history_movie_id=history_movie_id,
            history_rating=history_rating,
            history_timestamp=history_timestamp,
            query_timestamp=query_timestamp,
            seen_movie_id=seen_movie_id,
            genre=genre,
            min_year=min_year,
            max_year=max_year,
            exclude_movie_id=exclude_movie_id,
            k=k,
        )
        scores = self._scores(user_id, self._names.history(movie_id, rating, timestamp))
        passes = self._filter(genre, min_year, max_year)
        hidden = self._names.positions(tf.concat([seen, exclude], axis=1))
        return self._best(tf.where(passes, scores, tf.constant(-np.inf, tf.float32)), hidden, k)

    @tf.function(input_signature=[_MOVIE_ID, *specs(c.K)], autograph=False)
    def similar(self, movie_id: tf.Tensor, k: tf.Tensor) -> Answer:
        """Nearest by cosine. A movie that is not in the catalog is near to nothing."""
        movie_id, k = checked(movie_id=movie_id, k=k)
        position = self._names.positions(movie_id)
        direction = tf.math.l2_normalize(self._candidates[:, : self._num_taste_coordinates], axis=1)
        cosine = tf.matmul(tf.gather(direction, tf.maximum(position, 0)), direction, transpose_b=True)
        cosine = tf.where(position[:, None] >= 0, cosine, tf.constant(-np.inf, tf.float32))
        return self._best(cosine, position[:, None], k)

    @tf.function(input_signature=specs(c.K), autograph=False)
    def popular(self, k: tf.Tensor) -> Answer:
        """The movies with most fit rows."""
        return self._names.popular(k)

    @tf.function(
        input_signature=specs(*QUERY, c.SEEN_MOVIE_ID, c.EXCLUDE_MOVIE_ID, c.POSITIVE_MOVIE_ID), autograph=False
    )
    def evaluate(
        self,
        user_id: tf.Tensor,
        history_movie_id: tf.Tensor,
        history_rating: tf.Tensor,
        history_timestamp: tf.Tensor,
        query_timestamp: tf.Tensor,
        seen_movie_id: tf.Tensor,
        exclude_movie_id: tf.Tensor,
        positive_movie_id: tf.Tensor,
    ) -> Answer:
        """Where the positives stand in the list that recommend_for_history would give with k = N."""
        user_id, movie_id, rating, timestamp, _, seen, exclude, positive = checked(
            user_id=user_id,
            history_movie_id=history_movie_id,
            history_rating=history_rating,
            history_timestamp=history_timestamp,
            query_timestamp=query_timestamp,
            seen_movie_id=seen_movie_id,
            exclude_movie_id=exclude_movie_id,
            positive_movie_id=positive_movie_id,
        )
        scores = self._scores(user_id, self._names.history(movie_id, rating, timestamp))
        hidden = self._names.positions(tf.concat([seen, exclude], axis=1))
        return {c.RANK_OUT: ranks(mask(scores, hidden), self._names.positions(positive))}

    @tf.function(input_signature=specs(*QUERY), autograph=False)
    def embed_query(
        self,
        user_id: tf.Tensor,
        history_movie_id: tf.Tensor,
        history_rating: tf.Tensor,
        history_timestamp: tf.Tensor,
        query_timestamp: tf.Tensor,
    ) -> Answer:
        """The query vectors."""
        user_id, movie_id, rating, timestamp, _ = checked(
            user_id=user_id,
            history_movie_id=history_movie_id,
            history_rating=history_rating,
            history_timestamp=history_timestamp,
            query_timestamp=query_timestamp,
        )
        return {c.EMBEDDING: self._query(user_id, self._names.history(movie_id, rating, timestamp))}

    @tf.function(input_signature=[_MOVIE_ID], autograph=False)
    def embed_candidate(self, movie_id: tf.Tensor) -> Answer:
        """The candidate vectors; zeros for a movie that is not in the catalog."""
        (movie_id,) = checked(movie_id=movie_id)
        position = self._names.positions(movie_id)
        vector = tf.gather(self._candidates, tf.maximum(position, 0))
        return {c.EMBEDDING: tf.where(position[:, None] >= 0, vector, 0.0)}

    def _query(self, user_id: tf.Tensor, history: History, facts: tf.Tensor | None = None) -> tf.Tensor:
        """Facts that are not given are the stored ones."""
        return self._query_vectors(user_id, *history, self._snapshot.facts(user_id) if facts is None else facts)

    @tf.function(input_signature=[*specs(c.USER_ID), *HISTORY_TYPES, FACTS_TYPE], autograph=False)
    def _query_vectors(self, user_id: tf.Tensor, *state: tf.Tensor) -> tf.Tensor:
        """A function of its own that signatures call: else each had a copy of the transform graph and the tower."""
        history, facts = History(*state[:3]), state[3]
        newest, transformed = self._transformed(user_id, history)
        index, age_bucket = transformed[f.USER_INDEX.name], transformed[f.HISTORY_AGE_BUCKET.name]
        return self._query_tower(Query(index, history, newest, age_bucket, facts), self._candidates)

    def _scores(self, user_id: tf.Tensor, history: History) -> tf.Tensor:
        return tf.matmul(self._query(user_id, history), self._candidates, transpose_b=True)

    def _recommended(
        self, user_id: tf.Tensor, history: History, hidden: tf.Tensor, k: tf.Tensor, facts: tf.Tensor | None = None
    ) -> Answer:
        query = self._query(user_id, history, facts)
        if self._inverted_file is None:
            return self._best(tf.matmul(query, self._candidates, transpose_b=True), hidden, k)
        return self._names.answer(self._inverted_file(query, self._candidates, hidden, k))

    def _best(self, scores: tf.Tensor, hidden: tf.Tensor, k: tf.Tensor) -> Answer:
        return self._names.answer(top_k(mask(scores, hidden), k))
