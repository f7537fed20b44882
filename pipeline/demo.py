"""The end of `movierec run --demo`: serve what was pushed, ask over gRPC for one user's movies, stop."""

from __future__ import annotations

import pathlib

import click

from pipeline import batch, catalog, screens, serve
from pipeline import root as roots
from serving import server
from serving.client import RecommenderClient
from trainer_modules import contract


def ask_one_user(root: pathlib.Path, k: int = 10) -> None:
    """Prints the recommendations of the first user of the root's data; stars of some movies where ranking is alone."""
    user_id = batch.first_user(root)
    click.echo("\nstarting a server ...")
    with (
        # For two questions it is not worth it to warm up every signature.
        serve.running(root, "127.0.0.1:0", options=server.Options(warm_up=False)) as started,
        RecommenderClient(started.address, timeout_s=60.0) as client,
    ):
        click.echo(f"asking {started.description} at {started.address} over gRPC")
        if contract.RETRIEVAL in roots.model_names(root):
            screens.show_recommendations(client.recommend(user_id, k), as_json=False, title=f"for user {user_id}")
            verb = "recommend USER"
        else:
            click.echo(f"there is no retrieval model: the first {k} movies of the catalog, ranked for user {user_id}")
            screens.show_ranked(client.rank(user_id, catalog.first_ids(root, k)), as_json=False)
            verb = "rank USER MOVIE_ID"
    click.echo(f"server stopped. `movierec serve` starts it again, `movierec {verb}` asks it.")
