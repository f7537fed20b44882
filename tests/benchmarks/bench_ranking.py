"""How good every ranking family is and what it costs, on ml-100k: the five official folds, and the split by time.

    python tests/benchmarks/bench_ranking.py [--splits fold:u1 ...] [--families bias ...] [--data-dir DIR] [--seed 7]
        [--scratch DIR]

Each split is read and transformed once by the pipeline's own components; a process for each split then fits family
after family as the Trainer does (tuned on eval, fitted anew on train + eval) and predicts the test rows, clipped. CPU
is user and system time of all threads of the fit alone, both its parts included; memory is the process's peak while it
runs, data and libraries included. By time, a user is warm who has a fit row. NDCG@10 is that of each user's test rows,
the mean over the users with several. Beside the families stands `deep` with its listwise loss.

The peers' figures were measured on the same folds by others' programs or published, and are quoted.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = HERE / "results" / "ranking.json"
FOLDS = tuple(f"fold:u{n}" for n in range(1, 6))
GLOBAL_TIME = "global_time"
BATCH = 4096
PEERS = {  # five-fold RMSE and MAE, RMSE on u1
    "biases only": (0.9413, 0.7439, 0.9536),
    "SVD, 200 factors, tuned": (0.9115, 0.7203, 0.9232),
    "item k-NN with baselines": (0.9178, 0.7188, 0.9311),
    "I-AutoRec": (0.9054, 0.7127, 0.9103),
    "Bayesian matrix factorisation": (0.8969, 0.7024, 0.9056),
    "Bayesian SVD++, flipped, side features": (0.8798, 0.6883, 0.8854),
    "GLocal-K (published, u1 alone)": (None, None, 0.8889),
}
VARIANTS = {"deep, listwise": ("deep", {"loss": "listwise"})}
"""Name -> a family and what is set of it over its preset."""
LINE = "{:<40} {:>15} {:>15} {:>8} {:>15} {:>12} {:>8}"


def prepare(split, data_dir, folder, seed):
    """Reads, splits and transforms: the pipeline's components, without the rest of it."""
    from tfx.components.util import examples_utils
    from tfx.dsl.components.base import base_beam_executor
    from tfx.proto import example_gen_pb2
    from tfx.types import artifact_utils

    from components.editions import get_edition
    from pipeline import digests, graph, run_local, settings
    from trainer_modules import features

    edition = get_edition("ml-100k")
    found = digests.Source(
        path=str(data_dir), digest="", environment=edition.environment, layout="", rating_range=edition.rating_range
    )
    chosen = settings.load("ml-100k", split=split, root=folder, seed=seed)
    made = graph.create_pipeline(chosen, found, digests.of_code(), run_local.BEAM_ARGUMENTS)
    for name in ("MovieLensExampleGen", "PinnedSchema", "Transform"):
        component = next(component for component in made.components if component.id == name)
        inputs, outputs = (
            {key: [channel.type()] for key, channel in channels.items()}
            for channels in (component.inputs, component.outputs)
        )
        for key, (artifact,) in (inputs | outputs).items():
            artifact.uri = str(folder / key)
        for key in outputs:
            (folder / key).mkdir(parents=True, exist_ok=True)
        for artifact in inputs.get("examples", []):
            artifact.split_names = artifact_utils.encode_split_names(list(features.SPLITS))
            examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)
            examples_utils.set_file_format(artifact, "tfrecords_gzip")
        context = base_beam_executor.BaseBeamExecutor.Context(
            beam_pipeline_args=run_local.BEAM_ARGUMENTS, tmp_dir=str(folder / "tmp" / name), unique_id="1"
        )
        component.executor_spec.executor_class(context).Do(inputs, outputs, component.exec_properties)


def measure(split, families, data_dir, folder, seed):
    """family -> figures, in this process."""
    import resource
    import types

    import numpy as np

    from components import evaluation_data, ranking_figures
    from pipeline import settings
    from trainer_modules import features as f
    from trainer_modules import inputs, ranking, ranking_data

    is_prepared = folder / "prepared"
    if not is_prepared.exists():
        prepare(split, data_dir, folder, seed)
        is_prepared.touch()
    files = {name: [f"{folder}/transformed_examples/Split-{name}/*"] for name in f.SPLITS}
    data = ranking_data.load(
        types.SimpleNamespace(
            train_files=files[f.TRAIN], eval_files=files[f.EVAL], transform_graph_path=str(folder / "transform_graph"),
            catalog_uri=str(folder / "catalog"), user_state_uri=str(folder / "user_state"), model_run_dir=str(folder),
            custom_config={"rating_range": [1.0, 5.0]},
        )
    )  # fmt: skip
    test = inputs.load_ratings(
        files[f.TEST], data.transform_output, [feature.name for feature in ranking_data.COLUMNS]
    )
    # Transformed rows name no movie that only test rows have; the examples, which lie in the same order, do.
    raw = evaluation_data.read(str(folder / "examples"), f.TEST, (f.USER_ID, f.MOVIE_ID, f.USER_RATING))
    stars, position = raw[f.USER_RATING.name], data.catalog.positions(raw[f.MOVIE_ID.name])
    assert (stars == test[f.USER_RATING.name]).all()
    assert (data.catalog.movie_index[position] == test[f.MOVIE_INDEX.name]).all()
    groups = {"all": np.ones(len(stars), bool)}
    if split == GLOBAL_TIME:
        groups["warm"] = test[f.USER_INDEX.name] >= f.FIRST_INDEX
        groups["cold"] = ~groups["warm"]

    def cpu_s():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    for name in families:
        # The kernel then counts the peak anew.
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        family, set_over = VARIANTS.get(name, (name, {}))
        chosen = settings.load("ml-100k", split=split, ranking_family=family).ranking
        began_s = cpu_s()
        fitted = ranking.FAMILIES[family](data, {**chosen.hyperparameters, **set_over}, seed)
        used_s, peak_mb = cpu_s() - began_s, high_water_mb()
        predicted = np.clip(predict(fitted.scorer, test, position), *data.rating_range)
        figures = {
            group: {
                "num": int(is_in.sum()),
                **ranking_figures.figures(raw[f.USER_ID.name][is_in], stars[is_in], predicted[is_in]),
            }
            for group, is_in in groups.items()
        }
        evals = [note["eval_rmse"] for note in fitted.epochs if "eval_rmse" in note]
        figures |= {"cpu_s": used_s, "peak_mb": peak_mb, "eval_rmse": min(evals)}
        print(json.dumps({"split": split, "family": name, "seed": seed, **figures}), flush=True)


