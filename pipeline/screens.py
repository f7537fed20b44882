"""What the verbs print: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import rich.box
import rich.console
import rich.table

from components import editions
from pipeline import figures, slice_screen

if TYPE_CHECKING:
    from components.description import Description
    from components.span_ingestion import Ingested
    from pipeline.data import Accepted, Report
    from pipeline.doctor import Check
    from pipeline.index import Indexed
    from pipeline.lineage import Lineage
    from pipeline.run_local import Outcome
    from serving.client import Ranked, Recommendations

_SHOWN = {
    "retrieval": ("ndcg_at_10", "recall_at_10", "recall_at_100", "mrr_at_100", "coverage_at_10"),
    "ranking": ("rmse", "mae", "calibration", "ndcg_at_10"),
}
SYNTHETIC = "SYNTHETIC data: these figures say nothing about real people"


def show_outcome(outcome: Outcome, found: dict[str, Any] | None = None) -> None:
    """The last screen of a run: metrics, blessings, where the models lie.

    Args:
      outcome: of the run.
      found: model -> its metrics.json; None: as ML Metadata has them.
    """
    if found is None:
        from pipeline.lineage import Lineage

        found = Lineage(outcome.root_path).metrics()
    show_metrics(outcome.root_path, found, as_json=False)
    console = _console()
    if outcome.pushed_version is None:
        for model, report in found.items():
            for reason in report["reasons"]:
                console.print(f"{model} not blessed: {reason}")
        console.print(f"NOT pushed ({outcome.elapsed_s:.0f} s). The log of the run: {outcome.log_path}")
        return
    what = "pushed as" if outcome.new else "nothing new to push: it is"
    models = "Both models" if len(found) > 1 else f"The {next(iter(found))} model"
    blessed = f"{models} blessed" if all(report["blessed"] for report in found.values()) else "NOT blessed, but forced"
    console.print(f"{blessed}, {what} version {outcome.pushed_version} ({outcome.elapsed_s:.0f} s):")
    for model in (*found, "both"):
        path = outcome.root_path / "models" / model / outcome.pushed_version
        if path.is_dir():
            console.print(f"  {path}")


def show_metrics(root: pathlib.Path, found: dict[str, Any], as_json: bool, by_slice: bool = False) -> None:
    """Every model's metrics with their baselines."""
    identity = json.loads((root / "root.json").read_text())
    synthetic = editions.is_synthetic(identity["dataset"])
    if as_json:
        _print_json({"root": str(root), **identity, "synthetic": synthetic, **found})
        return
    console = _console()
    for model, report in found.items():
        size = f"{report['num_queries']} users" if "num_queries" in report else f"{report['num_rows']} ratings"
        table = _table(f"{model}, {identity['dataset']} {identity['split']}, test split, {size}")
        names = [name for name in _SHOWN[model] if name in report["metrics"]]
        table.add_column("")
        for name in names:
            table.add_column(name, justify="right")
        rows = {f"{model} model": report["metrics"], **report["baselines"]}
        last = report["last_blessed"]
        if last:
            rows[f"last blessed (version {last['version']})"] = last["metrics"]
        for label, metrics in rows.items():
            table.add_row(label.replace("_", " "), *(_figure(metrics.get(name)) for name in names))
        console.print(table)
        if last and last.get("note"):
            console.print(f"last blessed: {last['note']}")
        if worst := report.get("worst_slice"):
            console.print(f"fairness: {_fairness(worst)}")
        if report.get("warm_start"):
            console.print(f"{model} model: {report['warm_start']['note']}")
        console.print("blessed" if report["blessed"] else f"NOT blessed: {'; '.join(report['reasons'])}")
        if forced := report.get("forced_version"):
            console.print(f"pushed all the same, by --force, as version {forced}")
    for table in slice_screen.tables(found) if by_slice else ():
        console.print(table)
    if synthetic:
        console.print(SYNTHETIC, style="bold")


