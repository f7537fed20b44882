"""A figure of how the last run's models learned: error and quality after every epoch, from what the Trainers noted."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Sequence

from pipeline.lineage import ComponentRun

FILE = "learning_curves.png"
_EPOCHS = "epochs.csv"
_LABELS = {
    "rmse": "RMSE (of the training's target)",
    "loss": "cross-entropy, nats a row",
    "ndcg_at_10": "NDCG@10",
}
_STYLES = {
    ("tuning", "train"): ("C0-", "train"),
    ("tuning", "eval"): ("C1-", "eval"),
    ("refit", "train"): ("C0--", "train + eval, the refit"),
}

Rows = list[dict[str, str]]


def draw(components: Sequence[ComponentRun], path: pathlib.Path) -> bool:
    """Draws a panel for each measure of each model; both phases, over the epochs.

    Args:
      components: of a run.
      path: of the PNG; its folder is made if need be.

    Returns:
      Whether there was anything to draw: not every family learns in epochs.
    """
    panels = [
        (model, measure, rows) for model, rows in _noted(components) for measure in _LABELS if _points(rows, measure)
    ]
    if not panels:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, all_axes = pyplot.subplots(1, len(panels), figsize=(4.5 * len(panels), 3.5), squeeze=False)
    for axes, (model, measure, rows) in zip(all_axes[0], panels, strict=True):
        for (phase, split), points in _points(rows, measure).items():
            line, label = _STYLES[phase, split]
            axes.plot(*zip(*points, strict=True), line, marker="." if len(points) < 50 else "", label=label)
        axes.set(title=model, xlabel="epoch, or step of a chain", ylabel=_LABELS[measure])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, dpi=120, format="png")
    partial.replace(path)  # whoever sees the file sees all of it
    pyplot.close(figure)
    return True


def _noted(components: Sequence[ComponentRun]) -> list[tuple[str, Rows]]:
    """Model's name and its rows of epochs.csv, of every Trainer that left some."""
    found = []
    for run in components:
        model_run = run.output("model_run")
        path = pathlib.Path(model_run.uri) / _EPOCHS if model_run else None
        if path and path.is_file():
            with path.open(newline="") as file:
                found.append((run.component.removesuffix("Trainer").lower(), list(csv.DictReader(file))))
    return found


def _points(rows: Rows, measure: str) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """(phase, split) -> epochs and values."""
    found = {}
    for phase, split in _STYLES:
        column = f"{split}_{measure}"
        points = [(int(row["epoch"]), float(row[column])) for row in rows if row["phase"] == phase and row.get(column)]
        if points:
            found[phase, split] = points
    return found
