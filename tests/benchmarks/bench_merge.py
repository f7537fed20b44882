"""make bench-merge: is there an order of retrieval's candidates by score and stars that beats retrieval's own?

Both models are fitted on train alone; the weight of the stars and the depth to which they may reorder are chosen on the
eval rows; then both are refitted on train + eval and the chosen merge is measured once on the test rows, beside
retrieval's order, with a paired bootstrap over users. The merge within the first DEPTH of 100 candidates is
z(score) + weight * z(stars), each standardised over the list; below DEPTH the order stays.

    .venv/bin/python tests/benchmarks/bench_merge.py --root runs/ml-100k-leave_last_out [--seeds 7 8 9]

The data are those of a finished run of the pipeline; the families and their hyperparameters are the preset's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import tempfile
import time
import types
from typing import Any

import numpy as np

from components import evaluation_data, explicit_state, retrieval_protocol
from pipeline import settings as settings_of
from pipeline.lineage import Lineage
from trainer_modules import (
    contract,
    ranking,
    ranking_data,
    ranking_signatures,
    retrieval,
    retrieval_data,
    retrieval_model,
)
from trainer_modules import features as f

import tensorflow as tf  # isort: skip

WEIGHTS = (-0.5, -0.25, -0.1, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0)
DEPTHS = (10, 20, 50, 100)
HERE = pathlib.Path(__file__).resolve().parent


class _TrainOnly(ranking_data.RankingData):
    """Refits on what it is tuned on."""

    @property
    def fit(self) -> ranking_data.Rows:
        return self.train


@dataclasses.dataclass(frozen=True, eq=False)
class Lists:
    """The candidates of Q queries: int64 and float [Q, 100]."""

    position: np.ndarray
    score: np.ndarray
    stars: np.ndarray


def fitted(
    fn_args: Any, settings: settings_of.Settings, seed: int, folder: pathlib.Path, train_only: bool
) -> dict[str, str]:
    """Trains and exports both; model -> path."""
    paths = {name: str(folder / name) for name in contract.MODELS}
    data = retrieval_data.load(fn_args)
    if train_only:
        data = dataclasses.replace(data, fit=data.train)
    towers = retrieval.FAMILIES[settings.retrieval.family](data, settings.retrieval.hyperparameters, seed)
    retrieval_model.export(data, towers, paths[contract.RETRIEVAL], user_snapshot=False)
    rows = ranking_data.load(fn_args)
    if train_only:
        rows = _TrainOnly(**vars(rows))
    found = ranking.FAMILIES[settings.ranking.family](rows, settings.ranking.hyperparameters, seed)
    ranking_signatures.export(found.scorer, rows, paths[contract.RANKING], user_snapshot=False)
    return paths


def lists(paths: dict[str, str], queries: retrieval_protocol.Queries, catalog: evaluation_data.Catalog) -> Lists:
    """Asks retrieval for 100 candidates and ranking for their stars, from the same explicit state."""
    models = {name: tf.saved_model.load(path) for name, path in paths.items()}
    recommend = models[contract.RETRIEVAL].signatures[contract.RECOMMEND_FOR_HISTORY]
    rank = models[contract.RANKING].signatures[contract.RANK_FOR_HISTORY]
    shape = (len(queries.user_id), retrieval_protocol.NUM_RECOMMENDED)
    found = Lists(np.full(shape, -1), np.full(shape, -np.inf), np.zeros(shape))
    for row, request in retrieval_protocol.requests(queries):
        answer = recommend(**request)
        movie_id = answer[contract.MOVIE_ID]
        found.position[row] = catalog.positions(movie_id.numpy().astype(bytes))
        found.score[row] = answer[contract.SCORE].numpy()
        state = explicit_state.query(
            queries.user_id[row], queries.states, queries.state[row], contract.MAX_HISTORY
        )
        found.stars[row] = rank(**state, **{contract.MOVIE_ID: movie_id})[contract.STARS].numpy()
    return found


def merged(found: Lists, weight: float, depth: int) -> np.ndarray:
    """int64 [Q, 100], best first."""
    standard = [(part - part.mean(axis=1, keepdims=True)) / (part.std(axis=1, keepdims=True) + 1e-9)
                for part in (found.score, found.stars)]  # fmt: skip
    value = standard[0] + weight * standard[1]
    value[:, :depth] += 1e6  # the first come first, in whatever order
    value[:, depth:] = -np.arange(value.shape[1] - depth)
    return np.take_along_axis(found.position, np.argsort(-value, axis=1, kind="stable"), axis=1)


def ndcg(position: np.ndarray, queries: retrieval_protocol.Queries) -> np.ndarray:
    """float64 [Q]."""
    return retrieval_protocol.measure(position, queries.positives)["ndcg_at_10"]


def measure(fn_args: Any, settings: settings_of.Settings, seed: int) -> dict[str, Any]:
    """One seed: the choice on eval, the verdict on test."""
    begun = time.process_time()
    catalog = evaluation_data.read_catalog(fn_args.catalog_uri)
    with tempfile.TemporaryDirectory() as folder:
        of_train = fitted(fn_args, settings, seed, pathlib.Path(folder, "train"), train_only=True)
        asked = retrieval_protocol.read_queries(
            fn_args.examples_uri, fn_args.user_state_uri, catalog, split=f.EVAL, known=(f.TRAIN,)
        )
        on_eval = lists(of_train, asked, catalog)
        tried = {(weight, depth): float(ndcg(merged(on_eval, weight, depth), asked).mean())
                 for weight in WEIGHTS for depth in DEPTHS}  # fmt: skip
        weight, depth = max(tried, key=lambda one: (tried[one], -abs(one[0]), one[1]))
        of_all = fitted(fn_args, settings, seed, pathlib.Path(folder, "all"), train_only=False)
        queries = retrieval_protocol.read_queries(fn_args.examples_uri, fn_args.user_state_uri, catalog)
        on_test = lists(of_all, queries, catalog)
    alone, both = ndcg(on_test.position, queries), ndcg(merged(on_test, weight, depth), queries)
    low, high = retrieval_protocol.bootstrap_interval(both - alone)
    return {
        "seed": seed, "weight": weight, "depth": depth, "cpu_s": round(time.process_time() - begun, 1),
        "eval": {"retrieval": tried[0.0, 100], "merged": tried[weight, depth],
                 "by_weight_at_100": {str(one): round(tried[one, 100], 4) for one in WEIGHTS}},
        "test": {"retrieval": float(alone.mean()), "merged": float(both.mean()),
                 "difference": [float(low), float((both - alone).mean()), float(high)],
                 "by_weight_at_100": {str(one): round(float(ndcg(merged(on_test, one, 100), queries).mean()), 4)
                                      for one in WEIGHTS}},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path("runs/ml-100k-leave_last_out"))
    parser.add_argument("--dataset", default="ml-100k", help="Whose preset says families and hyperparameters.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "results")
    asked = parser.parse_args()
    runs = {run.component: run for run in Lineage(asked.root).components()}
    trainer = runs["RankingTrainer"]
    examples_uri = trainer.inputs["examples"][0].uri
    fn_args = types.SimpleNamespace(
        train_files=[f"{examples_uri}/Split-train/*"], eval_files=[f"{examples_uri}/Split-eval/*"],
        transform_graph_path=trainer.inputs["transform_graph"][0].uri,
        catalog_uri=trainer.inputs["catalog"][0].uri, user_state_uri=trainer.inputs["user_state"][0].uri,
        examples_uri=runs["MovieLensExampleGen"].outputs["examples"][0].uri,
        custom_config={"rating_range": json.loads(trainer.properties["custom_config"])["rating_range"]},
    )  # fmt: skip
    settings = settings_of.load(asked.dataset)
    results = []
    for seed in asked.seeds:
        results.append(measure(fn_args, settings, seed))
        print(json.dumps(results[-1]), flush=True)
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=HERE).stdout.strip()
    about = {
        "command": "make bench-merge", "commit": commit, "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "dataset": asked.dataset, "split": json.loads((asked.root / "root.json").read_text())["split"],
        "families": {name: getattr(settings, name).family for name in contract.MODELS},
    }  # fmt: skip
    asked.output.mkdir(parents=True, exist_ok=True)
    path = asked.output / f"merge-{commit}.json"
    path.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")
    heads = f"{'eval alone':>10} {'merged':>7}  {'test alone':>10} {'merged':>7}  difference, 95 %"
    print(f"{'seed':>4} {'weight':>6} {'depth':>5}  {heads}")
    for one in results:
        low, mean, high = one["test"]["difference"]
        print(
            f"{one['seed']:>4} {one['weight']:>6} {one['depth']:>5}  {one['eval']['retrieval']:>10.4f}"
            f" {one['eval']['merged']:>7.4f}  {one['test']['retrieval']:>10.4f} {one['test']['merged']:>7.4f} "
            f" {mean:+.4f} ({low:+.4f} to {high:+.4f})"
        )
    print(path)


if __name__ == "__main__":
    main()
