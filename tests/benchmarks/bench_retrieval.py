"""What every retrieval family reaches, and what it costs: the evaluator's own protocol on real MovieLens.

    python tests/benchmarks/bench_retrieval.py [--dataset ml-100k] [--splits leave_last_out,global_time]
        [--seeds 1,2,3] [--variants two_tower,...] [--ablation] [--data-dir DIR] [--scratch DIR]

The data are ingested and transformed once for each split, by the pipeline's own components; then every family is
trained by its own entry (tuned on eval, refitted on train + eval), exported, and judged by the pipeline's evaluation on
test. Each family has a process of its own, so that its peak memory is its own, and TensorFlow one thread. CPU seconds
are those of training, tuning and compilation included; examples a second those of the refit's median epoch. Choose
nothing by these figures: they are the test split's. --ablation leaves parts of two_tower out, one at a time.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import types

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

VARIANTS = {
    "popularity": ("popularity", {}),
    "recent popularity": ("popularity", {"half_life_days": 3.0}),
    "tutorial": ("tutorial", {}),
    "autorec": ("autorec", {}),
    "matrix_factorization": ("matrix_factorization", {}),
    "two_tower": ("two_tower", {}),
}
NOT_RANDOM = ("popularity", "recent popularity")
ABLATION = {
    "without the linear part": {"linear_rank": 0},
    "without recent popularity": {"popularity_half_life_days": 0.0},
    "without both: the towers alone": {"linear_rank": 0, "popularity_half_life_days": 0.0},
    "without running means of weights": {"average_momentum": 0.0},
    "without label smoothing": {"label_smoothing": 0.0},
    "one head": {"num_heads": 1},
    "512 sampled negatives, logQ corrected": {"num_negatives": 512},
    "without user ids": {"user_id_dropout": 1.0},
    "without newcomers' age, gender, occupation": {"fact_rank": 0},
}
LINE = "{:<40} {:>16} {:>8} {:>8} {:>8} {:>6} {:>8} {:>8} {:>6} {:>7} {:>8}"
HEAD = ("", "NDCG@10", "R@10", "R@20", "R@100", "MRR", "Cov@10", "warm", "cold", "CPU s", "rows/s")


def prepare(dataset, data_dir, split, folder):
    """The pipeline's components up to Transform, one after the other; artifacts lie under the folder by their names."""
    import bench_data

    from pipeline import settings, sources

    folder = pathlib.Path(folder)
    chosen = settings.load(dataset, split=split, data_dir=data_dir and pathlib.Path(data_dir), root=folder)
    source = sources.of_run(chosen)
    for stage in ("ingest", "schema", "transform"):
        bench_data.run_component(chosen, source, stage, folder)


def train(variant, family, hyperparameters, dataset, jobs):
    """Trains and judges one variant, split by split and seed by seed; prints a line of JSON for each."""
    import logging

    import tensorflow as tf
    from bench_data import cpu_s, peak_mb

    from components import retrieval_evaluation
    from pipeline import settings
    from trainer_modules import retrieval, retrieval_data, retrieval_model

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("movierec").addHandler(handler)
    logging.getLogger("movierec").setLevel(logging.INFO)
    preset = settings.load(dataset, retrieval_family=family).retrieval.hyperparameters
    for split, folder, seed in jobs:
        folder = pathlib.Path(folder)
        uris = {key: str(folder / key) for key in ("examples", "catalog", "user_state")}
        arguments = types.SimpleNamespace(
            transform_graph_path=str(folder / "transform_graph"), catalog_uri=uris["catalog"],
            user_state_uri=uris["user_state"],
        )  # fmt: skip
        data = retrieval_data.load(arguments)
        said.clear()
        began_s = cpu_s()
        towers = retrieval.FAMILIES[family](data, {**preset, **hyperparameters}, seed)
        trained_s = cpu_s() - began_s
        rates = [float(found[1]) for line in said if (found := re.search(r"refit.* (\d+) examples/s", line))]
        with tempfile.TemporaryDirectory() as path:
            retrieval_model.export(data, towers, path, user_snapshot=True)
            report = retrieval_evaluation.evaluate(
                path, None, **{f"{key}_uri": uri for key, uri in uris.items()}, gates={}, family=family
            )
        users = {item["slice"]: item for item in report["slices"] if item["slice"] in ("warm", "cold")}
        print(json.dumps({
            "variant": variant, "split": split, "seed": seed, "metrics": report["metrics"],
            "num_users": report["num_queries"],
            "slices": {name: {"num": item["num"], **item["metrics"]} for name, item in users.items()},
            "train_cpu_s": trained_s, "peak_mb": peak_mb(), "users_per_s": report["users_per_s"],
            "examples_per_s": statistics.median(rates) if rates else None, "epochs": list(towers.epochs),
            "chosen": [line for line in said if "best" in line],
        }), flush=True)  # fmt: skip