def show_ingested(root: pathlib.Path, found: Ingested) -> None:
    """What an ingest came to."""
    console = _console()
    span = found.span
    counts = f"{span.num_duplicates:,} there already, {span.num_rejected:,} set aside"
    if not found.is_new:
        console.print(f"nothing new in {span.num_rows_in:,} ratings ({counts}): nothing was added to {root}")
        return
    console.print(
        f"span-{span.number}: {span.num_rows:,} of {span.num_rows_in:,} ratings are new ({counts}),"
        f" {span.num_movies:,} movies new or described anew\n  {root} now holds"
        f" {sum(one.num_rows for one in found.spans):,} ratings in {len(found.spans)} span{'s'[: len(found.spans) - 1]}"
    )


def show_indexed(done: Indexed, as_json: bool) -> None:
    """What `movierec index` came to."""
    if as_json:
        _print_json(dataclasses.asdict(done))
    elif done.version is None:
        _console().print(f"every movie of the file is known to version {done.base_version}: nothing was pushed")
    else:
        _console().print(
            f"version {done.version}: version {done.base_version} and {done.num_new:,} new movies, {done.num_movies:,}"
            f" in all; pushed to {done.root}/models, nothing was trained"
        )


def show_lineage(lineage: Lineage, as_json: bool) -> None:
    """The last run's components and the pushed versions' origins."""
    runs, pushed = lineage.components(), lineage.pushed()
    if as_json:
        components = [dataclasses.asdict(run) for run in runs]
        _print_json({"root": str(lineage.root), "runs": lineage.run_ids(), "components": components, "pushed": pushed})
        return
    console = _console()
    table = _table(f"run {lineage.run_ids()[-1]} in {lineage.root}")
    table.add_column("component")
    table.add_column("state")
    table.add_column("seconds", justify="right")
    table.add_column("started")
    for run in runs:
        started = datetime.datetime.fromtimestamp(run.started_ms / 1000)
        table.add_row(run.component, run.state, f"{run.duration_s:.1f}", f"{started:%H:%M:%S}")
    console.print(table)
    for version in pushed:
        there = "" if version["on_disk"] else ", no longer on disk"
        forced = f", by --force without {', '.join(version['forced_without'])}" if version["forced_without"] else ""
        console.print(f"version {version['version']}, pushed {version['pushed_at']}{forced}{there}")
        if grown := version["index"]:
            console.print(
                f"  made of version {grown['base_version']} without training: {grown['num_new']:,} movies more than it"
                f" was trained on, the last of {grown['file']} ({grown['file_digest'][:12]})"
            )
        for name, source in version["models"].items():
            data = source["data"]
            numbers = json.loads(data["spans"] or "[]")
            spans = f", spans {', '.join(map(str, numbers))}" if numbers else ""
            console.print(
                f"  {name}: {source['family']}, seed {source['seed']}, code {str(source['code'])[:12]}, data"
                f" {data['dataset']} {data['split']} {str(data['data_digest'])[:12]} ({data['num_rows']:,}"
                f" ratings{spans}), trained in {source['trained_s']:.1f} s"
            )
            if start := source["warm_start"]:
                before = start["version"] or "(never pushed)"
                console.print(f"    warm start from model {start['model_id']}, version {before}")
            console.print(f"    {source['model_uri']}")


