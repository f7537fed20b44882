"""The ranking SavedModel: any family's scorer behind the signatures of contract.py."""

from __future__ import annotations

import logging

import numpy as np
import tensorflow as tf

from trainer_modules import contract as c
from trainer_modules import features as f
from trainer_modules import inputs
from trainer_modules.ranking_data import FACTS, RankingData
from trainer_modules.ranking_scorer import Scorer
from trainer_modules.signatures import (
    EXAMPLE_SPEC,
    QUERY,
    SPECS,
    CatalogNames,
    ExampleFacts,
    TransformedQuery,
    checked,
    specs,
)
from trainer_modules.snapshot import FACTS_TYPE, HISTORY_TYPES, History, UserSnapshot
from trainer_modules.transform_graph import TransformGraph

_LOG = logging.getLogger("movierec.ranking")

_MOVIES_SPEC = tf.TensorSpec([None, None], tf.string, c.MOVIE_ID)


class RankingModel(tf.Module):
    """What is served."""

    def __init__(self, scorer: Scorer, data: RankingData, user_snapshot: bool) -> None:
        """Puts a scorer behind the signatures.

        Args:
          scorer: the fitted family.
          data: what it was fitted on.
          user_snapshot: whether the model remembers its users: their rows of every split, and their facts.
        """
        super().__init__(name="ranking")
        fit_rows = data.fit[f.MOVIE_INDEX.name]
        num_rows = np.bincount(fit_rows, minlength=data.num_movies)
        num_rows[: f.FIRST_INDEX] = 0
        self._names = CatalogNames(data.catalog, num_rows[data.catalog.movie_index])
        states = None
        if user_snapshot:
            states = inputs.load_user_states(data.user_state_uri, f.SPLITS, data.catalog, data.transform_output)
        self._snapshot = UserSnapshot(states)
        self._transform = TransformGraph(data.transform_output)
        self._transformed_query = TransformedQuery(self._transform, self._names)
        self._example_facts = ExampleFacts(self._transform, data.transform_output)
        self._scorer = scorer
        self._low, self._high = data.rating_range

    @tf.function(input_signature=[SPECS[c.USER_ID], _MOVIES_SPEC], autograph=False)
    def rank(self, user_id: tf.Tensor, movie_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """The stored state decides."""
        user_id, movie_id = checked(user_id=user_id, movie_id=movie_id)
        return self._answer(user_id, self._snapshot.facts(user_id), self._snapshot.lookup(user_id), movie_id)

    @tf.function(input_signature=[*specs(*QUERY), _MOVIES_SPEC], autograph=False)
    def rank_for_history(
        self,
        user_id: tf.Tensor,
        history_movie_id: tf.Tensor,
        history_rating: tf.Tensor,
        history_timestamp: tf.Tensor,
        query_timestamp: tf.Tensor,
        movie_id: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The caller's rows decide; of what is stored only the user's facts are used.

        No family asks what time it is: the age of a history item counts from its newest one, whose hour and weekday
        stand for the request's, so that all signatures agree.
        """
        user_id, history_movie_id, history_rating, history_timestamp, _, movie_id = checked(
            user_id=user_id,
            history_movie_id=history_movie_id,
            history_rating=history_rating,
            history_timestamp=history_timestamp,
            query_timestamp=query_timestamp,
            movie_id=movie_id,
        )
        history = self._names.history(history_movie_id, history_rating, history_timestamp)
        return self._answer(user_id, self._snapshot.facts(user_id), history, movie_id)

    @tf.function(input_signature=specs(c.EXAMPLES), autograph=False)
    def serving_default(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized rating examples: their own history and user facts decide, nothing stored does."""
        (examples,) = checked(examples=examples)
        spec = {**EXAMPLE_SPEC, f.MOVIE_ID.name: tf.io.FixedLenFeature([], tf.string)}
        del spec[f.TIMESTAMP.name]
        raw = tf.io.parse_example(examples, {**spec, **self._example_facts.spec})
        history = self._names.history(*(raw[feature.name] for feature in f.HISTORY))
        facts = self._example_facts(raw)
        return self._answer(raw[f.USER_ID.name], facts, history, raw[f.MOVIE_ID.name][:, None])

    @tf.function(input_signature=specs(c.K), autograph=False)
    def popular(self, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """The movies with most fit rows, for a client whose retrieval is down."""
        return self._names.popular(k)

    def _answer(
        self, user_id: tf.Tensor, facts: tf.Tensor, history: History, movie_id: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """string [B], int64 [B, 3], ragged history [B, None], string [B, M] -> stars [B, M]."""
        return {c.STARS: self._stars(user_id, facts, movie_id, *history)}

    @tf.function(input_signature=[SPECS[c.USER_ID], FACTS_TYPE, _MOVIES_SPEC, *HISTORY_TYPES], autograph=False)
    def _stars(self, user_id: tf.Tensor, facts: tf.Tensor, movie_id: tf.Tensor, *rows: tf.Tensor) -> tf.Tensor:
        """A function of its own that signatures call: else each had a copy of the transform graph and the scorer."""
        newest, query = self._transformed_query(user_id, History(*rows))
        # Whatever a caller sends as stars, it cannot drive the answer to infinity; what is no number says nothing.
        rating = tf.where(tf.math.is_nan(newest.rating), (self._low + self._high) / 2.0, newest.rating)
        rating = tf.clip_by_value(rating, self._low, self._high)
        query = {**query, **_by_name(facts), f.HISTORY_RATING.name: rating}
        stars = self._scorer(query, self._names.positions(movie_id))
        return tf.clip_by_value(stars, self._low, self._high)


def export(scorer: Scorer, data: RankingData, serving_model_dir: str, user_snapshot: bool) -> None:
    """Saves the ranking model, its four signatures and its transform graph, as a SavedModel.

    Args:
      scorer: the fitted family.
      data: what it was fitted on.
      serving_model_dir: where to.
      user_snapshot: whether the model remembers its users: their rows of every split, and their facts.
    """
    model = RankingModel(scorer, data, user_snapshot)
    signatures = {name: getattr(model, name) for name in c.RANKING_SIGNATURES}
    tf.saved_model.save(model, serving_model_dir, signatures=signatures)
    _LOG.info(
        "ranking model saved: %d movies, %s", data.catalog.num_movies,
        "with what its users have rated" if user_snapshot else "without any user's rows",
    )  # fmt: skip


def _by_name(facts: tf.Tensor) -> dict[str, tf.Tensor]:
    """int64 [B, 3] -> [B] each, by the names of FACTS."""
    return {feature.name: values for feature, values in zip(FACTS, tf.unstack(facts, axis=1), strict=True)}
