"""The client: one user's recommendations, typed, from the retrieval and ranking models of a server.

Imports neither TensorFlow nor any model code. Works the same on TensorFlow Serving and on the embedded server.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from serving import protocol, tensors
from serving.calls import Channel, ServingError
from serving.results import (
    NO_FALLBACK,
    POPULAR_LIST,
    RETRIEVAL_ORDER,
    HistoryRow,
    Ranked,
    Recommendation,
    Recommendations,
)
from trainer_modules import contract

__all__ = [
    "DEFAULT_ADDRESS", "NO_FALLBACK", "POPULAR_LIST", "RETRIEVAL_ORDER",
    "Answer", "HistoryRow", "Ranked", "Recommendation", "Recommendations", "RecommenderClient", "ServingError",
    "VersionStatus",
]  # fmt: skip

DEFAULT_ADDRESS = "127.0.0.1:8500"
_DOWN = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "NOT_FOUND")
"""What a model that cannot answer now looks like. Any other refusal is the caller's to know."""


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


class RecommenderClient:
    """A connection to one server. Safe to use from several threads.

        with RecommenderClient("127.0.0.1:8500") as client:
            for movie in client.recommend("196", k=10).movies: ...

    Every call has a deadline and raises ServingError where it is not answered in time or not at all.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        timeout_s: float = 5.0,
        num_retries: int = 3,
        label: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        """
        Args:
          address: host:port of a server; nothing is sent before the first call.
          timeout_s: deadline of each gRPC call, its retries included (`recommend` makes two).
          num_retries: of a call that is answered UNAVAILABLE or RESOURCE_EXHAUSTED, and of no other.
          label: version label to ask, such as "stable"; by default the newest version answers.
          credentials: for TLS (`tls.client_credentials`); None: the connection is not encrypted.
          metadata: names (lower case) and values sent along with every call.
        """
        self.address = address
        self._label = label
        self._channel = Channel(address, timeout_s, num_retries, credentials, metadata)
        self._predict = self._channel.method(protocol.PREDICT, protocol.PredictRequest, protocol.PredictResponse)
        self._get_model_status = self._channel.method(
            protocol.GET_MODEL_STATUS, protocol.GetModelStatusRequest, protocol.GetModelStatusResponse
        )
        self._popular: list[Recommendation] | None = None

    def connect(self) -> RecommenderClient:
        """Fetches the popular list that stands in when retrieval is down. The first `recommend` does so too.

        Raises:
          ServingError: retrieval does not answer.
        """
        self._popular = self.popular(contract.MAX_K)
        return self

    def recommend(
        self, user_id: str, k: int, exclude: Iterable[str] = (), history: Sequence[HistoryRow] | None = None
    ) -> Recommendations:
        """Retrieves k movies and has them all ranked in one more call.

        Where ranking is down the answer is retrieval's order without stars; where retrieval is, the popular list
        fetched before. `Recommendations.fallback` says so.

        Args:
          user_id: unknown ones are answered too.
          k: 1 to contract.MAX_K.
          exclude: movie ids not to show, beside what the user has seen.
          history: None: what the served models know of the user. Else it replaces that entirely, as state and as
            what was seen; an empty one is a user of whom nothing is known.

        Raises:
          ServingError, ValueError: the arguments are over the served limits.
        """
        _check_count("k", k, 1, contract.MAX_K)
        excluded = list(exclude)
        _check_count("the number of exclusions", len(excluded), 0, contract.MAX_EXCLUDE)
        inputs = {
            contract.USER_ID: _strings([user_id]),
            contract.EXCLUDE_MOVIE_ID: _strings([excluded]),
            contract.K: np.array([k], np.int32),
        }
        signature = contract.RECOMMEND
        if history is not None:
            signature = contract.RECOMMEND_FOR_HISTORY
            state = _state(history)
            inputs |= {**state, contract.SEEN_MOVIE_ID: state[contract.HISTORY_MOVIE_ID]}
        try:
            movies = _recommendations(self.predict(contract.RETRIEVAL, signature, inputs))
        except ServingError as error:
            if error.code not in _DOWN or not self._popular:
                raise
            hidden = {*excluded, *(row.movie_id for row in history or ())}
            shown = [movie for movie in self._popular if movie.movie_id not in hidden]
            return Recommendations(user_id, tuple(shown[:k]), POPULAR_LIST)
        self._remember_popular()
        try:
            ranked = self.rank(user_id, [movie.movie_id for movie in movies], history)
        except ServingError as error:
            if error.code not in _DOWN:
                raise
            return Recommendations(user_id, tuple(movies), RETRIEVAL_ORDER)
        return Recommendations(
            user_id,
            tuple(
                dataclasses.replace(movie, stars=found.stars) for movie, found in zip(movies, ranked, strict=True)
            ),
        )

    def _remember_popular(self) -> None:
        if self._popular is None:
            try:
                self.connect()
            except ServingError:  # a server without that signature has no such fallback
                self._popular = []

    def rank(
        self, user_id: str, movie_ids: Sequence[str], history: Sequence[HistoryRow] | None = None
    ) -> list[Ranked]:
        """Predicted stars of the given movies, in the order given.

        Args:
          user_id: unknown ones are answered too.
          movie_ids: at most contract.MAX_RANK; none asks nothing.
          history: as in `recommend`.

        Raises:
          ServingError, ValueError: the arguments are over the served limits.
        """
        _check_count("the number of movies to rank", len(movie_ids), 0, contract.MAX_RANK)
        if not movie_ids:
            return []
        inputs = {contract.USER_ID: _strings([user_id]), contract.MOVIE_ID: _strings([movie_ids])}
        if history is None:
            answer = self.predict(contract.RANKING, contract.RANK, inputs)
        else:
            answer = self.predict(contract.RANKING, contract.RANK_FOR_HISTORY, {**inputs, **_state(history)})
        stars = answer.outputs[contract.STARS][0]
        return [Ranked(movie_id, float(star)) for movie_id, star in zip(movie_ids, stars, strict=True)]

    def popular(self, k: int) -> list[Recommendation]:
        """The k most rated movies: what anyone may be shown. Nothing is left out as seen, and stars are None."""
        _check_count("k", k, 1, contract.MAX_K)
        answer = self.predict(contract.RETRIEVAL, contract.POPULAR, {contract.K: np.array([k], np.int32)})
        return _recommendations(answer)

    def predict(self, model: str, signature: str, inputs: Mapping[str, npt.ArrayLike]) -> Answer:
        """Calls any signature.

        Args:
          model: contract.RETRIEVAL or contract.RANKING.
          signature: its name.
          inputs: alias -> array. Lists of str and of bytes may be given as they are; numbers need the signature's
            dtype (`np.array(..., np.int32)`).

        Raises:
          ServingError.
        """
        request = protocol.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        for alias, value in inputs.items():
            tensors.encode(value, request.inputs[alias])
        if self._label:
            request.model_spec.version_label = self._label
        response = self._predict(request, f"{model}/{signature}")
        return Answer(
            response.model_spec.version.value,
            {alias: tensors.decode(output) for alias, output in response.outputs.items()},
        )

    def versions(self, model: str) -> list[VersionStatus]:
        """The versions of a model that the server knows of, the newest first.

        Raises:
          ServingError: NOT_FOUND where it knows none.
        """
        request = protocol.GetModelStatusRequest()
        request.model_spec.name = model
        response = self._get_model_status(request, f"the status of {model}")
        return [
            VersionStatus(status.version, protocol.State(status.state), status.status.error_message)
            for status in response.model_version_status
        ]

    def close(self) -> None:
        """Ends the connection; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> RecommenderClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _state(history: Sequence[HistoryRow]) -> dict[str, npt.NDArray[Any]]:
    """The history as the signatures want it: oldest first, and the moment of asking is that of its newest row."""
    _check_count("the number of history rows", len(history), 0, contract.MAX_HISTORY)
    rows = sorted(history, key=lambda row: row.timestamp)  # stable: rows of one moment keep the caller's order
    return {
        contract.HISTORY_MOVIE_ID: _strings([[row.movie_id for row in rows]]),
        contract.HISTORY_RATING: np.array([[row.rating for row in rows]], np.float32),
        contract.HISTORY_TIMESTAMP: np.array([[row.timestamp for row in rows]], np.int64),
        contract.QUERY_TIMESTAMP: np.array([rows[-1].timestamp if rows else 0], np.int64),
    }


def _recommendations(answer: Answer) -> list[Recommendation]:
    """The first query's movies without the padding."""
    columns = (answer.outputs[name][0] for name in (contract.MOVIE_ID, contract.MOVIE_TITLE, contract.SCORE))
    return [
        Recommendation(movie_id.decode(), title.decode(), float(score), stars=None)
        for movie_id, title, score in zip(*columns, strict=True)
        if movie_id and score > -math.inf
    ]


def _strings(values: Sequence[str] | Sequence[Sequence[str]]) -> npt.NDArray[Any]:
    return np.array(values, np.object_)


def _check_count(what: str, count: int, least: int, most: int) -> None:
    if not least <= count <= most:
        raise ValueError(f"{what} is {count}; the served models take {least} to {most}")
