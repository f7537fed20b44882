"""Requests as clients send them, built from real users; arrays by the signatures' names. B requests in a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from components import explicit_state
from components.evaluation_data import UserStates
from trainer_modules import contract as c
from trainer_modules import features as f

Arrays = Mapping[str, np.ndarray]

UNKNOWN_USER = b"a user nobody knows"
UNKNOWN_MOVIE = b"a movie nobody knows"
BATCH = 64


@dataclasses.dataclass(frozen=True)
class Query:
    """Some users with the state that the caller brings."""

    what: str
    """For people: what is special about it."""
    state: dict[str, np.ndarray]
    """user_id [B], history_* [B, H], query_timestamp [B]."""
    seen: np.ndarray
    """bytes [B, S]: everything each user has rated."""

    @property
    def num_users(self) -> int:
        return len(self.state[c.USER_ID])

    def examples(self, movie_id: np.ndarray, with_history: bool) -> np.ndarray:
        """Serialized tf.Examples [B] of user, movie and, or not, the history padded to its fixed length.

        Args:
          movie_id: bytes [M]; row r is asked of movie r mod M.
          with_history: False leaves all that has a default out.
        """
        missing = f.HISTORY_LENGTH - self.state[c.HISTORY_MOVIE_ID].shape[1]
        serialized = []
        for row in range(self.num_users):
            example = tf.train.Example()
            feature = example.features.feature
            feature[f.USER_ID.name].bytes_list.value.append(self.state[c.USER_ID][row])
            feature[f.MOVIE_ID.name].bytes_list.value.append(movie_id[row % len(movie_id)])
            if with_history:
                feature[f.TIMESTAMP.name].int64_list.value.append(self.state[c.QUERY_TIMESTAMP][row])
                for name, kind, padding in (
                    (c.HISTORY_MOVIE_ID, "bytes_list", b""),
                    (c.HISTORY_RATING, "float_list", 0.0),
                    (c.HISTORY_TIMESTAMP, "int64_list", 0),
                ):
                    values = [padding] * missing + self.state[name][row].tolist()
                    getattr(feature[name], kind).value.extend(values)
            serialized.append(example.SerializeToString())
        return np.array(serialized, np.object_)


def queries(states: UserStates) -> list[Query]:
    """The kinds of state a client may bring; none has a history longer than HISTORY_LENGTH but the last.

    Args:
      states: real users; at least one has rows.
    """
    lengths = np.diff(states.row_splits)
    by_length = np.argsort(lengths, kind="stable")
    by_length = by_length[lengths[by_length] > 0]
    longest = by_length[-1:]
    spread = by_length[np.linspace(0, len(by_length) - 1, BATCH).round().astype(int)]
    nothing = np.array([-1])
    known, unknown = states.user_id[longest], np.array([UNKNOWN_USER])

    def query(what: str, user_id: np.ndarray, users: np.ndarray, length: int = f.HISTORY_LENGTH) -> Query:
        state = explicit_state.query(user_id, states, users, length)
        return Query(what, {name: tensor.numpy() for name, tensor in state.items()}, _seen(states, users))

    return [
        query("a known user with a full history", known, longest),
        query("a known user with an empty history", known, nothing),
        query("an unknown user with a full history", unknown, longest),
        query("an unknown user with an empty history", unknown, nothing),
        query(f"{BATCH} users with histories of all lengths", states.user_id[spread], spread),
        query("a known user with all that was ever rated", known, longest, length=c.MAX_HISTORY),
    ]


def movies(states: UserStates) -> np.ndarray:
    """bytes [M]: some that users rated, and one that nobody knows."""
    return np.append(np.unique(states.movie_id)[: BATCH - 1], UNKNOWN_MOVIE)


def _seen(states: UserStates, users: np.ndarray) -> np.ndarray:
    return explicit_state.seen_movie_id(states, users)[:, : c.MAX_EXCLUDE]
