"""`movierec promote` and `movierec rollback`: the labels of a root's models on a running server."""

from __future__ import annotations

import pathlib

import click
import grpc

from pipeline import root as roots
from serving import promotion


def promote(
    root: pathlib.Path | None,
    address: str,
    version: int,
    label: str,
    server_models: str | None,
    config_output: pathlib.Path | None,
    credentials: grpc.ChannelCredentials | None = None,
) -> None:
    """Points a label of the models to a version."""
    base_paths = _base_paths(root, address, server_models, credentials)
    _show(promotion.promote(address, base_paths, version, label, credentials=credentials), config_output)


def rollback(
    root: pathlib.Path | None,
    address: str,
    server_models: str | None,
    config_output: pathlib.Path | None,
    credentials: grpc.ChannelCredentials | None = None,
) -> None:
    """Points stable of the models back."""
    base_paths = _base_paths(root, address, server_models, credentials)
    _show(promotion.rollback(address, base_paths, credentials), config_output)


def _base_paths(
    root: pathlib.Path | None, address: str, server_models: str | None, credentials: grpc.ChannelCredentials | None
) -> dict[str, str]:
    models = server_models or str(roots.models_path(roots.find_pushed(root)).resolve())
    return {name: str(pathlib.PurePosixPath(models) / name) for name in promotion.served_models(address, credentials)}


def _show(moved: promotion.Moved, config_output: pathlib.Path | None) -> None:
    for model, labels in moved.labels.items():
        click.echo(f"{model}: " + ", ".join(f"{label} -> {version}" for label, version in labels.items()))
    if config_output:
        config_output.write_text(moved.config)
        click.echo(f"wrote {config_output}")
