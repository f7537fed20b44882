"""The retrieval metrics of some kinds of users and of movies, for the candidate and for everything beside it.

A slice of users counts all positives of some users. A slice of movies counts, for each query that has positives of
that kind, those alone. Q queries, N movies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from components import evaluation_data, retrieval_protocol
from components import slices as slices_by
from components.evaluation_data import Catalog
from components.retrieval_protocol import QUERY_METRICS, Queries
from trainer_modules import features as f
from trainer_modules import metrics

FIT_ROW_BUCKETS = (("0", 0, 1), ("1-9", 1, 10), ("10-99", 10, 100), ("100+", 100, np.inf))
"""Slices of the movies by how often they occur in the fit rows: name, at least, below."""
ACTIVITY_BUCKETS = (
    ("1-19", 1, 20), ("20-49", 20, 50), ("50-99", 50, 100), ("100-199", 100, 200), ("200+", 200, np.inf),
)  # fmt: skip
"""Slices of the users by their number of fit rows."""


def slices(
    recommended: Mapping[str, np.ndarray], queries: Queries, catalog: Catalog, catalog_uri: str, fit_rows: np.ndarray
) -> list[dict[str, Any]]:
    """Every slice that occurs.

    Args:
      recommended: "candidate" and whatever stands beside it -> int64 [Q, NUM_RECOMMENDED], catalog positions.
      queries: that were answered.
      catalog: what was ranked.
      catalog_uri: the artifact, for the genres.
      fit_rows: int [N], fit rows of each movie.

    Returns:
      [{"slice", "num" (queries), "metrics" (the candidate's), "beside": {name: metrics}}].
    """
    hit = {
        name: metrics.hits(lists, queries.positives.values, queries.positives.row_splits)
        for name, lists in recommended.items()
    }
    measured = {
        name: {metric: function(rows, queries.positives.lengths) for metric, function in QUERY_METRICS.items()}
        for name, rows in hit.items()
    }
    found = []
    for name, chosen in user_kinds(queries).items():
        if chosen.any():
            of_users = {model: retrieval_protocol.summary(values, chosen) for model, values in measured.items()}
            found.append(_record(name, int(chosen.sum()), of_users))
    query = np.repeat(np.arange(len(queries.user_id)), queries.positives.lengths)
    for name, is_kind in movie_kinds(catalog_uri, catalog, fit_rows).items():
        num_relevant = np.bincount(query[is_kind[queries.positives.values]], minlength=len(queries.user_id))
        asked = num_relevant > 0
        if asked.any():
            of_movies = {}
            for model, lists in recommended.items():
                # Position -1 pads and is no hit, so whatever kind the last movie is of does not matter.
                of_kind = hit[model][asked] & is_kind[lists[asked]]
                of_movies[model] = {
                    metric: float(function(of_kind, num_relevant[asked]).mean())
                    for metric, function in QUERY_METRICS.items()
                }
            found.append(_record(name, int(asked.sum()), of_movies))
    return found


def user_kinds(queries: Queries) -> dict[str, np.ndarray]:
    """Slice -> bool [Q]. Warm users have fit rows; their activity is how many."""
    warm = queries.state >= 0
    num_rows = np.where(warm, np.diff(queries.states.row_splits)[queries.state], 0)
    kinds = {"warm": warm, "cold": ~warm}
    for name, low, high in ACTIVITY_BUCKETS:
        kinds[f"user_fit_rows={name}"] = (num_rows >= low) & (num_rows < high)
    for prefix, names in queries.facts.items():
        kinds |= {f"{prefix}={name}": names == name for name in np.unique(names[names != ""])}
    return kinds


def movie_kinds(catalog_uri: str, catalog: Catalog, fit_rows: np.ndarray) -> dict[str, np.ndarray]:
    """Slice -> bool [N]: by fit rows, by decile of popularity (10: the most rated tenth, 0: never rated), by genre."""
    kinds = {
        f"positive_fit_rows={name}": (fit_rows >= low) & (fit_rows < high) for name, low, high in FIT_ROW_BUCKETS
    }
    decile = slices_by.popularity_deciles(fit_rows)
    kinds |= {f"popularity_decile={number}": decile == number for number in range(slices_by.NUM_DECILES, -1, -1)}
    genres = evaluation_data.read(catalog_uri, f.ALL, (f.MOVIE_GENRES,))[f.MOVIE_GENRES.name]
    movie = np.repeat(np.arange(catalog.num_movies), genres.lengths)
    for name in np.unique(genres.values):
        is_genre = np.zeros(catalog.num_movies, bool)
        is_genre[movie[genres.values == name]] = True
        kinds[f"genre={name.decode()}"] = is_genre
    return kinds


def _record(name: str, num: int, found: dict[str, dict[str, float]]) -> dict[str, Any]:
    beside = {model: values for model, values in found.items() if model != "candidate"}
    return {"slice": name, "num": num, "metrics": found["candidate"], "beside": beside}
