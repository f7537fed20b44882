"""The ranking SavedModel: any family's scorer behind the signatures of contract.py."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from trainer_modules import contract as c
from trainer_modules import features as f
from trainer_modules import inputs
from trainer_modules.ranking_data import FACTS, RankingData
from trainer_modules.ranking_scorer import Scorer
from trainer_modules.signatures import EXAMPLE_SPEC, QUERY, SPECS, CatalogNames, TransformedQuery, checked, specs
from trainer_modules.snapshot import History, UserSnapshot
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
        self._facts = _stored_facts(states)
        self._unknown_user = states.num_users if states else 0
        self._transform = TransformGraph(data.transform_output)
        self._transformed_query = TransformedQuery(self._transform, self._names)
        known = data.transform_output.raw_feature_spec()
        self._fact_features = [feature for feature in f.USER_FACTS if feature.name in known]
        self._scorer = scorer
        self._low, self._high = data.rating_range

    @tf.function(input_signature=[SPECS[c.USER_ID], _MOVIES_SPEC], autograph=False)
    def rank(self, user_id: tf.Tensor, movie_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """The stored state decides."""
        user_id, movie_id = checked(user_id=user_id, movie_id=movie_id)
        return self._answer(user_id, self._stored(user_id), self._snapshot.lookup(user_id), movie_id)

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
        return self._answer(user_id, self._stored(user_id), history, movie_id)

    @tf.function(input_signature=specs(c.EXAMPLES), autograph=False)
    def serving_default(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized rating examples: their own history and user facts decide, nothing stored does."""
        (examples,) = checked(examples=examples)
        spec = {**EXAMPLE_SPEC, f.MOVIE_ID.name: tf.io.FixedLenFeature([], tf.string)}
        del spec[f.TIMESTAMP.name]
        raw = tf.io.parse_example(examples, {**spec, **inputs.parsing_spec(self._fact_features)})
        names = (f.USER_ID.name, *(feature.name for feature in self._fact_features))
        transformed = self._transform({name: raw[name] for name in names})
        facts = {feature.name: transformed[feature.name] for feature in FACTS}
        history = self._names.history(*(raw[feature.name] for feature in f.HISTORY))
        return self._answer(raw[f.USER_ID.name], facts, history, raw[f.MOVIE_ID.name][:, None])

    @tf.function(input_signature=specs(c.K), autograph=False)
    def popular(self, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """The movies with most fit rows, for a client whose retrieval is down."""
        return self._names.popular(k)

    def _stored(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """string [B] -> the user's facts, [B] each; OOV_INDEX where nothing is stored."""
        user = self._snapshot.user(user_id)
        row = tf.where(user >= 0, user, self._unknown_user)
        return {name: tf.gather(values, row) for name, values in self._facts.items()}

    def _answer(
        self, user_id: tf.Tensor, facts: Mapping[str, tf.Tensor], history: History, movie_id: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """string [B], facts [B] each, ragged history [B, None], string [B, M] -> stars [B, M]."""
        newest, query = self._transformed_query(user_id, history)
        # Whatever a caller sends as stars, it cannot drive the answer to infinity.
        rating = tf.clip_by_value(newest.rating, self._low, self._high)
        query = {**query, **facts, f.HISTORY_RATING.name: rating}
        stars = self._scorer(query, self._names.positions(movie_id))
        return {c.STARS: tf.clip_by_value(stars, self._low, self._high)}


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


def _stored_facts(states: inputs.UserStates | None) -> dict[str, tf.Variable]:
    """Feature name -> int64 [U + 1]: each user's fact, and OOV_INDEX in the last row."""
    facts = {}
    for feature in FACTS:
        values = getattr(states, feature.name) if states else np.zeros(0, np.int64)
        facts[feature.name] = tf.Variable(np.append(values, f.OOV_INDEX), trainable=False, name=feature.name)
    return facts
