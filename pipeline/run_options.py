"""Options that several verbs share. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import click

from trainer_modules import hyperparameters

_F = TypeVar("_F", bound=Callable[..., Any])
PATH = click.Path(path_type=pathlib.Path)


def root(function: _F) -> _F:
    return click.option(
        "--root", type=PATH, help="Folder of the run. Default: runs/DATASET-SPLIT for run, else the newest root."
    )(function)


def split(function: _F) -> _F:
    return click.option(
        "--split",
        help="leave_last_out (default); global_time, also with shares of train and eval (global_time:0.7,0.2) or with"
        " first days of eval and test (global_time:2001-01-01,2001-06-01); random; fold:u1 to fold:u5 (ml-100k)."
        " The last two train ranking alone.",
    )(function)


def seed(function: _F) -> _F:
    return click.option("--seed", type=int, help="Of the random draws and of the trainings. Default: 7.")(function)


def own_files(function: _F) -> _F:
    function = columns(function)
    function = click.option("--movies", type=PATH, help="With csv: the movies file.")(function)
    return click.option("--ratings", type=PATH, help="With csv: the ratings file, CSV or .parquet.")(function)


def columns(function: _F) -> _F:
    for option in (
        click.option(
            "--ratings-column", "ratings_columns", multiple=True, metavar="OURS=THEIRS", callback=pairs,
            help="What the file calls user_id, movie_id, rating or timestamp, if not userId, movieId, ...",
        ),
        click.option(
            "--movies-column", "movies_columns", multiple=True, metavar="OURS=THEIRS", callback=pairs,
            help="What the file calls movie_id, title or genres.",
        ),
        click.option("--rating-range", type=float, nargs=2, help="With csv: fewest and most stars. Default: .5 5."),
    ):
        function = option(function)
    return function


def pairs(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    """None where nothing is given, as settings.load wants it."""
    for pair in values:
        if "=" not in pair:
            raise click.BadParameter(f"{pair!r} is not of the form OURS=THEIRS, such as user_id=customer")
    return {ours: theirs for ours, _, theirs in (pair.partition("=") for pair in values)} or None


def given(context: click.Context, option: click.Parameter, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """None where nothing is given, as settings.load wants it."""
    return values or None


def batch(function: _F) -> _F:
    function = click.option(
        "--as-of", type=click.Choice(["train", "eval", "all"]), default="all", show_default=True,
        help="Batch: the last split whose rows count as known, as state and as mask.",
    )(function)
    return click.option("--output", type=PATH, help="Batch: the CSV file to write.")(function)


def settings(function: _F) -> _F:
    """What run and compile both take, beside the data set: what the graph is made of."""
    for option in (
        click.option(
            "--settings", "settings_path", type=PATH, help="A TOML file with any setting (pipeline/settings.py)."
        ),
        click.option(
            "--one-call/--no-one-call", default=None, help="Whether to push a third model: both stages in one graph."
        ),
        click.option("--user-snapshot/--no-user-snapshot", default=None, help="Whether models carry users' histories."),
        seed,
        click.option(
            "--ranking", "ranking_family",
            help=f"Model family: {', '.join(hyperparameters.RANKING)}. Default: factorization_machine on small"
            " editions, else deep.",
        ),
        click.option(
            "--retrieval", "retrieval_family",
            help=f"Model family: {', '.join(hyperparameters.RETRIEVAL)}. Default: two_tower.",
        ),
        click.option(
            "--warm-start", is_flag=True, default=None, help="Continue from the last blessed models of the root."
        ),
        click.option("--spans", help="all (default), or last:K: only the K newest spans that were ingested."),
        split,
    ):
        function = option(function)
    return function
