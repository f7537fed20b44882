"""What somebody without a history is shown: what has been popular of late, the more so among people like them.

    score of movie i = log c_i + w * sum of lift_ai over the facts a that are known of the user
    lift_ai = log (n_ai + K p_a) / ((n_i + K) p_a)

c_i are i's rows, each worth half as much per half-life; n_i its rows, n_ai those of users with fact a (an age group, a
gender, an occupation), p_a their share of all rows. K rows of the average keep the lift of a rare movie near zero. The
lifts are served in low rank, so the score is one dot product like every other.

Everybody was a newcomer once: half-life and w are those that would have served the fit rows' own users best, each asked
for with nothing but the rows before their first.

N candidates, F = the facts' indices one after the other, R = rank.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from trainer_modules import baselines, retrieval_evaluation
from trainer_modules import features as f
from trainer_modules.inputs import UserStates, only_rows

_HALF_LIVES_DAYS = (3.0, 7.0, 14.0, 30.0, 90.0)
_FACT_SHARES = (0.0, 0.25, 0.5, 0.75)
"""What is tried."""
_CUTS = np.linspace(0.2, 1.0, 9)
"""Between which of the rows, in order of time, users arrive; the first fifth is what the first of them find."""
_MAX_ASKED = 500
"""Of those who arrive between two cuts."""
_PRIOR_ROWS = 100.0
"""K."""
_LEAST_ROWS = 0.1
"""Decayed rows that every movie is given, so that none is infinitely unpopular."""


class Taste(NamedTuple):
    """How the score is put together."""

    half_life_days: float = 14.0
    fact_share: float = 0.5
    """w."""


class Part(NamedTuple):
    """The score as a product: query [1, sum of the user's facts' rows] . candidate."""

    candidates: np.ndarray
    """float32 [N, 1 + R]: log popularity, its mean taken off, and the left factor of the lifts."""
    facts: np.ndarray
    """float32 [F, R]: the right factor times w; zeros where a fact is unknown."""
    unrated: np.ndarray
    """float32 [1 + R]: the candidate vector of a movie without rows."""


def choose(states: UserStates, num_movies: int, num_occupations: int) -> Taste:
    """Replays how the users of some rows arrived; where nobody did, the defaults.

    Args:
      states: the rows to learn from.
      num_movies: N.
      num_occupations: indices of an occupation.
    """
    place = np.empty(len(states.timestamp))
    place[np.argsort(states.timestamp, kind="stable")] = np.arange(len(place)) / max(len(place), 1)
    first = np.ones(states.num_users)
    np.minimum.at(first, states.row_user, place)
    shares = _FACT_SHARES if (states.facts >= f.FIRST_INDEX).any() else (0.0,)
    found: dict[Taste, list[np.ndarray]] = {Taste(*one): [] for one in itertools.product(_HALF_LIVES_DAYS, shares)}
    for begin, end in itertools.pairwise(_CUTS):
        arrives = np.flatnonzero((first >= begin) & (first < end))
        asked_for = np.isin(states.row_user, arrives[:: -(-len(arrives) // _MAX_ASKED) or 1])
        if not asked_for.any():
            continue
        before = only_rows(states, place < begin)
        nobody = np.full(states.num_users, f.OOV_INDEX)
        asked = retrieval_evaluation.queries(before, nobody, only_rows(states, asked_for & (place < end)))
        lifts = _lifts(before, num_movies, num_occupations)
        is_fact = _one_hot(asked.facts, num_occupations)
        popularity = {days: log_popularity(before, num_movies, days)[0] for days in _HALF_LIVES_DAYS}
        for taste, ndcg in found.items():
            candidates = np.concatenate([popularity[taste.half_life_days][:, None], lifts], axis=1)
            query = np.concatenate([np.ones((len(is_fact), 1)), taste.fact_share * is_fact], axis=1)
            ndcg.append(
                retrieval_evaluation.ndcg_at_10_of_each(query.astype(np.float32), candidates.astype(np.float32), asked)
            )
    if not any(found.values()):
        return Taste()
    return max(found, key=lambda taste: np.concatenate(found[taste]).mean())


def part(states: UserStates, num_movies: int, num_occupations: int, taste: Taste, rank: int) -> Part:
    """The score's factors.

    Args:
      states: the rows to count.
      num_movies: N.
      num_occupations: indices of an occupation.
      taste: how they are put together.
      rank: R.
    """
    popularity, unrated = log_popularity(states, num_movies, taste.half_life_days)
    left, value, right = np.linalg.svd(_lifts(states, num_movies, num_occupations), full_matrices=False)
    size = min(rank, len(value))
    candidates, facts = np.zeros((num_movies, 1 + rank), np.float32), np.zeros((right.shape[1], rank), np.float32)
    candidates[:, 0] = popularity
    candidates[:, 1 : 1 + size] = left[:, :size] * value[:size]
    facts[:, :size] = taste.fact_share * right[:size].T
    return Part(candidates, facts, np.append(unrated, np.zeros(rank)).astype(np.float32))


def log_popularity(states: UserStates, num_movies: int, half_life_days: float) -> tuple[np.ndarray, float]:
    """The log of each movie's decayed number of rows, float64 [N], and of one without; the mean of the N taken off."""
    counts = baselines.recent_popularity(states.position, states.timestamp, num_movies, half_life_days)
    log = np.log(_LEAST_ROWS + counts)
    return log - log.mean(), float(np.log(_LEAST_ROWS) - log.mean())


def first_rows(num_occupations: int) -> np.ndarray:
    """int64 [3 + 1]: where each of the facts' indices begin among F, and F."""
    return np.cumsum([0, f.NUM_USER_AGE_INDICES, f.NUM_USER_GENDER_INDICES, num_occupations])


def _lifts(states: UserStates, num_movies: int, num_occupations: int) -> np.ndarray:
    """float64 [N, F]; zeros for a fact that is unknown or that nobody has."""
    begin = first_rows(num_occupations)
    num_facts = begin[-1]
    cell = states.position[:, None] * num_facts + (begin[:-1] + states.facts)[states.row_user]
    num_rows = np.bincount(cell.ravel(), minlength=num_movies * num_facts).reshape(num_movies, num_facts)
    share = num_rows.sum(axis=0) / max(len(states.position), 1)
    is_known = share > 0
    is_known[begin[:-1] + f.PADDING_INDEX] = is_known[begin[:-1] + f.OOV_INDEX] = False
    expected = (states.counts(num_movies)[:, None] + _PRIOR_ROWS) * share
    ratio = (num_rows + _PRIOR_ROWS * share) / np.where(is_known, expected, 1.0)
    return np.log(np.where(is_known, ratio, 1.0))


def _one_hot(facts: np.ndarray, num_occupations: int) -> np.ndarray:
    """int64 [Q, 3] -> float64 [Q, F], a 1 for each fact."""
    begin = first_rows(num_occupations)
    return np.eye(begin[-1])[begin[:-1] + facts].sum(axis=1)
