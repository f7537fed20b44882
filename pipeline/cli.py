"""The command line: verbs only. Each imports what it needs when it is called, so that --help is quick."""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any

import click

from components.editions import EDITIONS, OWN_FILES
from components.errors import InputError
from pipeline import run_options, server_options
from pipeline.server_options import DEFAULT_ADDRESS

DONE, FAULT, BAD_INPUT, NOT_BLESSED = 0, 1, 2, 3
"""Exit status of every verb."""

_DATASETS = ", ".join([*EDITIONS, OWN_FILES])
_PATH = run_options.PATH


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="movierec")
def cli() -> None:
    """A production recommender on TFX: MovieLens in, blessed models out, served over gRPC.

    Exit status: 0 done (pushed, or nothing new to push), 1 a fault, 2 bad input or usage, 3 ran but not blessed.
    """


@cli.command()
@click.option("--dataset", default="sample", show_default=True, help=f"{_DATASETS}: sample is synthetic, csv your own.")
@click.option("--data-dir", type=_PATH, help="An unpacked edition or its zip; else the cache, else a download.")
@run_options.own_files
@run_options.settings
@run_options.root
@click.option(
    "--preset", type=click.Choice(["tutorial"]),
    help="Settings laid over the data set's: tutorial, the models of tensorflow-recommenders' tutorials.",
)
@click.option("--max-bad-share", type=float, help="Share of bad rows that is set aside; above it, stop. Default: .01.")
@click.option(
    "--serving-log", "serving_logs", type=_PATH, multiple=True, callback=run_options.given, metavar="FILE",
    help="Logged requests (TFRecords of PredictionLogs), or a folder of them, to compare with; may be repeated.",
)
@click.option(
    "--tune", type=click.IntRange(min=1), metavar="N",
    help="Search each model's hyperparameters before it is trained: N trials, fitted on train, judged on eval.",
)
@click.option(
    "--hyperparameters", "hyperparameters_path", type=_PATH, metavar="FILE",
    help="Families and hyperparameters, TOML or JSON, such as the report/hyperparameters.toml that --tune leaves.",
)
@click.option("--full-evaluation", is_flag=True, default=None, help="TFMA measures every slice and plots; it is slow.")
@click.option("--force", is_flag=True, default=None, help="Push models that are not blessed, if they can be served.")
@click.option(
    "--target", type=click.Choice(["local", "kubeflow-local"]), default="local", show_default=True,
    help="kubeflow-local: what is compiled for Kubeflow, task by task, as its launcher would: a simulation.",
)
@click.option("--demo", is_flag=True, help="Then serve the models and ask for one user's recommendations.")
def run(target: str, demo: bool, **options: Any) -> None:
    """Run the pipeline: ingest, validate, transform, train, evaluate, bless, push."""
    from pipeline import screens, settings

    if target == "local":
        from pipeline import run_local

        outcome = run_local.run(settings.load(**options))
        screens.show_outcome(outcome)
    else:
        from pipeline import run_kubeflow_local

        simulated = run_kubeflow_local.run(settings.load(**options))
        outcome = simulated.outcome
        screens.show_outcome(outcome, simulated.metrics)
    if demo and outcome.pushed_version:
        from pipeline import demo as demonstration

        demonstration.ask_one_user(outcome.root_path)
    sys.exit(DONE if outcome.blessed else NOT_BLESSED)


@cli.command("compile")
@click.option("--target", "target_name", type=click.Choice(["kubeflow", "vertex"]), required=True, help="Who runs it.")
@click.option("--image", required=True, help="The image of every pod, made from pipeline/deploy/Dockerfile.")
@click.option("--output", type=_PATH, required=True, help="The YAML file to write.")
@click.option("--pipeline-root", default="", help="Bucket folder of the artifacts: s3://, minio:// or gs://. Default:"
              " that of Kubeflow's own object store.")
@click.option("--train-workers", "num_train_workers", type=click.IntRange(min=1), default=1, show_default=True,
              help="Pods that train a model together, by a TFJob.")