def in_process(*arguments):
    """Runs this file for one part of the work and gives back the lines of JSON it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def row(name, found):
    """A line of the table: means over the seeds, the spread of NDCG@10 beside its own."""
    mean = {metric: statistics.mean(one["metrics"][metric] for one in found) for metric in found[0]["metrics"]}
    ndcg = [one["metrics"]["ndcg_at_10"] for one in found]
    spread = f" ±{statistics.stdev(ndcg):.4f}" if len(ndcg) > 1 else ""
    users = [
        f"{statistics.mean(one['slices'][slice_]['ndcg_at_10'] for one in found):.4f}"
        if slice_ in found[0]["slices"] else "" for slice_ in ("warm", "cold")
    ]  # fmt: skip
    rate = [one["examples_per_s"] for one in found if one["examples_per_s"]]
    return LINE.format(
        name, f"{mean['ndcg_at_10']:.4f}{spread}", f"{mean['recall_at_10']:.4f}", f"{mean['recall_at_20']:.4f}",
        f"{mean['recall_at_100']:.4f}", f"{mean['mrr_at_100']:.3f}", f"{mean['coverage_at_10']:.2f}", *users,
        f"{statistics.mean(one['train_cpu_s'] for one in found):.0f}",
        f"{statistics.median(rate):,.0f}" if rate else "",
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data-dir", type=pathlib.Path, help="an unpacked edition; else the cache, else a download")
    parser.add_argument("--splits", default="leave_last_out,global_time")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--variants", help=f"of {', '.join(VARIANTS)}; left out: all")
    parser.add_argument("--ablation", action="store_true", help="two_tower, and two_tower less each of its parts")
    parser.add_argument("--results", type=pathlib.Path, help="where the raw values go")
    parser.add_argument("--scratch", type=pathlib.Path, help="where transformed data stay for another time")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part = json.loads(options.part)
        {"prepare": prepare, "train": train}[part.pop("do")](**part)
        return
    splits, seeds = options.splits.split(","), [int(seed) for seed in options.seeds.split(",")]
    if options.ablation:
        variants = {"two_tower": VARIANTS["two_tower"]}
        variants |= {name: ("two_tower", values) for name, values in ABLATION.items()}
    else:
        variants = VARIANTS
    if options.variants:
        variants = {name: variants[name] for name in options.variants.split(",")}
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    load = os.getloadavg()[0]
    title = f"{options.dataset}, {os.cpu_count()} cores, load {load:.1f}, commit {commit}, seeds {options.seeds}"
    print(title, flush=True)
    results = options.results or HERE / "results" / (
        f"retrieval-{'ablation-' if options.ablation else ''}{options.dataset}-{commit}.json"
    )
    raw, lines = [], [title]
    with tempfile.TemporaryDirectory() as temporary:
        folders = {}
        for split in splits:
            folder = (options.scratch or pathlib.Path(temporary)).absolute() / f"{options.dataset}-{split}"
            folders[split] = str(folder)
            if not (folder / "transform_graph").is_dir():
                data_dir = str(options.data_dir.absolute()) if options.data_dir else None
                in_process("--part", json.dumps({
                    "do": "prepare", "dataset": options.dataset, "data_dir": data_dir, "split": split,
                    "folder": str(folder),
                }))  # fmt: skip
        for name, (family, values) in variants.items():
            jobs = [
                (split, folders[split], seed) for split in splits
                for seed in (seeds[:1] if name in NOT_RANDOM else seeds)
            ]  # fmt: skip
            found = in_process("--part", json.dumps({
                "do": "train", "variant": name, "family": family, "hyperparameters": values,
                "dataset": options.dataset, "jobs": jobs,
            }))  # fmt: skip
            raw += found
            for split in splits:
                print(split, row(name, [one for one in found if one["split"] == split]), flush=True)
            results.parent.mkdir(exist_ok=True)
            results.write_text(json.dumps({
                "command": " ".join(["python", "tests/benchmarks/bench_retrieval.py", *sys.argv[1:]]),
                "commit": commit, "cpus": os.cpu_count(), "load_before": load,
                "load_after": os.getloadavg()[0], "seeds": seeds, "runs": raw,
            }, indent=1) + "\n")  # fmt: skip
    for split in splits:
        users = next(one for one in raw if one["split"] == split)["num_users"]
        lines += ["", f"{split}, test split, {users} users", LINE.format(*HEAD)]
        lines += [row(name, [o for o in raw if o["split"] == split and o["variant"] == name]) for name in variants]
    lines += ["", "warm, cold: NDCG@10 of users with and without fit rows; CPU s: one training, tuned and refitted"]
    print("\n".join(["", *lines]))
    results.with_suffix(".txt").write_text("\n".join(lines) + "\n")
    print(f"raw values: {results}")


if __name__ == "__main__":
    main()
