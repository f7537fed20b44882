"""What searches over hyperparameters found, kept in the root as a settings file."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from pipeline import hyperparameter_files
from pipeline.lineage import ComponentRun, Lineage
from trainer_modules import contract, search_spaces

FILE = "hyperparameters.toml"
TUNERS = {f"{model.capitalize()}Tuner": model for model in contract.MODELS}


def keep_found(root_path: pathlib.Path) -> pathlib.Path | None:
    """Writes report/hyperparameters.toml with the best values that the last run's searches found; None: it had none."""
    runs = [run for run in Lineage(root_path).components() if run.component in TUNERS]
    tables = [table for run in runs if (table := _table(run))]
    if not tables:
        return None
    path = root_path / "report" / FILE
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{FILE}")
    partial.write_text("\n".join(tables))
    partial.replace(path)  # whoever sees the file sees all of it
    return path


def summary(run: ComponentRun) -> str:
    """A Tuner's outcome in a line; "" where it found nothing."""
    trials = _trials(run)
    if not trials:
        return ""
    model = TUNERS[run.component]
    name, direction = search_spaces.METRICS[model]
    best = (max if direction == "max" else min)(trials, key=lambda trial: trial["score"])
    config = json.loads(run.properties["custom_config"])
    first = next((trial["score"] for trial in trials if int(trial["trial_id"]) == 0), None)
    number, began = int(best["trial_id"]) + 1, "none" if first is None else f"{first:.4f}"
    return (
        f"eval {name} {best['score']:.4f} in trial {number} of {config['num_trials']},"
        f" {began} with the values it began with"
    )


def _trials(run: ComponentRun) -> list[dict[str, Any]]:
    results = run.output("tuner_results")
    path = pathlib.Path(results.uri) / "tuner_results.json" if results else None
    return json.loads(path.read_text()) if path is not None and path.is_file() else []


def _table(run: ComponentRun) -> str:
    """Its best values over those it began with, as TOML."""
    found = run.output("best_hyperparameters")
    path = pathlib.Path(found.uri) / "best_hyperparameters.txt" if found else None
    if path is None or not path.is_file():
        return ""
    model, config = TUNERS[run.component], json.loads(run.properties["custom_config"])
    values = {**config["hyperparameters"], **json.loads(path.read_text())["values"]}
    note = f"{summary(run)}; seed {config['seed']}."
    return hyperparameter_files.table(model, config["family"], values, note)
