"""A server that speaks TensorFlow Serving's gRPC protocol, in Python: for a laptop, for tests, for infra validation.

Not TensorFlow Serving, and never called so. It answers with the same status codes and messages (`services.py`), watches
version directories and models.config the same way (`servables.py`, `registry.py`), and has the health service
and, where asked, REST (`rest.py`) with Prometheus metrics. No batching.

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

from serving import model_config, services, tls
from serving.loopback import is_loopback
from serving.model_config import ModelConfig
from serving.registry import ModelRegistry
from serving.saved_model import RequestError

if TYPE_CHECKING:
    from serving.rest import RestServer

_LOG = logging.getLogger("movierec.serving")
_MAX_MESSAGE_BYTES = 2**31 - 1
_NUM_THREADS = 4 * (os.cpu_count() or 1)


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
        credentials: grpc.ServerCredentials | None = None,
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
          credentials: for TLS on gRPC (`tls.server_credentials`). REST has none.

        Raises:
          RequestError: a label at start-up that is not allowed.
        """
        self.address = address
        self.rest_address = rest_address
        self._rest: RestServer | None = None
        self._num_threads = num_threads
        self._credentials = credentials
        self._with_metrics = with_metrics
        configs = model_config.of_paths(models) if isinstance(models, Mapping) else tuple(models)
        self._registry = ModelRegistry(
            configs, served_root or _common_folder(configs), poll_interval_s, allow_labels_for_unavailable
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
            services.PredictionService(self._registry), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(services.ModelService(self._registry), self._server)
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
            if self._credentials:
                port = self._server.add_secure_port(self.address, self._credentials)
            else:
                port = self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise RuntimeError(f"{self.address} cannot be bound; is another server there?") from error
        self.address = f"{host}:{port}"
        if self.rest_address:
            self._start_rest()
        self._server.start()
        self._registry.start()
        return self

    def _start_rest(self) -> None:
        from serving import rest  # here: it needs an HTTP library, which gRPC alone does not

        self._rest = rest.RestServer(self._registry, self.rest_address, self._num_threads, self._with_metrics)
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
    parser = argparse.ArgumentParser(prog="python -m serving.embedded", description=__doc__.partition("\n")[0])
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument("--model", action="append", metavar="NAME=PATH", type=_name_and_path)
    models.add_argument("--model-config-file", type=pathlib.Path, help="a models.config, as TensorFlow Serving's")
    parser.add_argument("--served-root", type=pathlib.Path, help="reloads may name base paths under this folder only")
    parser.add_argument(
        "--allow-version-labels-for-unavailable-models", dest="allow_labels", action="store_true",
        help="let a new label point to a version that is not loaded yet",
    )  # fmt: skip
    parser.add_argument("--address", default="127.0.0.1:8500", help="host:port; port 0 takes a free one")
    parser.add_argument("--rest-address", default="", help="host:port of REST; off unless given")
    parser.add_argument("--metrics", action="store_true", help="Prometheus metrics beside REST, at TensorFlow's path")
    parser.add_argument("--poll-interval-s", type=float, default=1.0, help="between two looks at the base paths")
    parser.add_argument("--tls-certificate", type=pathlib.Path, help="PEM: serve gRPC over TLS; with --tls-key")
    parser.add_argument("--tls-key", type=pathlib.Path, help="PEM: of the certificate")
    parser.add_argument("--tls-client-ca", type=pathlib.Path, help="PEM: clients need a certificate signed by it")
    parser.add_argument("--threads", type=int, default=_NUM_THREADS, help="calls at once (default: 4 x CPUs)")
    parser.add_argument("--address-file", type=pathlib.Path, help="written with host:port once the server listens")
    parser.add_argument("--stop-at-eof", action="store_true", help="stop when standard input ends: with the parent")
    options = parser.parse_args(arguments)
    if bool(options.tls_certificate) != bool(options.tls_key) or (options.tls_client_ca and not options.tls_key):
        parser.error("TLS needs both --tls-certificate and --tls-key")

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    _LOG.setLevel(logging.INFO)
    logging.getLogger("grpc").setLevel(logging.CRITICAL)  # a traceback for each message that is no protobuf
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the TF1 loader deprecated at every load
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.stop_at_eof:
        threading.Thread(target=_at_eof, args=(stop.set,), daemon=True).start()
    try:
        server = EmbeddedServer(
            dict(options.model) if options.model else model_config.of_file(options.model_config_file),
            options.address,
            options.poll_interval_s,
            options.threads,
            options.served_root,
            options.allow_labels,
            options.rest_address,
            options.metrics,
            tls.server_credentials(options.tls_certificate, options.tls_key, options.tls_client_ca)
            if options.tls_key
            else None,
        ).start()
    except (OSError, RequestError, RuntimeError, ValueError) as error:
        sys.exit(str(error))
    lacks = "without client certificates" if options.tls_key else "without TLS and without client certificates"
    for address, lacking in (
        (server.address, "" if options.tls_client_ca else lacks),
        (server.rest_address, "without TLS and without client certificates"),
    ):
        if lacking and address and not is_loopback(address.rpartition(":")[0]):
            _LOG.warning("%s is open to the network, %s", address, lacking)
    _LOG.info("the embedded server (not TensorFlow Serving) listens at %s", server.address)
    if server.rest_address:
        _LOG.info("REST at http://%s/v1/models", server.rest_address)
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