def high_water_mb():
    """Peak resident memory since it was last counted anew."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM: this benchmark needs Linux.")


def predict(scorer, rows, position):
    """Columns [R] and catalog positions [R] -> float32 [R], unclipped."""
    import numpy as np

    from trainer_modules import ranking_data

    import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

    apply = tf.function(scorer.__call__, autograph=False)
    parts = []
    for first in range(0, len(position), BATCH):
        query = {c.name: tf.constant(rows[c.name][first : first + BATCH]) for c in ranking_data.QUERY}
        asked = tf.constant(position[first : first + BATCH], tf.int32)[:, None]
        parts.append(apply(query, asked).numpy()[:, 0])
    return np.concatenate(parts)


# ---- The table --------------------------------------------------------------------------------------


def spread(values):
    """Mean and standard deviation over the folds."""
    mean = sum(values) / len(values)
    return f"{mean:.4f} ± {(sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5:.4f}"


def figure(value):
    return "" if value is None else f"{value:.4f}"


def show(measured):
    """Prints what was measured beside what others did."""
    families = list(dict.fromkeys(one["family"] for one in measured))
    print(LINE.format("official folds", "RMSE", "MAE", "RMSE u1", "NDCG@10", "CPU s a fold", "peak MB"))
    for name, (rmse, mae, of_u1) in PEERS.items():
        print(LINE.format(f"({name})", figure(rmse), figure(mae), figure(of_u1), "", "", ""))
    for family in families:
        ours = [one for one in measured if one["family"] == family and one["split"] in FOLDS]
        if ours:
            of_u1 = [one["all"]["rmse"] for one in ours if one["split"] == FOLDS[0]]
            rmse, mae, ndcg = (spread([one["all"][n] for one in ours]) for n in ("rmse", "mae", "ndcg_at_10"))
            print(LINE.format(
                f"{family}, {len(ours)} folds", rmse, mae,
                figure(of_u1[0] if of_u1 else None), ndcg, f"{sum(one['cpu_s'] for one in ours) / len(ours):.1f}",
                f"{max(one['peak_mb'] for one in ours):.0f}",
            ))  # fmt: skip
    by_time = [one for one in measured if one["split"] == GLOBAL_TIME]
    if by_time:
        groups = ("all", "warm", "cold")
        rows = [f"{group}: {by_time[0][group]['num']}" for group in groups]
        print("\n" + LINE.format(GLOBAL_TIME, *rows, "", "CPU s", "peak MB"))
        for one in by_time:
            rmse = [f"{one[group]['rmse']:.4f}" for group in groups]
            print(LINE.format(one["family"], *rmse, "", f"{one['cpu_s']:.1f}", f"{one['peak_mb']:.0f}"))


def main():
    from trainer_modules import hyperparameters

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--splits", nargs="+", default=[*FOLDS, GLOBAL_TIME])
    parser.add_argument("--families", nargs="+", default=[*hyperparameters.RANKING, *VARIANTS])
    parser.add_argument("--data-dir", type=pathlib.Path, default=ROOT.parent / "shared" / "data" / "ml-100k")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS, help="raw values, JSON")
    parser.add_argument("--scratch", type=pathlib.Path, help="where transformed data stay for another time")
    parser.add_argument("--in-folder", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.data_dir.is_dir():
        sys.exit(f"this benchmark needs ml-100k, and {options.data_dir} is no folder: give --data-dir")
    if options.in_folder:
        measure(options.splits[0], options.families, options.data_dir, options.in_folder, options.seed)
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    measured = []
    for split in options.splits:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.scratch or pathlib.Path(temporary)).absolute() / split.replace(":", "-")
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, __file__, "--in-folder", str(folder), "--splits", split]
            command += ["--data-dir", str(options.data_dir.resolve()), "--families", *options.families]
            command += ["--seed", str(options.seed)]
            # What it says on the side is shown if it fails.
            said = pathlib.Path(folder, "stderr")
            with said.open("w") as stderr:
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
                for line in process.stdout:
                    if line.startswith("{"):
                        print(line, end="", flush=True)
                        measured.append({**json.loads(line), "commit": commit.strip()})
            if process.wait():
                sys.exit(said.read_text()[-3000:])
        record = {"machine": f"{os.cpu_count()} cores", "measured": measured}
        options.output.write_text(json.dumps(record, indent=1) + "\n")
    show(measured)
    print(f"\nraw values: {options.output}")


if __name__ == "__main__":
    main()