@click.option("--claim", default="movierec", show_default=True, help="PersistentVolumeClaim of the root; '': none.")
@click.option("--dataset", default="sample", show_default=True, help=f"{_DATASETS}: the last is read from spans there.")
@click.option("--data-dir", type=_PATH, help="An unpacked edition or its zip, as pods see it; else a download.")
@run_options.settings
def compile_(
    target_name: str, image: str, output: pathlib.Path, pipeline_root: str, claim: str, num_train_workers: int,
    **options: Any,
) -> None:
    """Compile the same graph for Kubeflow Pipelines or Vertex; needs the extra `kubeflow`."""
    from pipeline import run_kubeflow, settings

    target = run_kubeflow.Target(target_name, image, pipeline_root, claim, num_train_workers)
    chosen = settings.load(**options)
    defaults = run_kubeflow.compile_to(chosen, target, output)
    if num_train_workers > 1:
        together = run_kubeflow.trained_together(chosen, target)
        for name in chosen.models:
            pods = f"{num_train_workers} pods" if name in together else "one pod, as its family has to be"
            click.echo(f"{name} {getattr(chosen, name).family}: trained by {pods}")
    click.echo(f"{output}: for {target_name}, artifacts under {target.where}. Parameters, each with its default:")
    for name, value in defaults.items():
        click.echo(f"  {name:<16} {value}"[:110])


@cli.command()
@click.argument("pipeline_path", metavar="PIPELINE.yaml", type=_PATH)
@click.option("--host", required=True, help="Address of the Kubeflow Pipelines API.")
@click.option("--namespace", default="", help="Yours, in a Kubeflow of many users.")
@click.option("--experiment", default="movierec", show_default=True, help="Made where it is missing.")
@click.option("--name", default="movierec", show_default=True, help="Of the pipeline there.")
@click.option("--version-name", "version", default="", help="Of the version that is uploaded. Default: the time.")
@click.option("--set", "parameters", multiple=True, metavar="NAME=VALUE", help="A runtime parameter; may be repeated.")
@click.option("--schedule", default="", metavar="CRON", help='Run again and again: "0 3 * * *" is every day at 03:00.')
@click.option("--token-file", "token_path", type=_PATH, help="A file with a bearer token.")
@click.option("--watch", is_flag=True, help="Wait for the end, and show the tasks' states as they change.")
def submit(watch: bool, parameters: tuple[str, ...], **options: Any) -> None:
    """Upload a compiled pipeline to Kubeflow and run it there, once or on a schedule."""
    from pipeline import submit as submission

    for pair in parameters:
        if "=" not in pair:
            raise click.BadParameter(f"{pair!r} is not of the form NAME=VALUE, such as seed=8", param_hint="--set")
    given = {name: value for name, _, value in (pair.partition("=") for pair in parameters)}
    if watch and options["schedule"]:
        raise click.UsageError("--watch waits for one run, --schedule makes many; give one of them")
    connection = submission.Submitter(submission.Request(**options, parameters=given))
    done = connection.submit()
    click.echo(f"version {done.version}: {'recurring run' if done.recurring else 'run'} {done.id}")
    state = "SUCCEEDED"
    for task, state in connection.watch(done.id) if watch else ():
        click.echo(f"  {task or 'the run':<22} {state}")
    sys.exit(DONE if state == "SUCCEEDED" else FAULT)


@cli.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_PATH)
@click.option("--movies", "movies_files", multiple=True, type=_PATH, help="Movies that are new; may be repeated.")
@click.option("--root", type=_PATH, help="The root to add to. Default: that of --dataset, else the newest root.")
@click.option("--dataset", help="Of a root that is not there yet, with --split.")
@click.option("--split", help="leave_last_out (default), global_time or random.")
@click.option("--data-dir", type=_PATH, help="Of a root without spans: an unpacked edition or its zip.")
@run_options.columns
@click.option("--max-bad-share", type=float, help="Share of bad rows that is set aside; above it, stop. Default: .01.")
def ingest(
    files: tuple[pathlib.Path, ...], movies_files: tuple[pathlib.Path, ...],
    ratings_columns: dict[str, str] | None, movies_columns: dict[str, str] | None, **options: Any,
) -> None:
    """Add ratings to a root as a new span: .csv or .parquet with named columns, else in the edition's own format.

    What is there already is not added again; a newer rating of the same movie by the same user corrects the older.
    """
    from pipeline import ingest as ingestion
    from pipeline import screens

    columns = {"ratings": ratings_columns, "movies": movies_columns}
    screens.show_ingested(*ingestion.ingest(files, movies_files, columns, **options))


