"""The client: one user's recommendations, typed, from the retrieval and ranking models of a server.

Imports neither TensorFlow nor any model code. Works the same on TensorFlow Serving and on the embedded server.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import grpc
import numpy as np
import numpy.typing as npt

from serving import protocol, tensors
from trainer_modules import contract

DEFAULT_ADDRESS = "127.0.0.1:8500"
_MAX_MESSAGE_BYTES = 2**31 - 1
_ADVICE = {
    "UNAVAILABLE": "No server answers there: start one with `movierec serve`, or give its address.",
    "DEADLINE_EXCEEDED": "The server took too long: it may be overloaded, or still loading; try again or allow more.",
    "NOT_FOUND": "The server does not have that model (yet): `movierec serve` serves the models of a finished run.",
    "FAILED_PRECONDITION": "The served model has no such signature: was it pushed by `movierec run`?",
}


class ServingError(Exception):
    """A call that a server refused, or that no server answered."""

    def __init__(self, asked: str, address: str, code: str, message: str) -> None:
        advice = _ADVICE.get(code, "")
        super().__init__(f"{asked} at {address}: {code}: {message}" + (f"\n{advice}" if advice else ""))
        self.asked = asked
        """Model and signature, or the model whose status was wanted."""
        self.address = address
        self.code = code
        """gRPC's name of the status: "UNAVAILABLE", "INVALID_ARGUMENT", ..."""
        self.message = message
        """The server's words."""


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
    """Retrieval's, no unit: comparable within one answer only."""
    stars: float | None
    """Ranking's prediction; None where ranking was not asked."""


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """A user's recommendations, best first: the order is retrieval's."""

    user_id: str
    movies: tuple[Recommendation, ...]
    """Fewer than asked where the catalog has no more that is neither seen nor excluded."""


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


class RecommenderClient:
    """A connection to one server. Safe to use from several threads.

        with RecommenderClient("127.0.0.1:8500") as client:
            for movie in client.recommend("196", k=10).movies: ...

    Every call has a deadline and raises ServingError where it is not answered in time or not at all.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, timeout_s: float = 5.0) -> None:
        """
        Args:
          address: host:port of a server; nothing is sent before the first call.
          timeout_s: deadline of each gRPC call (`recommend` makes two).
        """
        self.address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.initial_reconnect_backoff_ms", 100),  # a server that comes back is found within a second,
                ("grpc.max_reconnect_backoff_ms", 1000),  # not within two minutes
                ("grpc.enable_http_proxy", 0),  # proxies are for the web; the server is ours, often on loopback
            ],
        )
        self._predict = self._channel.unary_unary(
            protocol.PREDICT, protocol.PredictRequest.SerializeToString, protocol.PredictResponse.FromString
        )
        self._get_model_status = self._channel.unary_unary(
            protocol.GET_MODEL_STATUS,
            protocol.GetModelStatusRequest.SerializeToString,
            protocol.GetModelStatusResponse.FromString,
        )

    def recommend(
        self, user_id: str, k: int, exclude: Iterable[str] = (), history: Sequence[HistoryRow] | None = None
    ) -> Recommendations:
        """Retrieves k movies and has them all ranked in one more call.

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
        if history is None:
            answer = self.predict(contract.RETRIEVAL, contract.RECOMMEND, inputs)
        else:
            state = _state(history)
            seen = {contract.SEEN_MOVIE_ID: state[contract.HISTORY_MOVIE_ID]}
            answer = self.predict(contract.RETRIEVAL, contract.RECOMMEND_FOR_HISTORY, {**inputs, **state, **seen})
        movies = _recommendations(answer)
        stars = {movie.movie_id: movie.stars for movie in self.rank(user_id, [m.movie_id for m in movies], history)}
        return Recommendations(
            user_id, tuple(dataclasses.replace(movie, stars=stars[movie.movie_id]) for movie in movies)
        )

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
        try:
            response = self._predict(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            self._fail(f"{model}/{signature}", error)
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
        try:
            response = self._get_model_status(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            self._fail(f"the status of {model}", error)
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

    def _fail(self, asked: str, error: grpc.RpcError) -> NoReturn:
        raise ServingError(asked, self.address, error.code().name, error.details() or "") from error


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
