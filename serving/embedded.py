"""A server that speaks TensorFlow Serving's gRPC protocol, in Python: for a laptop, for tests, for infra validation.

Not TensorFlow Serving, and never called so. It answers with the same status codes and messages (`services.py`), watches
version directories the same way (`servables.py`), and has the health service. No batching, REST, reload, labels or
metrics.

    python -m serving.embedded --model retrieval=PATH --model ranking=PATH --address 127.0.0.1:8500
"""

from __future__ import annotations

import argparse
import logging
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent import futures

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow imports Keras at its own end, only to have it ready, and goes on where there is none. SavedModels
    # need none either: a fifth of the start-up time saved.
    sys.modules["tf_keras"] = None  # type: ignore[assignment]

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving import services
from serving.servables import Servable

_LOG = logging.getLogger("movierec.serving")
_MAX_MESSAGE_BYTES = 2**31 - 1
_NUM_THREADS = 4 * (os.cpu_count() or 1)


class EmbeddedServer:
    """Serves the newest version under each model's base path.

        with EmbeddedServer({"retrieval": base_path}) as server:
            ... server.address ...

    It listens at once; a model is NOT_FOUND until its first version is loaded (GetModelStatus tells).
    """

    def __init__(
        self,
        models: Mapping[str, pathlib.Path],
        address: str = "127.0.0.1:0",
        poll_interval_s: float = 1.0,
        num_threads: int = _NUM_THREADS,
    ) -> None:
        """
        Args:
          models: name -> base path, the folder of the version directories.
          address: host:port. Port 0 takes a free one; `self.address` says which.
          poll_interval_s: between two looks at the base paths.
          num_threads: calls at once; one more is RESOURCE_EXHAUSTED.
        """
        self.address = address
        self._servables = {name: Servable(name, path, poll_interval_s) for name, path in models.items()}
        self._server = grpc.server(
            futures.ThreadPoolExecutor(num_threads + services.BoundedThreads.NUM_SPARE, thread_name_prefix="grpc"),
            interceptors=[services.BoundedThreads(num_threads)],
            options=[
                ("grpc.so_reuseport", 0),  # a second server on the same port is an error, not a lottery
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            services.PredictionService(self._servables), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(services.ModelService(self._servables), self._server)
        health_service = health.HealthServicer()
        for name in ("", "PredictionService", "ModelService"):  # TensorFlow Serving's names: without the package
            health_service.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(health_service, self._server)

    def start(self) -> EmbeddedServer:
        """Binds, listens and begins to load.

        Raises:
          RuntimeError: the address cannot be bound.
        """
        host = self.address.rpartition(":")[0]
        try:
            port = self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise RuntimeError(f"{self.address} cannot be bound; is another server there?") from error
        self.address = f"{host}:{port}"
        self._server.start()
        for servable in self._servables.values():
            servable.start()
        return self

    def stop(self, grace_s: float = 5.0) -> None:
        """Takes no more requests, lets those under way finish for up to `grace_s`, unloads."""
        self._server.stop(grace_s).wait()
        for servable in self._servables.values():
            servable.stop()

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def main(arguments: list[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m serving.embedded", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", action="append", required=True, metavar="NAME=PATH", type=_name_and_path)
    parser.add_argument("--address", default="127.0.0.1:8500", help="host:port; port 0 takes a free one")
    parser.add_argument("--poll-interval-s", type=float, default=1.0, help="between two looks at the base paths")
    parser.add_argument("--threads", type=int, default=_NUM_THREADS, help="calls at once (default: 4 x CPUs)")
    parser.add_argument("--address-file", type=pathlib.Path, help="written with host:port once the server listens")
    parser.add_argument("--stop-at-eof", action="store_true", help="stop when standard input ends: with the parent")
    options = parser.parse_args(arguments)

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    _LOG.setLevel(logging.INFO)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the TF1 loader deprecated at every load
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.stop_at_eof:
        threading.Thread(target=_at_eof, args=(stop.set,), daemon=True).start()
    try:
        server = EmbeddedServer(dict(options.model), options.address, options.poll_interval_s, options.threads).start()
    except RuntimeError as error:
        sys.exit(str(error))
    _LOG.info("the embedded server (not TensorFlow Serving) listens at %s", server.address)
    if options.address_file:
        partial = options.address_file.with_suffix(".partial")
        partial.write_text(server.address)
        partial.rename(options.address_file)  # whoever sees the file sees all of it
    stop.wait()
    _LOG.info("stopping")
    server.stop()


def _name_and_path(value: str) -> tuple[str, pathlib.Path]:
    name, separator, path = value.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{value!r} is not NAME=PATH")
    return name, pathlib.Path(path)


def _at_eof(do: Callable[[], None]) -> None:
    while os.read(0, 4096):
        pass
    do()


if __name__ == "__main__":
    main()
