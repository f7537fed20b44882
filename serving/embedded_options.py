"""The command line of the embedded server."""

from __future__ import annotations

import argparse
import os
import pathlib

from serving.tls import ServerFiles

NUM_THREADS = 4 * (os.cpu_count() or 1)
"""Calls at once, as TensorFlow Serving has it."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the options; `tls_files` among them is a ServerFiles or None. Ends the program where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.embedded", description="Serves SavedModels over TensorFlow Serving's gRPC protocol."
    )
    add = parser.add_argument
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument("--model", action="append", metavar="NAME=PATH", type=_name_and_path)
    models.add_argument("--model-config-file", type=pathlib.Path, help="a models.config, as TensorFlow Serving's")
    add("--served-root", type=pathlib.Path, help="reloads may name base paths under this folder only")
    add("--allow-version-labels-for-unavailable-models", dest="allow_labels", action="store_true",
        help="let a new label point to a version that is not loaded yet")
    add("--address", default="127.0.0.1:8500", help="host:port; port 0 takes a free one")
    add("--local-socket", type=pathlib.Path, help="a Unix socket for gRPC besides, without TLS")
    add("--rest-address", default="", help="host:port of REST; off unless given")
    add("--metrics", action="store_true", help="Prometheus metrics beside REST, at TensorFlow's path")
    add("--poll-interval-s", type=float, default=1.0, help="between two looks at the base paths")
    add("--tls-cert", type=pathlib.Path, help="PEM: serve over TLS, REST too; with --tls-key")
    add("--tls-key", type=pathlib.Path, help="PEM: of the certificate")
    add("--tls-client-ca", type=pathlib.Path, help="PEM: clients need a certificate signed by it")
    add("--enable-batching", action="store_true", help="compute requests that arrive together as one batch")
    add("--batching-parameters-file", type=pathlib.Path, help="how: BatchingParameters, as TensorFlow Serving's")
    add("--no-warm-up", dest="warm_up", action="store_false",
        help="serve at once: the first answers are slow instead")
    add("--request-log", type=pathlib.Path, metavar="FOLDER", help="log a sample of the requests, user ids as HMAC")
    add("--request-log-key", type=pathlib.Path, metavar="FILE", help="the key of the HMAC, outside the folder")
    add("--request-log-rate", type=float, default=0.01, help="share of the requests that are logged")
    add("--request-log-histories", action="store_true", help="log histories and exclusions too")
    add("--threads", type=int, default=NUM_THREADS, help="calls at once (default: 4 x CPUs)")
    add("--address-file", type=pathlib.Path, help="written with host:port once the server listens")
    add("--stop-at-eof", action="store_true", help="stop when standard input ends: with the parent")
    options = parser.parse_args(arguments)
    if bool(options.tls_cert) != bool(options.tls_key) or (options.tls_client_ca and not options.tls_key):
        parser.error("TLS needs both --tls-cert and --tls-key")
    if options.batching_parameters_file and not options.enable_batching:
        parser.error("--batching-parameters-file is given without --enable-batching")
    if bool(options.request_log) != bool(options.request_log_key):
        parser.error("a log needs both --request-log and --request-log-key: user ids are not logged as they are")
    options.tls_files = (
        ServerFiles(options.tls_cert, options.tls_key, options.tls_client_ca) if options.tls_cert else None
    )
    return options


def _name_and_path(value: str) -> tuple[str, pathlib.Path]:
    name, separator, path = value.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{value!r} is not NAME=PATH")
    return name, pathlib.Path(path)
