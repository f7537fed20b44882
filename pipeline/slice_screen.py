"""The tables of `movierec metrics --slices`: kinds of users and of movies, and what stands beside."""

from __future__ import annotations

from typing import Any

import rich.box
import rich.table

_SHOWN = {
    "retrieval": ("ndcg_at_10", "recall_at_10", "recall_at_100"),
    "ranking": ("rmse", "mae", "calibration", "ndcg_at_10"),
}
"""Of the model itself, by model; of what stands beside it the first of these."""


def tables(found: dict[str, Any]) -> list[rich.table.Table]:
    """One table for each model that was measured in slices, and one for the ratings by what was predicted.

    Args:
      found: model -> its metrics.json.
    """
    by_slice = [_table(model, report) for model, report in found.items() if report["slices"]]
    return by_slice + [_buckets(model, report) for model, report in found.items() if report.get("calibration_buckets")]


def _buckets(model: str, report: dict[str, Any]) -> rich.table.Table:
    table = rich.table.Table(title=f"{model}, by predicted stars", title_justify="left", box=rich.box.SIMPLE)
    for name in ("predicted", "ratings", "mean prediction", "mean rating", "calibration"):
        table.add_column(name, justify="right")
    for bucket in report["calibration_buckets"]:
        means = [_figure(bucket[name]) for name in ("prediction", "rating", "calibration")]
        table.add_row(f"{bucket['from']:g} to {bucket['to']:g}", str(bucket["num"]), *means)
    return table


def _table(model: str, report: dict[str, Any]) -> rich.table.Table:
    slices = report["slices"]
    names = [name for name in _SHOWN[model] if name in report["metrics"]]
    beside = list(dict.fromkeys(other for part in slices for other in part.get("beside", {})))
    table = rich.table.Table(title=f"{model}, by slice", title_justify="left", box=rich.box.SIMPLE)
    table.add_column("slice")
    table.add_column("users" if "num_queries" in report else "ratings", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for other in beside:
        table.add_column(f"{other.replace('_', ' ')}\n{names[0]}", justify="right")
    for part in slices:
        own = [_figure(part["metrics"].get(name)) for name in names]
        others = [_figure(part.get("beside", {}).get(other, {}).get(names[0])) for other in beside]
        table.add_row(part["slice"].replace("=", " "), str(part["num"]), *own, *others)
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
