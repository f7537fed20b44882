"""Fits a two-tower: once on train, looking at eval after each epoch, and once more on all fit rows for the export."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainer_modules import blocks, distribution, hyperparameters, linear_part, newcomers, retrieval_evaluation
from trainer_modules import features as f
from trainer_modules.candidate_tower import CandidateFeatures
from trainer_modules.epochs import Note
from trainer_modules.hyperparameters import TwoTower
from trainer_modules.inputs import UserStates, num_indices
from trainer_modules.linear_part import JoinedQueryTower, Shares
from trainer_modules.new_candidates import NewCandidates
from trainer_modules.newcomers import Taste
from trainer_modules.retrieval_data import RetrievalData
from trainer_modules.towers import Towers
from trainer_modules.training import WeightAverage, compiled_step
from trainer_modules.two_tower import ServedQueryTower, TwoTowerModel
from trainer_modules.warm_start import Weights, adamw, vocabulary_keys

_LOG = logging.getLogger("movierec")
_USERS, _MOVIES = "user_embedding", "movie_embedding"
_FINAL_LEARNING_RATE = 0.02
"""As a share of the first."""

OnEpoch = Callable[[int, TwoTowerModel, float, float], None]
"""Called after each epoch with its number from 1, the model, the mean loss, and targets per second."""


def train(data: RetrievalData, values: Mapping[str, Any], seed: int) -> Towers:
    """The family's entry: tunes, refits, hands over what is served.

    Args:
      data: all of it.
      values: hyperparameters by field name of TwoTower; the rest by default.
      seed: of every random choice.

    Raises:
      ValueError: an unknown hyperparameter, or a split without rows.
    """
    p = hyperparameters.parse(TwoTower, values)
    num_occupations = num_indices(data.transform_output, f.OCCUPATION_VOCABULARY)
    taste = newcomers.choose(data.train, data.catalog.num_movies, num_occupations)
    shares, notes = tune(data, p, taste, seed)
    _LOG.info(
        "retrieval: best on eval with %g x the linear score and %g x log recent popularity; users without a history get"
        " popularity with a half-life of %g days and %g x what their age, gender and occupation say; fitting anew on"
        " train + eval", *shares, *taste,
    )  # fmt: skip

    def report(epoch: int, model: TwoTowerModel, loss: float, rate: float) -> None:
        notes.append({"phase": "refit", "epoch": epoch, "train_loss": loss})
        _LOG.info("retrieval refit: epoch %d/%d, loss %.3f, %.0f examples/s", epoch, p.num_epochs, loss, rate)

    model = fit(data.fit, data, p, seed, p.num_epochs, report)
    data.warm_start.keep(lambda: weights(model, data))
    query_tower, candidates, unrated = _joined(model, data.fit, data, p, shares, taste, seed)
    return Towers(
        candidates, query_tower, num_taste_coordinates=p.embedding_dimension, epochs=tuple(notes),
        new_candidates=NewCandidates(model.candidate_tower, unrated),
    )  # fmt: skip


def tune(data: RetrievalData, p: TwoTower, taste: Taste, seed: int) -> tuple[Shares, list[Note]]:
    """Fits on train and takes the shares of the score's parts that suit the eval rows best.

    Args:
      data: all of it.
      p: hyperparameters.
      taste: of newcomers.
      seed: of every random choice.

    Returns:
      The shares, and a note of each epoch: train_loss as it is minimised (smoothed labels, dropout, sampled negatives),
      eval_loss the plain cross-entropy over the catalog, both of the towers alone, in nats per row.

    Raises:
      ValueError: no eval rows.
    """
    if not len(data.held_out.position):
        raise ValueError("The eval split has no rows, so nothing can be tuned on it: choose a split that fills it.")
    asked = retrieval_evaluation.queries(data.train, _known_users(data.train, data, p), data.held_out)
    notes: list[Note] = []

    def evaluate(epoch: int, model: TwoTowerModel, loss: float, rate: float) -> None:
        vectors = model.candidate_tower.vectors()
        query = model.queries(vectors, asked.user_index, asked.history.position, asked.history.timestamp)[:, 0]
        ndcg = retrieval_evaluation.ndcg_at_10(query, vectors, asked)
        eval_loss = retrieval_evaluation.cross_entropy(query, vectors, asked)
        notes.append({
            "phase": "tuning", "epoch": epoch, "train_loss": loss, "eval_loss": eval_loss, "eval_ndcg_at_10": ndcg,
        })
        _LOG.info(
            "retrieval tuning: epoch %d/%d, loss %.3f, eval loss %.3f, eval ndcg_at_10 %.4f, %.0f examples/s",
            epoch, p.num_epochs, loss, eval_loss, ndcg, rate,
        )  # fmt: skip

    model = fit(data.train, data, p, seed, p.num_epochs, evaluate)
    query_tower, candidates, _ = _joined(model, data.train, data, p, Shares(0.0, 0.0), taste, seed)
    shares = linear_part.choose_shares(query_tower, candidates, asked, p)
    query = query_tower(asked.asked, tf.constant(candidates))
    data.on_tuned(retrieval_evaluation.ndcg_at_10(query, candidates, asked))
    return shares, notes


def _joined(
    model: TwoTowerModel, states: UserStates, data: RetrievalData, p: TwoTower, shares: Shares, taste: Taste, seed: int
) -> tuple[JoinedQueryTower, np.ndarray, np.ndarray]:
    """The query tower, the candidates' vectors, and what follows the tower's coordinates in one without rows."""
    num_movies = data.catalog.num_movies
    new = newcomers.part(
        states, num_movies, num_indices(data.transform_output, f.OCCUPATION_VOCABULARY), taste, p.fact_rank
    )
    vectors = model.candidate_tower.vectors().numpy()
    candidates = linear_part.candidate_vectors(vectors, states, p, new.candidates, seed)
    unrated = linear_part.coordinates_without_rows(states, num_movies, p, new.unrated)
    served = ServedQueryTower(model.query_tower, p.embedding_dimension)
    return JoinedQueryTower(served, shares, p, new.facts), candidates, unrated


def fit(
    states: UserStates, data: RetrievalData, p: TwoTower, seed: int, num_epochs: int, on_epoch: OnEpoch
) -> TwoTowerModel:
    """Trains a model, from scratch or from what data.warm_start brings. The same arguments give the same weights.

    Args:
      states: the rows to train on.
      data: of which they are; gives the catalog and the sizes of the vocabularies.
      p: the hyperparameters.
      seed: of every random choice.
      num_epochs: to stop after; the learning rate falls as if there were p.num_epochs.
      on_epoch: called after each.

    Raises:
      ValueError: no rows.
    """
    if not len(states.position):
        raise ValueError("There are no rows to train on.")
    tf.keras.utils.set_random_seed(seed)
    num_rows = states.counts(data.catalog.num_movies)
    movies = vocabulary_keys(data.transform_output, f.MOVIE_VOCABULARY)
    known_movies = data.warm_start.knows(_MOVIES, movies, p.embedding_dimension)
    with distribution.together():
        model = TwoTowerModel(
            p,
            CandidateFeatures.of(data.catalog, (num_rows > 0) | known_movies[data.catalog.movie_index]),
            num_rows,
            num_user_indices=num_indices(data.transform_output, f.USER_VOCABULARY),
            num_movie_indices=num_indices(data.transform_output, f.MOVIE_VOCABULARY),
        )
    anchors = data.warm_start.begin(lambda: weights(model, data))
    batches = blocks.dataset(states, _known_users(states, data, p), p.targets_per_block, p.blocks_per_batch, seed)
    steps = int(batches.cardinality())
    schedule = tf.keras.optimizers.schedules.CosineDecay(p.learning_rate, steps * p.num_epochs, _FINAL_LEARNING_RATE)
    with distribution.together():
        model.compile(optimizer=adamw(schedule, p.weight_decay, model.unshrunk_weights(), anchors))
        # A step that makes no variables is traced once and not twice.
        model.optimizer.build(model.trainable_variables)
    step = compiled_step(model)
    average = WeightAverage(model.trainable_variables, p.average_momentum)
    for epoch in range(1, num_epochs + 1):
        start_s = time.monotonic()
        losses = []
        for batch in batches:
            losses.append(step(batch)["loss"])
            average.update()
        rate = len(states.position) / (time.monotonic() - start_s)
        with average.in_place():
            on_epoch(epoch, model, float(np.mean(losses)), rate)
    average.put()
    return model


def weights(model: TwoTowerModel, data: RetrievalData) -> Weights:
    """For a warm start: the variables by name, and what the rows of the embeddings stand for."""
    features, output = model.candidate_tower.features, data.transform_output
    genres, words = (vocabulary_keys(output, name) for name in (f.GENRE_VOCABULARY, f.WORD_VOCABULARY))
    side = [
        *(b"genre " + key for key in genres.tolist()),
        *(b"year %d" % year for year in range(f.NUM_YEAR_INDICES)),
        *(b"word " + key for key in words[features.shared_word].tolist()),
    ]
    return Weights(
        {variable.name.partition(":")[0]: variable for variable in model.trainable_variables},
        {
            _USERS: vocabulary_keys(output, f.USER_VOCABULARY),
            _MOVIES: vocabulary_keys(output, f.MOVIE_VOCABULARY),
            "side_kernel": np.array(side),
        },
    )


def _known_users(states: UserStates, data: RetrievalData, p: TwoTower) -> np.ndarray:
    """int64 [U]: a user without rows here or before has a vector that nothing has trained, so counts as unknown."""
    users = vocabulary_keys(data.transform_output, f.USER_VOCABULARY)
    is_known = data.warm_start.knows(_USERS, users, p.embedding_dimension)
    is_trained = (np.diff(states.row_splits) > 0) | is_known[states.user_index]
    return np.where(is_trained, states.user_index, f.OOV_INDEX)
