"""A server that speaks TensorFlow Serving's gRPC protocol, in Python: for a laptop, for tests, for infra validation.

Not TensorFlow Serving, and never called so. It answers with the same status codes and messages (`services.py`), watches
version directories and models.config the same way (`servables.py`, `registry.py`), and has the health service
and, where asked, REST (`rest.py`) with Prometheus metrics, and request batching (`batching.py`).

    python -m serving.embedded --model retrieval=PATH --model ranking=PATH --address 127.0.0.1:8500
"""

from __future__ import annotations

import logging
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import TYPE_CHECKING

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow imports Keras at its own end, only to have it ready, and goes on where there is none. SavedModels
    # need none either: a fifth of the start-up time saved.
    sys.modules["tf_keras"] = None  # type: ignore[assignment]

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving import batching_parameters, embedded_options, model_config, services
from serving.batching import Batcher
from serving.batching_parameters import BatchingParameters
from serving.loopback import exposure
from serving.model_config import ModelConfig
from serving.registry import ModelRegistry
from serving.request_log import RequestLog
from serving.saved_model import RequestError
from serving.tls import ServerFiles

if TYPE_CHECKING:
    import argparse

    from serving.rest import RestServer

_LOG = logging.getLogger("movierec.serving")
_MAX_MESSAGE_BYTES = 2**31 - 1
_NUM_THREADS = embedded_options.NUM_THREADS
_LOOK_AGAIN_S = 0.2


class EmbeddedServer:
    """Serves the newest version under each model's base path, or those that a models.config asks for.

        with EmbeddedServer({"retrieval": base_path}) as server:
            ... server.address ...

    It listens at once; a model is NOT_FOUND until its first version is loaded (GetModelStatus tells).
    """

    def __init__(
        self,
        models: Mapping[str, pathlib.Path] | Sequence[ModelConfig],
        address: str = "127.0.0.1:0",
        poll_interval_s: float = 1.0,
        num_threads: int = _NUM_THREADS,
        served_root: pathlib.Path | None = None,
        allow_labels_for_unavailable: bool = False,
        rest_address: str = "",
        with_metrics: bool = False,
        tls_files: ServerFiles | None = None,
        local_socket: pathlib.Path | None = None,
        request_log: RequestLog | None = None,
        batching: BatchingParameters | None = None,
        warm_up: bool = True,
    ) -> None:
        """
        Args:
          models: name -> base path, the folder of the version directories; or what `model_config` reads.
          address: host:port. Port 0 takes a free one; `self.address` says which.
          poll_interval_s: between two looks at the base paths.
          num_threads: calls at once; one more is RESOURCE_EXHAUSTED.
          served_root: HandleReloadConfigRequest may name base paths under this folder only. Default: the folder
            that holds all of the base paths.
          allow_labels_for_unavailable: whether a new label may point to a version that is not loaded yet; needed
            for labels at start-up.
          rest_address: host:port of REST as well; `self.rest_address` says which port 0 has become.
          with_metrics: whether REST shows Prometheus metrics at `metrics.PATH`.
          tls_files: for TLS on gRPC and REST; None: neither has it.
          local_socket: a Unix socket for gRPC besides, without TLS: for whoever may open that file.
          request_log: of the Predict requests answered, over gRPC and REST; closed with the server.
          batching: how requests are put together; None: each is computed alone.
          warm_up: whether a version answers the requests that it brings along before it serves.

        Raises:
          RequestError: a label at start-up that is not allowed.
        """
        self.address = address
        self.rest_address = rest_address
        self._rest: RestServer | None = None
        self._num_threads = num_threads
        self._tls_files = tls_files
        self._local_socket = local_socket
        self._request_log = request_log
        self._with_metrics = with_metrics
        configs = model_config.of_paths(models) if isinstance(models, Mapping) else tuple(models)
        self._batcher = Batcher(batching) if batching else None
        self._registry = ModelRegistry(
            configs,
            served_root or _common_folder(configs),
            poll_interval_s,
            allow_labels_for_unavailable,
            self._batcher,
            warm_up,
        )
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
            services.PredictionService(self._registry, request_log), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(services.ModelService(self._registry), self._server)
        health_service = health.HealthServicer()
        for name in ("", "PredictionService", "ModelService"):  # TensorFlow Serving's names: without the package
            health_service.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(health_service, self._server)

    def start(self) -> EmbeddedServer:
        """Binds, listens and begins to load.

        Raises:
          OSError: a file of TLS cannot be read.
          RuntimeError: the address cannot be bound.
        """
        host = self.address.rpartition(":")[0]
        try:
            if self._tls_files:
                port = self._server.add_secure_port(self.address, self._tls_files.credentials())
            else:
                port = self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise RuntimeError(f"{self.address} cannot be bound; is another server there?") from error
        if self._local_socket:
            try:
                self._server.add_insecure_port(f"unix:{self._local_socket}")
            except RuntimeError as error:
                raise RuntimeError(f"{self._local_socket} cannot be bound; is its path too long?") from error
        self.address = f"{host}:{port}"
        if self.rest_address:
            self._start_rest()
        if self._batcher:
            self._batcher.start()
        self._server.start()
        self._registry.start()
        return self

    def _start_rest(self) -> None:
        from serving import rest  # here: it needs an HTTP library, which gRPC alone does not

        self._rest = rest.RestServer(
            self._registry,
            self.rest_address,
            self._num_threads,
            self._with_metrics,
            self._tls_files.context() if self._tls_files else None,
            self._request_log,
        )
        try:
            self._rest.start()
        except OSError as error:
            raise RuntimeError(f"{self.rest_address} cannot be bound for REST: {error.strerror}") from error
        self.rest_address = self._rest.address

    def stop(self, grace_s: float = 5.0) -> None:
        """Takes no more requests, lets those under way finish for up to `grace_s`, unloads."""
        if self._rest:
            self._rest.stop()
        self._server.stop(grace_s).wait()
        self._registry.stop()
        if self._batcher:  # after the watchers, which warm models up through it
            self._batcher.stop()
        if self._request_log:
            self._request_log.close()

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _common_folder(configs: Sequence[ModelConfig]) -> pathlib.Path:
    """The folder that holds every base path; one that holds none where there are none."""
    folders = [str(config.base_path.resolve().parent) for config in configs]
    return pathlib.Path(os.path.commonpath(folders) if folders else os.devnull)


