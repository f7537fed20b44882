"""The end of `movierec run --demo`: serve what was pushed, ask over gRPC for one user's movies, stop."""

from __future__ import annotations

import pathlib

import click

from pipeline import batch, screens, serve
from serving.client import RecommenderClient


def ask_one_user(root: pathlib.Path, k: int = 10) -> None:
    """Prints the recommendations of the first user of the root's data."""
    user_id = batch.first_user(root)
    click.echo("\nstarting a server ...")
    with serve.running(root, "127.0.0.1:0") as started, RecommenderClient(started.address, timeout_s=10.0) as client:
        click.echo(f"asking {started.description} at {started.address} over gRPC")
        screens.show_recommendations(client.recommend(user_id, k), as_json=False, title=f"for user {user_id}")
    click.echo("server stopped. `movierec serve` starts it again, `movierec recommend USER` asks it.")
