"""Rating rows as the sparse matrix they are, with what is known of its rows and columns.

U users and N movies with fit rows, in the order of their vocabularies; T observed cells; A and G side features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainer_modules import features as f
from trainer_modules.ranking_data import FACTS, RankingData, Rows


class RatingMatrix(NamedTuple):
    """The cells that some rows fill."""

    user: np.ndarray
    """int64 [T], user index - FIRST_INDEX: 0 to U - 1."""
    movie: np.ndarray
    """int64 [T], movie index - FIRST_INDEX: 0 to N - 1."""
    stars: np.ndarray
    """float32 [T]."""
    user_side: np.ndarray
    """float32 [U, A]: a 1 for the age, one for the gender, one for the occupation."""
    movie_side: np.ndarray
    """float32 [N, G]: the genres, a row of length 1, and a 1 for the bin of years."""


def of_rows(rows: Rows, data: RankingData) -> RatingMatrix:
    """The matrix of some of the data's fit rows; its users and movies are those of all of them."""
    fit, num_users = data.fit, data.num_users - f.FIRST_INDEX
    user_side = np.zeros((num_users, sum(fact_sizes(data))), np.float32)
    known = fit[f.USER_INDEX.name] - f.FIRST_INDEX
    first = 0
    for fact, size in zip(FACTS, fact_sizes(data), strict=True):
        user_side[known, first + fit[fact.name]] = 1.0
        first += size
    movie_side = np.zeros((data.num_movies - f.FIRST_INDEX, data.catalog.genres.shape[1] + f.NUM_YEAR_INDICES))
    is_known = data.catalog.movie_index >= f.FIRST_INDEX
    movie_side[data.catalog.movie_index[is_known] - f.FIRST_INDEX] = catalog_side(data)[is_known]
    return RatingMatrix(
        user=rows[f.USER_INDEX.name] - f.FIRST_INDEX,
        movie=rows[f.MOVIE_INDEX.name] - f.FIRST_INDEX,
        stars=rows[f.USER_RATING.name],
        user_side=user_side,
        movie_side=movie_side.astype(np.float32),
    )


def catalog_side(data: RankingData) -> np.ndarray:
    """float32 [catalog positions, G]: the side features of every movie, rated or not."""
    genres = data.catalog.genres
    genres = genres / np.sqrt(np.maximum(genres.sum(axis=1, keepdims=True), 1.0))
    return np.concatenate([genres, np.eye(f.NUM_YEAR_INDICES, dtype=np.float32)[data.catalog.year_index]], axis=1)


def fact_sizes(data: RankingData) -> tuple[int, ...]:
    """Columns of each of FACTS in user_side."""
    return f.NUM_USER_AGE_INDICES, f.NUM_USER_GENDER_INDICES, data.num_occupations
