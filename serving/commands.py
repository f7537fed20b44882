"""The command line that starts a server of each kind, and the files that it reads."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import text_format

from serving import finder, protocol
from serving.finder import BINARY, CONTAINER, EMBEDDED, Choice, ServerError
from serving.tls import ServerFiles

SOCKET = "grpc.sock"
"""In the server's folder where it has TLS: who started it asks there whether it is ready, and needs no certificate."""

FLAGS = (
    "--file_system_poll_wait_seconds=1",
    "--max_num_load_retries=5",  # at 60 s, the default interval, one broken version blocks all later ones for minutes
    "--load_retry_interval_micros=1000000",
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a server is started with beside models and addresses."""

    models_config_path: pathlib.Path | None = None
    """A models.config, with versions and labels as it says; None: the newest version of each model."""
    batching_parameters_path: pathlib.Path | None = None
    """Requests are batched as this file says (BatchingParameters as text); None: they are not."""
    warm_up: bool = True
    """Whether a version answers the requests that it brings along before it serves; its first answers are slow else."""
    tls_files: ServerFiles | None = None
    """For gRPC and REST; the embedded server only."""
    request_log_folder: pathlib.Path | None = None
    """Where a sample of the requests is logged, user ids as HMAC; the embedded server only."""
    request_log_key_path: pathlib.Path | None = None
    """The key of the HMAC."""
    request_log_rate: float = 0.01
    """Share of the requests that are logged."""
    request_log_histories: bool = False
    """Whether histories and exclusions are logged too."""


DEFAULTS = Options()


def check(kind: str, options: Options) -> None:
    """Refuses what a kind of server does not do.

    Raises:
      ServerError: it says what to do instead.
    """
    if options.request_log_folder and not options.request_log_key_path:
        raise ServerError(
            "requests are not logged without a key to write user ids with: make one with `openssl rand -out FILE 32`,"
            " keep it outside the log, and name it with --request-log-key"
        )
    if kind != EMBEDDED and options.tls_files:
        raise ServerError(
            "only the embedded server is started with TLS from here: add --server embedded, or start"
            f" {finder.DESCRIPTIONS[kind]} yourself with its --ssl_config_file and without REST, which has no TLS there"
        )
    if kind != EMBEDDED and options.request_log_folder:
        raise ServerError(
            "TensorFlow Serving would log user ids as they are: log in the client (serving.request_log), or add"
            " --server embedded"
        )


def command(
    choice: Choice,
    models: Mapping[str, pathlib.Path],
    host: str,
    port: int,
    rest_port: int,
    folder: pathlib.Path,
    options: Options = DEFAULTS,
) -> list[str]:
    """The command to start a server with.

    Args:
      choice: which server.
      models: name -> base path, absolute; those of `options.models_config_path` where it is given.
      host, port: to listen at.
      rest_port: 0: no REST.
      folder: of this server alone; what it reads is written there.
      options: checked by `check`.
    """
    batching = options.batching_parameters_path.resolve() if options.batching_parameters_path else None
    given = options.models_config_path.resolve() if options.models_config_path else None
    # Labels are read before anything is loaded.
    labels = ["--allow_version_labels_for_unavailable_models=true"] if given else []
    warm_up = [] if options.warm_up else ["--enable_model_warmup=false"]
    if choice.kind == EMBEDDED:
        served = [f"--model={name}={path}" for name, path in models.items()]
        if given:
            served = [f"--model-config-file={given}", "--allow-version-labels-for-unavailable-models"]
        return [
            choice.executable, "-m", "serving.embedded", *served,
            f"--address={host}:{port}", *([f"--rest-address={host}:{rest_port}"] if rest_port else []),
            f"--address-file={folder / 'address'}", "--stop-at-eof",
            *(["--enable-batching", f"--batching-parameters-file={batching}"] if batching else []),
            *([] if options.warm_up else ["--no-warm-up"]), *_embedded_flags(options, folder),
        ]  # fmt: skip
    config_path = folder / "models.config"
    if choice.kind == BINARY:
        config_path.write_text(given.read_text() if given else model_config(models))
        return [choice.executable, f"--port={port}", f"--rest_api_port={rest_port}",
                f"--model_config_file={config_path}", *labels, *FLAGS, *_batching_flags(batching),
                *warm_up, "--grpc_channel_arguments=grpc.so_reuseport=0"]  # fmt: skip
    assert choice.kind == CONTAINER
    # A file that is given names the paths of this machine: they are the container's too.
    inside = {name: path if given else pathlib.PurePosixPath("/models") / name for name, path in models.items()}
    config_path.write_text(given.read_text() if given else model_config(inside))
    mounts = [(config_path, "/models/models.config"), *((models[name], inside[name]) for name in models)]
    batching_inside = pathlib.PurePosixPath("/models/batching.config") if batching else None
    if batching:
        mounts.append((batching, str(batching_inside)))
    rest = [f"--publish={host}:{rest_port}:8501"] if rest_port else []
    return [choice.executable, "run", "--rm", f"--name={folder.name}", f"--publish={host}:{port}:8500", *rest,
            *(f"--mount=type=bind,source={source},target={target},readonly" for source, target in mounts),
            finder.IMAGE, "--model_config_file=/models/models.config", *labels, *FLAGS,
            *_batching_flags(batching_inside), *warm_up]  # fmt: skip


def _batching_flags(path: pathlib.PurePath | None) -> list[str]:
    return ["--enable_batching=true", f"--batching_parameters_file={path}"] if path else []


def _embedded_flags(options: Options, folder: pathlib.Path) -> list[str]:
    flags = []
    if options.tls_files:
        files = options.tls_files
        flags += [f"--tls-cert={files.certificate_path}", f"--tls-key={files.key_path}",
                  f"--local-socket={folder / SOCKET}"]  # fmt: skip
        flags += [f"--tls-client-ca={files.client_ca_path}"] if files.client_ca_path else []
    if options.request_log_folder:
        flags += [f"--request-log={options.request_log_folder}", f"--request-log-key={options.request_log_key_path}",
                  f"--request-log-rate={options.request_log_rate}"]  # fmt: skip
        flags += ["--request-log-histories"] if options.request_log_histories else []
    return flags


def models_of_config(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Model -> base path of a models.config.

    Raises:
      ValueError: it cannot be read, is none, or names no model.
    """
    models = {entry.name: pathlib.Path(entry.base_path) for entry in _entries(path)}
    if not models:
        raise ValueError(f"{path} names no model: it needs a model_config_list, as in serving/deploy/models.config")
    return models


def versions_of_config(path: pathlib.Path) -> dict[str, set[int]]:
    """Model -> the versions that a models.config names, by number or by label; raises as `models_of_config`."""
    return {
        entry.name: {*entry.model_version_policy.specific.versions, *entry.version_labels.values()}
        for entry in _entries(path)
    }


def _entries(path: pathlib.Path) -> Sequence[Any]:
    try:
        config = text_format.Parse(path.read_text(), protocol.ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ValueError(f"{path} is no models.config (ModelServerConfig as text): {error}") from error
    return config.model_config_list.config  # type: ignore[no-any-return]


def model_config(models: Mapping[str, pathlib.PurePath]) -> str:
    """A ModelServerConfig in protobuf's text format; model -> base path."""

    def quote(value: object) -> str:
        return json.dumps(str(value), ensure_ascii=False)

    entries = (
        f'  config {{ name: {quote(name)} base_path: {quote(path)} model_platform: "tensorflow" }}\n'
        for name, path in models.items()
    )
    return f"model_config_list {{\n{''.join(entries)}}}\n"