def show_recommendations(found: Recommendations, as_json: bool, title: str = "") -> None:
    """One user's list."""
    if as_json:
        _print_json(dataclasses.asdict(found))
        return
    table = _table(title)
    for name, justify in (("", "right"), ("movie", "left"), ("id", "right"), ("score", "right"), ("stars", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for place, item in enumerate(found.movies, start=1):
        table.add_row(str(place), item.title, item.movie_id, f"{item.score:.3f}", _figure(item.stars, 2))
    _console().print(table)
    if found.fallback == "retrieval":
        _console().print("the ranking model does not answer: retrieval's order, without stars")
    elif found.fallback:
        _console().print("the retrieval model does not answer: what is popular with everybody")


def show_ranked(found: Sequence[Ranked], as_json: bool) -> None:
    """One user's predicted stars."""
    if as_json:
        _print_json([dataclasses.asdict(item) for item in found])
        return
    table = _table("")
    table.add_column("movie_id")
    table.add_column("stars", justify="right")
    for item in found:
        table.add_row(item.movie_id, _figure(item.stars, 2))
    _console().print(table)


def show_checks(checks: Sequence[Check], as_json: bool) -> bool:
    """The doctor's findings; returns whether all is well."""
    if as_json:
        _print_json([dataclasses.asdict(check) for check in checks])
    else:
        table = _table("")
        for name in ("check", "", "seen", "advice"):
            table.add_column(name)
        for check in checks:
            table.add_row(check.name, "ok" if check.ok else "NO", check.seen, "" if check.ok else check.advice)
        _console().print(table)
    return all(check.ok for check in checks)


def show_data(report: Report, as_json: bool) -> None:
    """Where a data set lies and, where asked for, what it is like."""
    if as_json:
        _print_json(dataclasses.asdict(report))
        return
    console = _console()
    console.print(f"{report.dataset}: {report.path}\n  {report.checked}\n  content {report.data_digest}")
    if report.description:
        _show_description(console, report.description)
    if report.synthetic:
        console.print(SYNTHETIC, style="bold")


def show_accepted(accepted: Accepted, as_json: bool) -> None:
    """What is deliberate from now on."""
    if as_json:
        _print_json(dataclasses.asdict(accepted))
        return
    console = _console()
    for change in accepted.changes:
        console.print(f"accepted: {change}")
    console.print(f"recorded in {accepted.schema_path}: `movierec run` goes on from here")


def _show_description(console: rich.console.Console, found: Description) -> None:
    per_user, per_movie = found.ratings_per_user, found.ratings_per_movie
    stars = ", ".join(f"{kind}: {count / found.num_ratings:.1%}" for kind, count in found.stars.items())
    shares = ", ".join(f"{float(top):.0%} have {share:.0%}" for top, share in found.top_shares.items())
    console.print(
        f"{found.num_ratings:,} ratings ({found.num_duplicates:,} duplicates dropped, {found.num_rejected:,} set aside)"
        f" by {found.num_users:,} users of {found.num_movies:,} movies, density {found.density:.3%}\n"
        f"  {found.num_users_without_ratings:,} users and {found.num_movies_without_ratings:,} movies have no rating\n"
        f"  {found.first_time} to {found.last_time}\n"
        f"  stars: {stars}; mean {found.mean_stars:.3f}\n"
        f"  a user: {per_user['min']:,} to {per_user['max']:,} ratings, median {per_user['median']:g}\n"
        f"  a movie: {per_movie['min']:,} to {per_movie['max']:,} ratings, median {per_movie['median']:g}\n"
        f"ratings per day, busiest {found.busiest_day} with {max(found.ratings_per_day):,}\n"
        f"{figures.bars(found.ratings_per_day, found.first_time[:10], found.last_time[:10])}\n"
        f"ratings per movie, from the most rated on, logarithmic; of all ratings, the most rated {shares}\n"
        f"{figures.bars(found.popularity, '1', f'{len(found.popularity):,}', scale=math.log1p)}"
    )
    for movie_id, title, count in found.top_movies:
        console.print(f"  {count:>8,}  {title} (id {movie_id})")
    table = _table("splits; cold: a user or movie that no row of an earlier split names")
    for name in ("split", "part", "rows", "users", "cold users", "rows of cold users", "rows of cold movies"):
        table.add_column(name, justify="left" if name in ("split", "part") else "right")
    for name, parts in found.splits.items():
        for split, part in parts.items():
            cold = (part.cold_user_share, part.cold_row_share, part.cold_movie_row_share)
            words = ["" if share is None else f"{share:.1%}" for share in cold]
            table.add_row(name, split, f"{part.num_rows:,}", f"{part.num_users:,}", *words)
    console.print(table)


def _console() -> rich.console.Console:
    # Paths and titles hold brackets and numbers: print them as they are, and never fold a path. Where there is no
    # terminal to say how wide it is, tables are not cut.
    console = rich.console.Console(markup=False, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160
    return console


def _table(title: str) -> rich.table.Table:
    return rich.table.Table(title=title or None, title_justify="left", box=rich.box.SIMPLE)


def _figure(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _fairness(worst: dict[str, Any]) -> str:
    limit = "no limit" if worst["limit"] is None else f"limit {worst['limit']:g}"
    return (
        f"worst is {worst['slice'].replace('=', ' ')}, rmse {worst['rmse']:.4f} over {worst['num']} ratings,"
        f" {worst['ratio']:.2f} times the whole's ({limit})"
    )


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
