"""One channel to a server, with deadlines, and retries of what may be tried again. Imports no TensorFlow."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

_MAX_MESSAGE_BYTES = 2**31 - 1
_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""No request that was answered so has been computed: nothing is done twice."""
_FIRST_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 1.0
_ADVICE = {
    "UNAVAILABLE": "No server answers there: start one with `movierec serve`, or give its address.",
    "DEADLINE_EXCEEDED": "The server took too long: it may be overloaded, or still loading; try again or allow more.",
    "NOT_FOUND": "The server does not have that model (yet): `movierec serve` serves the models of a finished run.",
    "FAILED_PRECONDITION": "The served model has no such signature: was it pushed by `movierec run`?",
    "RESOURCE_EXHAUSTED": "The server is overloaded: ask less often, or start more of them.",
}


OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that comes back is found within a second,
    ("grpc.max_reconnect_backoff_ms", 1000),  # not within two minutes
    ("grpc.enable_http_proxy", 0),  # proxies are for the web; the server is ours, often on loopback
]
"""Of every channel to a server."""


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


def pause_before_retry_s(error: grpc.RpcError, attempt: int, num_retries: int, deadline: float) -> float | None:
    """Seconds to wait before a call is tried again; None where it is not.

    Args:
      error: how the attempt ended.
      attempt: how many came before it.
      num_retries: at most.
      deadline: of `time.monotonic`, by which the pause must be over.
    """
    pause_s = random.uniform(0.5, 1.0) * min(_FIRST_BACKOFF_S * 2**attempt, _MAX_BACKOFF_S)
    again = error.code() in _RETRIED and attempt < num_retries and time.monotonic() + pause_s < deadline
    return pause_s if again else None


class Channel:
    """A connection to one server. Safe to use from several threads."""

    def __init__(
        self,
        address: str,
        timeout_s: float,
        num_retries: int,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        """
        Args:
          address: host:port; nothing is sent before the first call.
          timeout_s: deadline of a call, its retries included.
          num_retries: after an answer of UNAVAILABLE or RESOURCE_EXHAUSTED, with a growing random pause before each.
          credentials: for TLS (`tls.client_credentials`); None: the connection is not encrypted.
          metadata: names (lower case) and values sent along with every call.
        """
        self.address = address
        self._timeout_s = timeout_s
        self._num_retries = num_retries
        self._metadata = tuple(metadata)
        if credentials:
            self._channel = grpc.secure_channel(address, credentials, OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address, OPTIONS)

    def method(self, path: str, request: Any, response: Any) -> Callable[[Any, str], Any]:
        """A method of the server.

        Args:
          path: "/package.Service/Method".
          request, response: message classes.

        Returns:
          A function of the request and of what is asked, in words for an error. It raises ServingError.
        """
        call = self._channel.unary_unary(path, request.SerializeToString, response.FromString)
        return lambda message, asked: self._call(call, message, asked)

    def _call(self, call: Callable[..., Any], message: Any, asked: str) -> Any:
        deadline = time.monotonic() + self._timeout_s
        for attempt in range(self._num_retries + 1):
            try:
                return call(message, timeout=max(deadline - time.monotonic(), 0.0), metadata=self._metadata)
            except grpc.RpcError as error:
                pause_s = pause_before_retry_s(error, attempt, self._num_retries, deadline)
                if pause_s is None:
                    raise ServingError(asked, self.address, error.code().name, error.details() or "") from error
                time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Ends the connection; calls under way are cancelled."""
        self._channel.close()
