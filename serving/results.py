"""What a client sends and is answered, typed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy.typing as npt

from serving import protocol

NO_FALLBACK = ""
RETRIEVAL_ORDER = "retrieval"
POPULAR_LIST = "popular"


@dataclasses.dataclass(frozen=True)
class HistoryRow:
    """One rating that the caller knows of a user."""

    movie_id: str
    rating: float
    """Stars."""
    timestamp: int
    """Seconds since 1970-01-01 UTC."""


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """One recommended movie."""

    movie_id: str
    title: str
    score: float
    """Retrieval's, no unit: comparable within one answer only. Of the popular list: the number of ratings."""
    stars: float | None
    """Ranking's prediction; None where ranking was not asked."""


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """A user's recommendations, best first: the order is retrieval's."""

    user_id: str
    movies: tuple[Recommendation, ...]
    """Fewer than asked where the catalog has no more that is neither seen nor excluded."""
    fallback: str = NO_FALLBACK
    """What stood in: RETRIEVAL_ORDER, ranking is down and there are no stars; POPULAR_LIST, retrieval is down and
    these are the movies anyone may be shown, less the excluded and those of the history given."""


@dataclasses.dataclass(frozen=True)
class Ranked:
    """One movie's predicted rating."""

    movie_id: str
    stars: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a signature answered."""

    version: int
    """The model version that did."""
    outputs: dict[str, npt.NDArray[Any]]
    """Alias -> array; strings as bytes in an object array."""


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """One version of a model on the server."""

    version: int
    state: protocol.State
    error: str
    """Why it could not be loaded; "" where it could."""