@cli.command()
@click.argument("dataset", metavar="EDITION")
@click.option("--data-dir", type=_PATH, help="An unpacked edition or its zip; else the cache, else a download.")
@run_options.own_files
@click.option("--max-bad-share", type=float, help="Share of bad rows that is set aside; above it, stop. Default: .01.")
@run_options.split
@run_options.seed
@click.option("--describe", is_flag=True, help="Read it: size, density, time, popularity, cold share of each split.")
@click.option("--accept", is_flag=True, help="Record in the root's schema what stopped its last run: it was meant.")
@click.option("--root", type=_PATH, help="With --accept: the run's. Default: runs/DATASET-SPLIT.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def data(describe: bool, accept: bool, as_json: bool, **options: Any) -> None:
    """Fetch and check a data set, and describe it, without a run; or accept how it has changed."""
    from pipeline import data as data_verb
    from pipeline import screens, settings

    if accept:
        screens.show_accepted(data_verb.accept(settings.load(**options)), as_json)
        return
    every_split = options["split"] is None
    screens.show_data(data_verb.report(settings.load(**options), describe, every_split), as_json)


@cli.command()
@run_options.root
@click.option("--address", default=DEFAULT_ADDRESS, show_default=True, help="Where to listen.")
@click.option(
    "--server", "kind", default="auto", show_default=True,
    type=click.Choice(["auto", "tensorflow_model_server", "container", "embedded"]), help="Which server to start.",
)
@click.option("--rest-port", type=click.IntRange(0, 65535), default=0, help="Answer REST at this port too; 0: do not.")
@server_options.starting
def serve(root: pathlib.Path | None, address: str, kind: str, rest_port: int, options: Any) -> None:
    """Serve the pushed models: tensorflow_model_server, else a container, else the embedded server.

    On loopback, unless --address names another host; then give it certificates.
    """
    from pipeline import serve as serving_verb

    serving_verb.serve(root, address, kind, rest_port, options)


@cli.command()
@click.argument("user_id", required=False)
@click.option("-k", "k", type=click.IntRange(min=1, max=1000), default=10, show_default=True, help="How many movies.")
@click.option("--exclude", multiple=True, metavar="MOVIE_ID", help="A movie not to show; may be repeated.")
@click.option("--genre", "genres", multiple=True, help="Only movies of this genre; may be repeated: of any of them.")
@server_options.asking
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--one-call", is_flag=True, help="Ask the model of both stages, if `run --one-call` pushed one.")
@click.option("--all", "all_users", is_flag=True, help="Batch: every user, from the pushed models, without a server.")
@click.option("--stage", type=click.Choice(["retrieval", "merged"]), default="merged", show_default=True,
              help="Batch: retrieval's order, or the order that is shown.")
@run_options.batch
@run_options.root
def recommend(
    user_id: str | None, k: int, exclude: tuple[str, ...], genres: tuple[str, ...], address: str, credentials: Any,
    deadline_s: float, as_json: bool, one_call: bool, all_users: bool, stage: str, as_of: str,
    output: pathlib.Path | None, root: pathlib.Path | None,
) -> None:
    """Recommend movies to USER_ID over gRPC, or to every user into a file (--all --output FILE)."""
    if all_users and user_id is None and output is not None and not genres:
        from pipeline import batch

        batch.recommend_all(root, k=k, as_of=as_of, stage=stage, exclude=exclude, output_path=output)
    elif user_id is not None and not all_users and output is None:
        from pipeline import online, screens

        found = online.recommend(address, deadline_s, user_id, k, exclude, genres, credentials, one_call)
        screens.show_recommendations(found, as_json)
    else:
        raise click.UsageError("give a USER_ID, or --all with --output FILE and without --genre")


@cli.command()
@click.argument("user_id", required=False)
@click.argument("movie_id", nargs=-1)
@click.option("--title", multiple=True, help='A movie by its title, such as "Speed (1994)"; may be repeated.')
@server_options.asking
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--pairs", type=_PATH, help="Batch: a CSV file with columns user_id, movie_id.")
@run_options.batch
@run_options.root
def rank(
    user_id: str | None, movie_id: tuple[str, ...], title: tuple[str, ...], address: str, deadline_s: float,
    credentials: Any, as_json: bool, pairs: pathlib.Path | None, as_of: str, output: pathlib.Path | None,
    root: pathlib.Path | None,
) -> None:
    """Predict the stars USER_ID would give each MOVIE_ID, or those of a file's pairs (--pairs FILE --output FILE)."""
    if pairs is not None and output is not None and user_id is None:
        from pipeline import batch

        batch.rank_pairs(root, pairs_path=pairs, as_of=as_of, output_path=output)
    elif user_id is not None and (movie_id or title) and pairs is None and output is None:
        from pipeline import catalog, screens
        from serving.client import RecommenderClient
        from trainer_modules import contract

        movie_ids = [*movie_id, *(catalog.ids_of_titles(root, title) if title else ())]
        if len(movie_ids) > contract.MAX_RANK:
            raise InputError(
                f"{len(movie_ids)} movies, and a server ranks {contract.MAX_RANK} in one call: ask in parts, or give"
                " --pairs FILE with --output FILE"
            )
        with RecommenderClient(address, deadline_s, credentials=credentials) as client:
            screens.show_ranked(client.rank(user_id, movie_ids), as_json)
    else:
        raise click.UsageError("give a USER_ID with MOVIE_IDs or --title, or --pairs FILE with --output FILE")


@cli.command()
@click.option("--catalog", "catalog_path", type=_PATH, metavar="FILE", help="Movies: .csv or .parquet.")
@click.option(
    "--movies-column", "columns", multiple=True, metavar="OURS=THEIRS", callback=run_options.pairs,
    help="What the file calls movie_id, title or genres.",
)
@click.option("--export", type=(click.Choice(["annoy"]), _PATH), metavar="annoy FILE",
              help="Write the candidate vectors for those who look up outside TensorFlow, and their ids beside.")
@click.option("--version", type=click.IntRange(min=1), help="The pushed version to start from. Default: the newest.")
@run_options.root
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def index(
    catalog_path: pathlib.Path | None, columns: dict[str, str] | None, export: tuple[str, pathlib.Path] | None,
    version: int | None, root: pathlib.Path | None, as_json: bool,
) -> None:
    """Push a version that knows more movies (--catalog FILE), or export the index. Nothing is trained."""
    if (catalog_path is None) == (export is None):
        raise click.UsageError("give --catalog FILE, or --export annoy FILE")
    from pipeline import index as indexing
    from pipeline import screens

    if catalog_path is not None:
        screens.show_indexed(indexing.grow(root, catalog_path, version, columns), as_json)
    elif export is not None:
        num_movies = indexing.export_annoy(root, export[1], version)
        click.echo(f"wrote {num_movies} vectors to {export[1]}, their movie ids to {export[1]}.ids.json")


@cli.command()
@click.argument("version", type=click.IntRange(min=1))
@click.option("--label", type=click.Choice(["stable", "canary"]), default="stable", show_default=True)
@server_options.labels
@run_options.root
def promote(
    version: int, label: str, address: str, credentials: Any, server_models: str | None,
    config_output: pathlib.Path | None, root: pathlib.Path | None,
) -> None:
    """Load VERSION of every model beside what is served, then point a label to it."""
    from pipeline import promote as labels

    labels.promote(root, address, version, label, server_models, config_output, credentials)


@cli.command()
@server_options.labels
@run_options.root
def rollback(
    address: str, credentials: Any, server_models: str | None, config_output: pathlib.Path | None,
    root: pathlib.Path | None,
) -> None:
    """Point the label stable back to the version it had before."""
    from pipeline import promote as labels

    labels.rollback(root, address, server_models, config_output, credentials)


@cli.command()
@run_options.root
@click.option("--slices", is_flag=True, help="Also by kinds of users and movies: warm and cold, popularity, genre, ...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: every metric of every model, slices included.")
def metrics(root: pathlib.Path | None, slices: bool, as_json: bool) -> None:
    """Show the last run's metrics beside popularity, biases and the last blessed models."""
    from pipeline import root as roots
    from pipeline import screens
    from pipeline.lineage import Lineage

    found = roots.find(root)
    read = Lineage(found)
    measured = read.metrics()
    if not measured:
        stopped = [run for run in read.components() if run.state in ("failed", "unfinished")]
        where = f", it stopped at {', '.join(run.component for run in stopped)}" if stopped else ""
        raise InputError(
            f"the last run in {found} came to no evaluation{where}: `movierec lineage` shows what ran, and"
            " `movierec run` resumes it"
        )
    screens.show_metrics(found, measured, as_json, slices)


@cli.command()
@run_options.root
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lineage(root: pathlib.Path | None, as_json: bool) -> None:
    """Show what ran, how long, what the cache answered, and where each pushed version came from."""
    from pipeline import root as roots
    from pipeline import screens
    from pipeline.lineage import Lineage

    screens.show_lineage(Lineage(roots.find(root)), as_json)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check this machine: Python, pinned packages, disk, port, servers, data."""
    from pipeline import doctor as checks
    from pipeline import screens

    sys.exit(DONE if screens.show_checks(checks.run(DEFAULT_ADDRESS), as_json) else FAULT)


def main() -> None:
    """Console entry point: turns known errors into one message and an exit status."""
    # Before TensorFlow loads: its notes on the processor are nobody's concern here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        cli()
    except InputError as error:
        _stop(error, BAD_INPUT)
    except Exception as error:
        # An error of our own says all there is to say; anything else is a bug and shows its traceback.
        if type(error).__module__.partition(".")[0] not in ("pipeline", "components", "serving", "trainer_modules"):
            raise
        _stop(error, FAULT)


def _stop(error: Exception, status: int) -> None:
    click.echo(f"movierec: {error}", err=True)
    sys.exit(status)
