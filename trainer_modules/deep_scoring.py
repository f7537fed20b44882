"""The formula of the ranking family "deep", the same in training and in serving: stars from tables.

stars = mean + b_u + b_i + p_u . q_i + s sum_j a_ij e_j + c . x_L, where

* b_u, p_u add up what the user id, age, gender and occupation say, and the hour and weekday of the newest history item;
  b_i, q_i the movie id, genres and year of release;
* p_u also has (1 + |H|)^-1/2 sum over the history H of w_j (e_j x_j + y_j): the explicit and the implicit half of SVD++
  (Koren, Factorization meets the neighborhood, KDD 2008), e_j = r_j - mean - b_j being how much better than usual the
  user liked movie j, and w_j depending on how long before the newest item j was rated;
* a_ij is a softmax over k_i . k_j + recency_j: attention to the movies of the history that are like the candidate,
  one more place in it standing for none of them;
* x_L is what L cross layers make of x_0 = (b_u, p_u, b_i, q_i, sum_j a_ij e_j): x_l+1 = x_0 * (V U x_l + d) + x_l with
  an elementwise product (Wang et al., DCN V2, WWW 2021, equation 2).

Time and the cross layers are left out where their tables are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer_modules import features as f
from trainer_modules.ranking_data import FACTS, TIMES

Tables = Mapping[str, tf.Tensor | tf.Variable]
"""What scoring reads, by name: one row per index of the feature the table is named after, and those below."""

MEAN, RECENCY, ATTENTION = "mean", "recency", "attention"
"""[], [NUM_AGE_BUCKETS, 2] and [2]."""
HISTORY_BIAS, HISTORY_KEY, EXPLICIT, IMPLICIT = "history_bias", "history_key", "explicit", "implicit"
"""By movie index: [num_movies], [num_movies, A], [num_movies, D], [num_movies, D]."""
CROSS_IN, CROSS_OUT, CROSS_BIAS, CROSS_SCORE = "cross_in", "cross_out", "cross_bias", "cross_score"
"""U, V, d and c: [L, C, rank], [L, rank, C], [L, 1, C] and [C, 1]; C = 2 D + 3."""


class Query(NamedTuple):
    """What is known of B users, each with H history rows, D factors and A numbers in a key."""

    bias: tf.Tensor
    """[B, 1], stars."""
    factors: tf.Tensor
    """[B, D]."""
    is_row: tf.Tensor
    """bool [B, H], False where padded."""
    residual: tf.Tensor
    """[B, H], stars above what the movie usually gets; 0 where padded."""
    key: tf.Tensor
    """[B, H, A]."""
    recency: tf.Tensor
    """[B, H], added to the similarity of keys."""


def query_of(tables: Tables, features: Mapping[str, tf.Tensor]) -> Query:
    """Looks up what is known of the users.

    Args:
      tables: from DeepRanking.tables.
      features: those of ranking_data.QUERY: [B] and [B, H].
    """
    movie, age = features[f.HISTORY_MOVIE_INDEX.name], features[f.HISTORY_AGE_BUCKET.name]
    is_row = movie != f.PADDING_INDEX
    known = [feature.name for feature in (f.USER_INDEX, *FACTS, *TIMES) if feature.name in tables]
    user = tf.add_n([tf.gather(tables[name], features[name]) for name in known])
    bias, factors = user[:, :1], user[:, 1:]
    usual = tables[MEAN] + tf.gather(tables[HISTORY_BIAS], movie)
    residual = tf.where(is_row, features[f.HISTORY_RATING.name] - usual, 0.0)
    log_weight, recency = tf.unstack(tf.gather(tables[RECENCY], age), axis=-1)
    num_rows = tf.reduce_sum(tf.cast(is_row, tf.float32), axis=1, keepdims=True)
    weight = tf.where(is_row, tf.exp(log_weight), 0.0) * tf.math.rsqrt(1.0 + num_rows)
    factors += tf.einsum("bh,bhd->bd", weight * residual, tf.gather(tables[EXPLICIT], movie))
    factors += tf.einsum("bh,bhd->bd", weight, tf.gather(tables[IMPLICIT], movie))
    return Query(bias, factors, is_row, residual, tf.gather(tables[HISTORY_KEY], movie), recency)


def stars_of(tables: Tables, query: Query, movies: tf.Tensor) -> tf.Tensor:
    """Scores M movies for each of B users.

    Args:
      tables: from DeepRanking.tables.
      query: what is known of the users.
      movies: [B, M, 1 + D + A], each movie's bias, factors and key.

    Returns:
      [B, M], stars, unclipped.
    """
    sizes = [1, query.factors.shape[1], query.key.shape[2]]
    bias, factors, key = tf.split(movies, sizes, axis=2)
    none_of_them, scale = tf.unstack(tables[ATTENTION])
    similarity = tf.einsum("bma,bha->bmh", key, query.key) + query.recency[:, None, :]
    similarity = tf.where(query.is_row[:, None, :], similarity, -np.inf)
    largest = tf.maximum(tf.reduce_max(similarity, axis=2, keepdims=True), none_of_them)
    weight = tf.exp(similarity - largest)
    total = tf.reduce_sum(weight, axis=2) + tf.exp(none_of_them - largest[:, :, 0])
    neighbours = tf.einsum("bmh,bh->bm", weight, query.residual) / total
    taste = tf.einsum("bmd,bd->bm", factors, query.factors)
    stars = tables[MEAN] + query.bias + bias[:, :, 0] + taste + scale * neighbours
    if CROSS_IN not in tables:
        return stars
    user = tf.concat([query.bias, query.factors], axis=1)[:, None, :]
    user = tf.broadcast_to(user, tf.concat([tf.shape(movies)[:2], [user.shape[2]]], axis=0))
    beside = tf.concat([user, bias, factors, neighbours[:, :, None]], axis=2)
    return stars + tf.squeeze(tf.matmul(crossed(tables, beside), tables[CROSS_SCORE]), axis=2)


def crossed(tables: Tables, first: tf.Tensor) -> tf.Tensor:
    """[B, M, C], x_0 -> [B, M, C], x_L."""
    last = first
    layers = zip(*(tf.unstack(tables[name]) for name in (CROSS_IN, CROSS_OUT, CROSS_BIAS)), strict=True)
    for inwards, outwards, bias in layers:
        last = first * (tf.matmul(tf.matmul(last, inwards), outwards) + bias) + last
    return last
