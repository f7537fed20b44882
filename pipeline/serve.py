"""`movierec serve`: the pushed models of a root behind a server, until it is told to stop."""

from __future__ import annotations

import contextlib
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import click

from components.errors import InputError
from pipeline import root as roots
from serving import commands, server


@contextlib.contextmanager
def running(
    root: pathlib.Path | None,
    address: str,
    kind: str = "auto",
    rest_port: int = 0,
    options: server.Options = server.DEFAULTS,
) -> Iterator[server.RunningServer]:
    """Serves the root's models, or those of the models.config that `options` name, for the time of the context.

    Raises:
      InputError: nothing has been pushed there, or that file names nothing.
    """
    models = _models(root, options)
    for name, path in models.items():
        if not any(entry.name.isdigit() for entry in path.glob("*")):
            raise InputError(f"no {name} model has been pushed to {path}; `movierec run` trains and pushes one")
    with server.start(models, address=address, kind=kind, rest_port=rest_port, options=options) as started:
        yield started


def _models(root: pathlib.Path | None, options: server.Options) -> dict[str, pathlib.Path]:
    if options.models_config_path is None:
        found = roots.find_pushed(root)
        return {name: roots.models_path(found) / name for name in roots.model_names(found)}
    if root is not None:
        raise InputError("--root and --models-config both say what to serve: give one of them")
    try:
        return commands.models_of_config(options.models_config_path)
    except ValueError as error:
        raise InputError(str(error)) from error


def serve(
    root: pathlib.Path | None, address: str, kind: str, rest_port: int = 0, options: server.Options = server.DEFAULTS
) -> None:
    """Serves until interrupted or terminated."""
    what = options.models_config_path or roots.models_path(roots.find_pushed(root))
    labelled = options.models_config_path is not None
    takes = "versions and labels are that file's" if labelled else "new versions are taken as they are pushed"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    # Its models are loaded and warmed up before anybody is told that they are served.
    click.echo(f"starting a server of {what} ...", err=True)
    with contextlib.suppress(KeyboardInterrupt), running(root, address, kind, rest_port, options) as started:
        if started.exposure:
            click.echo(started.exposure)
        click.echo(f"serving {what} at {started.address} with {started.description}")
        click.echo(f"{takes}; Ctrl-C stops")
        started.wait()
    click.echo("stopped")
