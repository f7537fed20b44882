"""Counters in Prometheus's text format, under TensorFlow Serving's own names, so that its dashboards fit."""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from collections.abc import Iterator

from serving.saved_model import RequestError

PATH = "/monitoring/prometheus/metrics"
"""Where TensorFlow Serving shows them unless told otherwise."""

_REQUEST_COUNT = ":tensorflow:serving:request_count"
_REQUEST_LATENCY = ":tensorflow:serving:request_latency"
_LOAD_COUNT = ":tensorflow:cc:saved_model:load_attempt_count"
_LOAD_LATENCY = ":tensorflow:cc:saved_model:load_latency"
_WARM_UP_LATENCY = ":tensorflow:serving:model_warmup_latency"
_TYPES = {
    _LOAD_COUNT: "counter",
    _LOAD_LATENCY: "counter",
    _WARM_UP_LATENCY: "histogram",
    _REQUEST_COUNT: "counter",
    _REQUEST_LATENCY: "histogram",
}
_BOUNDS = tuple(10 * 1.8**power for power in range(33))  # microseconds, up to 20 minutes

_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Thread-safe. All latencies are microseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, _Labels], float] = {}
        self._histograms: dict[tuple[str, _Labels], tuple[list[int], float]] = {}

    @contextlib.contextmanager
    def request(self, model_name: str, api: str, entrypoint: str) -> Iterator[None]:
        """Counts one request by its status, and its latency where it is answered.

        Args:
          model_name: of a model that is served: names that clients make up would never end.
          api: "Predict" over gRPC, "predict" over REST.
          entrypoint: "GRPC" or "REST".
        """
        started = time.perf_counter()
        status = "UNKNOWN"
        try:
            yield
            status = "OK"
        except RequestError as error:
            status = error.code.name
            raise
        finally:
            self._add(_REQUEST_COUNT, (("model_name", model_name), ("status", status)), 1)
            if status == "OK":
                labels = (("model_name", model_name), ("API", api), ("entrypoint", entrypoint))
                self._observe(_REQUEST_LATENCY, labels, _microseconds_since(started))

    @contextlib.contextmanager
    def load(self, model_path: str) -> Iterator[None]:
        """Counts one attempt to load a version, and how long it took."""
        started = time.perf_counter()
        status = "fail"
        try:
            yield
            status = "success"
        finally:
            self._add(_LOAD_COUNT, (("model_path", model_path), ("status", status)), 1)
            self._add(_LOAD_LATENCY, (("model_path", model_path),), _microseconds_since(started))

    @contextlib.contextmanager
    def warm_up(self, model_path: str) -> Iterator[None]:
        """How long a version's warm-up took."""
        started = time.perf_counter()
        status = "fail"
        try:
            yield
            status = "success"
        finally:
            labels = (("model_path", model_path), ("status", status))
            self._observe(_WARM_UP_LATENCY, labels, _microseconds_since(started))

    def text(self) -> str:
        """All of them, in Prometheus's text format."""
        with self._lock:
            counts = dict(self._counts)
            histograms = {key: (list(buckets), total) for key, (buckets, total) in self._histograms.items()}
        lines = []
        for name, type_ in _TYPES.items():
            lines.append(f"# TYPE {name} {type_}")
            lines += [f"{name}{_braces(labels)} {value:.0f}" for (of, labels), value in counts.items() if of == name]
            for (of, labels), (buckets, total) in histograms.items():
                if of == name:
                    lines += _histogram_lines(name, labels, buckets, total)
        return "\n".join(lines) + "\n"

    def _add(self, name: str, labels: _Labels, amount: float) -> None:
        with self._lock:
            self._counts[name, labels] = self._counts.get((name, labels), 0) + amount

    def _observe(self, name: str, labels: _Labels, value: float) -> None:
        with self._lock:
            buckets, total = self._histograms.get((name, labels)) or ([0] * (len(_BOUNDS) + 1), 0.0)
            buckets[bisect.bisect_left(_BOUNDS, value)] += 1
            self._histograms[name, labels] = buckets, total + value


def _histogram_lines(name: str, labels: _Labels, buckets: list[int], total: float) -> Iterator[str]:
    count = 0
    for bound, inside in zip((*_BOUNDS, float("inf")), buckets, strict=True):
        count += inside
        le = "+Inf" if bound == float("inf") else f"{bound:g}"
        yield f"{name}_bucket{_braces((*labels, ('le', le)))} {count}"
    yield f"{name}_sum{_braces(labels)} {total:.0f}"
    yield f"{name}_count{_braces(labels)} {count}"


def _braces(labels: _Labels) -> str:
    def escape(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escape(value)}"' for name, value in labels) + "}"


def _microseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e6