def main(arguments: list[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT."""
    options = embedded_options.parse(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    _LOG.setLevel(logging.INFO)
    logging.getLogger("grpc").setLevel(logging.CRITICAL)  # what callers do wrong is told to them
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the TF1 loader deprecated at every load
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.stop_at_eof:
        threading.Thread(target=_at_eof, args=(stop.set,), daemon=True).start()
    files = options.tls_files
    for address in filter(None, (options.address, options.rest_address)):
        if exposed := exposure(address, files):
            _LOG.warning("%s", exposed)
    try:
        server = _configured(options).start()
    except (OSError, RequestError, RuntimeError, ValueError) as error:
        sys.exit(str(error))
    _LOG.info("the embedded server (not TensorFlow Serving) listens at %s", server.address)
    if server.rest_address:
        _LOG.info("REST at %s://%s/v1/models", "https" if files else "http", server.rest_address)
    if options.address_file:
        partial = options.address_file.with_suffix(".partial")
        partial.write_text(server.address)
        partial.rename(options.address_file)  # whoever sees the file sees all of it
    while not stop.wait(_LOOK_AGAIN_S):  # a signal that another thread took does not wake this one
        pass
    _LOG.info("stopping")
    server.stop()


def _configured(options: argparse.Namespace) -> EmbeddedServer:
    batching = log = None
    if options.batching_parameters_file:
        batching = batching_parameters.of_file(options.batching_parameters_file)
    elif options.enable_batching:
        batching = BatchingParameters()
    if options.request_log:
        log = RequestLog(
            options.request_log, options.request_log_key, options.request_log_rate, options.request_log_histories
        )
    return EmbeddedServer(
        dict(options.model) if options.model else model_config.of_file(options.model_config_file),
        options.address,
        options.poll_interval_s,
        options.threads,
        options.served_root,
        allow_labels_for_unavailable=options.allow_labels,
        rest_address=options.rest_address,
        with_metrics=options.metrics,
        tls_files=options.tls_files,
        local_socket=options.local_socket,
        request_log=log,
        batching=batching,
        warm_up=options.warm_up,
    )


def _at_eof(do: Callable[[], None]) -> None:
    while os.read(0, 4096):
        pass
    do()


if __name__ == "__main__":
    main()
