"""models.config: which models are served, which of their versions, and under which labels.

TensorFlow Serving's ModelServerConfig, from a file or from a HandleReloadConfigRequest, checked in its words.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.saved_model import RequestError, invalid_argument
from serving.versions import NEWEST, VersionPolicy

_PLATFORM = "tensorflow"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One entry of models.config."""

    name: str
    base_path: pathlib.Path
    policy: VersionPolicy = NEWEST
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Label -> version."""


def of_paths(models: Mapping[str, pathlib.Path]) -> tuple[ModelConfig, ...]:
    """The newest version of each model; name -> base path."""
    return tuple(ModelConfig(name, path.resolve()) for name, path in models.items())


def of_file(path: pathlib.Path) -> tuple[ModelConfig, ...]:
    """Reads a ModelServerConfig in protobuf's text format.

    Raises:
      ValueError: it is not one.
      RequestError: it is one that TensorFlow Serving refuses.
    """
    try:
        config = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        raise ValueError(f"{path} is no models.config (ModelServerConfig as text): {error}") from error
    return of_proto(config)


def of_proto(config: Any) -> tuple[ModelConfig, ...]:
    """Reads a ModelServerConfig.

    Raises:
      RequestError: with TensorFlow Serving's code and message.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    configs: dict[str, ModelConfig] = {}
    for entry in config.model_config_list.config:
        if entry.name in configs:
            raise invalid_argument(f"Illegal to list model {entry.name} multiple times in config list")
        if not entry.base_path.startswith("/"):
            raise invalid_argument(
                f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}"
            )
        if not entry.model_platform:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor"
                " ModelServerConfig::model_platform."
            )
        if entry.model_platform != _PLATFORM:
            raise invalid_argument(f"Model {entry.name} requests unsupported platform {entry.model_platform}")
        configs[entry.name] = ModelConfig(
            entry.name,
            pathlib.Path(entry.base_path),
            _policy(entry.model_version_policy),
            dict(entry.version_labels),
        )
    return tuple(configs.values())


def _policy(policy: Any) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(num_latest=None)
    if choice == "specific":
        return VersionPolicy(specific=frozenset(policy.specific.versions))
    return VersionPolicy(num_latest=policy.latest.num_versions or 1)


def under(root: pathlib.Path, config: ModelConfig) -> ModelConfig:
    """The config with its base path resolved through symbolic links, which must lie under `root`.

    A graph can read and write files: whoever has a model loaded runs code. So a request may only name what lies
    where the operator put models.

    Raises:
      RequestError: PERMISSION_DENIED, it lies elsewhere.
    """
    try:
        resolved = config.base_path.resolve()
        outside = not resolved.is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the name
        outside = True
    if outside:
        raise RequestError(
            grpc.StatusCode.PERMISSION_DENIED,
            f"the base path of model {config.name} does not lie under the folder that this server serves from",
        )
    return dataclasses.replace(config, base_path=resolved)
