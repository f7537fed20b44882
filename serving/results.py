"""What a client sends and is answered, typed."""

from __future__ import annotations

import dataclasses

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
