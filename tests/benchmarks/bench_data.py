"""What ingest, statistics and Transform cost: CPU a row and peak memory, stage by stage, on generated ratings.

    python tests/benchmarks/bench_data.py [--rows 100000,1000000,5000000] [--stages ingest,statistics,transform]

The data is synthetic, in ml-25m's files and with its skew (movielens_like.py). Every stage is the pipeline's own
component with its executor, in a process of its own, so that its peak memory is its own. CPU time is the executor's,
all threads; what the process needs to import TFX (some 7 s, once a run of the pipeline) is left out. "marginal" is what
a row more costs, from the two largest sizes, free of a stage's fixed costs. The reference does the ingest's work row by
row in Python, on the first rows of the smallest size.
"""

import argparse
import collections
import csv
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results" / "data.json"
STAGES = {
    "ingest": "MovieLensExampleGen",
    "schema": "PinnedSchema",
    "statistics": "StatisticsGen",
    "transform": "Transform",
}
EDITION = "ml-25m"
REFERENCE_ROWS = 20_000
FULL_ROWS, NUM_CORES = 25_000_000, 2
TARGETS = (
    "ingest with histories: at most 10 us of CPU a row at 1M",
    "ingest, statistics and Transform together: at most 60 us",
    "peak memory: under 6 GB at 5M rows, growing slower than the data",
    "25M rows: under 40 minutes on 2 cores",
)


def cpu_s():
    """User and system time of this process and the children it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ---- One stage, in a process of its own ------------------------------------------------------------


def run_stage(stage, source, folder):
    """Runs one component on generated ratings and says what it cost."""
    from components.editions import get_edition
    from pipeline import digests, settings

    edition = get_edition(EDITION)
    found = digests.Source(
        path=str(source), digest="", environment=edition.environment, layout="", rating_range=edition.rating_range
    )
    return run_component(settings.Settings(dataset=EDITION, root=folder), found, stage, folder)


def run_component(chosen, source, stage, folder):
    """Runs one component of the graph; artifacts lie under the folder by the names of the outputs.

    Args:
      chosen: the run's settings.
      source: the run's data, a digests.Source.
      stage: of STAGES.
      folder: an absolute path.
    """
    from tfx.components.util import examples_utils
    from tfx.dsl.components.base import base_beam_executor
    from tfx.proto import example_gen_pb2
    from tfx.types import artifact_utils

    from pipeline import digests, graph, run_local
    from trainer_modules import features

    made = graph.create_pipeline(chosen, source, digests.of_code(), run_local.BEAM_ARGUMENTS)
    component = next(component for component in made.components if component.id == STAGES[stage])

    def artifacts(channels):
        of_key = {}
        for key, channel in channels.items():
            of_key[key] = [channel.type()]
            of_key[key][0].uri = str(folder / key)
        return of_key

    inputs, outputs = artifacts(component.inputs), artifacts(component.outputs)
    for artifact in inputs.get("examples", []):
        artifact.split_names = artifact_utils.encode_split_names(list(features.SPLITS))
        examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(artifact, "tfrecords_gzip")
    for artifact in (artifact for of_key in outputs.values() for artifact in of_key):
        pathlib.Path(artifact.uri).mkdir(parents=True)
    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=run_local.BEAM_ARGUMENTS, tmp_dir=str(folder / "tmp" / stage), unique_id="1"
    )
    executor = component.executor_spec.executor_class(context)
    began_s, wall_s = cpu_s(), time.perf_counter()
    executor.Do(inputs, outputs, component.exec_properties)
    return {
        "cpu_s": cpu_s() - began_s,
        "wall_s": time.perf_counter() - wall_s,
        "peak_mb": peak_mb(),
        "import_cpu_s": began_s,
    }


def run_reference(source, folder):
    """The ingest's work row by row: csv, dictionaries, one tf.train.Example at a time, TensorFlow's writer."""
    import itertools

    import tensorflow as tf

    from trainer_modules import features as f

    began_s, wall_s = cpu_s(), time.perf_counter()
    with (source / "movies.csv").open(newline="", encoding="utf-8") as file:
        movies = {row["movieId"]: (row["title"], row["genres"].split("|")) for row in csv.DictReader(file)}
    by_user = collections.defaultdict(list)
    with (source / "ratings.csv").open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(itertools.islice(csv.DictReader(file), REFERENCE_ROWS), start=2):
            stars, seconds = float(row["rating"]), int(row["timestamp"])
            by_user[row["userId"]].append((seconds, line, row["movieId"], stars))
    num_rows = 0
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
    with tf.io.TFRecordWriter(str(folder / "reference.gz"), options) as writer:
        for user, rows in by_user.items():
            rows.sort()
            for position, (seconds, line, movie, stars) in enumerate(rows):
                past = rows[max(0, position - f.HISTORY_LENGTH) : position]
                empty = f.HISTORY_LENGTH - len(past)
                title, genres = movies[movie]
                example = tf.train.Example()
                feature = example.features.feature
                feature[f.USER_ID.name].bytes_list.value.append(user.encode())
                feature[f.MOVIE_ID.name].bytes_list.value.append(movie.encode())
                feature[f.MOVIE_TITLE.name].bytes_list.value.append(title.encode())
                feature[f.MOVIE_GENRES.name].bytes_list.value.extend(genre.encode() for genre in genres)
                feature[f.USER_RATING.name].float_list.value.append(stars)
                feature[f.TIMESTAMP.name].int64_list.value.append(seconds)
                feature[f.SOURCE_LINE.name].int64_list.value.append(line)
                feature[f.HISTORY_MOVIE_ID.name].bytes_list.value.extend(
                    [b""] * empty + [row[2].encode() for row in past]
                )
                feature[f.HISTORY_RATING.name].float_list.value.extend([0.0] * empty + [row[3] for row in past])
                feature[f.HISTORY_TIMESTAMP.name].int64_list.value.extend([0] * empty + [row[0] for row in past])
                writer.write(example.SerializeToString())
                num_rows += 1
    return {
        "rows": num_rows, "cpu_s": cpu_s() - began_s, "wall_s": time.perf_counter() - wall_s, "peak_mb": peak_mb(),
    }  # fmt: skip


# ---- All of them -----------------------------------------------------------------------------------


def in_process(stage, source, folder):
    """A stage's figures; its output goes to a file beside its artifacts."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"}
    command = [sys.executable, __file__, "--stage", stage, "--source", str(source), "--folder", str(folder)]
    with (folder / f"{stage}.log").open("w") as log:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    if done.returncode:
        sys.exit(f"{stage} failed:\n{(folder / f'{stage}.log').read_text()[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(num_rows, stages, scratch):
    """Stage -> figures, of one size."""
    import movielens_like

    source, folder = scratch / f"{num_rows}-in", scratch / f"{num_rows}-out"
    source.mkdir(parents=True)
    folder.mkdir()
    movielens_like.write(source, num_rows)
    with (source / "ratings.csv").open("rb") as file:
        rows = sum(1 for _ in file) - 1
    found = {"rows": rows, "csv_mb": (source / "ratings.csv").stat().st_size / 1e6}
    in_process("schema", source, folder)
    for stage in stages:
        figures = in_process(stage, source, folder)
        found[stage] = figures
        print_line(f"{rows:,}", stage, rows, figures)
    found["examples_mb"] = sum(file.stat().st_size for file in (folder / "examples").rglob("*.gz")) / 1e6
    return found, source, folder


LINE = "{:>10} {:<22} {:>9} {:>11} {:>9} {:>9}"


def print_line(size, name, rows, figures):
    rate, cost = rows / figures["wall_s"], figures["cpu_s"] / rows * 1e6
    print(LINE.format(size, name, f"{rate:,.0f}", f"{cost:.1f}", f"{figures['cpu_s']:.1f}",
                      f"{figures['peak_mb']:,.0f}"), flush=True)  # fmt: skip


def verdicts(sizes, stages):
    """What is reached and what is not, and the extrapolation."""
    lines = []
    million = next((found for found in sizes if 900_000 < found["rows"] < 1_100_000), None)
    if million:
        per_row = {stage: million[stage]["cpu_s"] / million["rows"] * 1e6 for stage in stages}
        lines.append(f"{TARGETS[0]}: {per_row['ingest']:.1f} us, {reached(per_row['ingest'] <= 10)}")
        if len(stages) == 3:
            total = sum(per_row.values())
            parts = ", ".join(f"{stage} {cost:.1f}" for stage, cost in per_row.items())
            lines.append(f"{TARGETS[1]}: {total:.1f} us ({parts}), {reached(total <= 60)}")
    largest = sizes[-1]
    peak, peak_stage = max((largest[stage]["peak_mb"], stage) for stage in stages)
    lines.append(f"{TARGETS[2]}: {peak:,.0f} MB ({peak_stage}) at {largest['rows']:,} rows")
    if len(sizes) > 1:
        before = sizes[-2]
        lines[-1] += f", {max(before[stage]['peak_mb'] for stage in stages):,.0f} MB at {before['rows']:,}"
        costs = {}
        for stage in stages:
            slope = (largest[stage]["cpu_s"] - before[stage]["cpu_s"]) / (largest["rows"] - before["rows"])
            costs[stage] = largest[stage]["cpu_s"] + slope * (FULL_ROWS - largest["rows"])
            fixed = largest[stage]["cpu_s"] - slope * largest["rows"]
            lines.append(f"{stage}: {slope * 1e6:.1f} us of CPU for a row more, {fixed:.1f} s fixed")
        minutes = sum(costs.values()) / 60
        lines.append(
            f"{TARGETS[3]}: EXTRAPOLATED in a line from {before['rows']:,} and {largest['rows']:,} rows,"
            f" {minutes:.0f} minutes of CPU for {', '.join(stages)}: {minutes / NUM_CORES:.0f} minutes on"
            f" {NUM_CORES} cores fully used, {minutes:.0f} on one"
        )
    return lines


def reached(is_reached):
    return "reached" if is_reached else "NOT reached"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", default="100000,1000000,5000000")
    parser.add_argument("--stages", default="ingest,statistics,transform")
    parser.add_argument("--results", default=RESULTS, type=pathlib.Path, help="where the raw values go")
    parser.add_argument("--scratch", help="where the data lies meanwhile; left out: a temporary folder")
    for hidden in ("--stage", "--source", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        run = run_reference if options.stage == "reference" else lambda *args: run_stage(options.stage, *args)
        figures = run(pathlib.Path(options.source), pathlib.Path(options.folder))
        print(json.dumps(figures))
        return
    stages = options.stages.split(",")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} CPUs, load {load:.1f}, commit {commit.strip()}; synthetic ratings in {EDITION}'s format")
    print(LINE.format("rows", "stage", "rows/s", "CPU us/row", "CPU s", "peak MB"))
    sizes, reference = [], None
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        for num_rows in sorted(map(int, options.rows.split(","))):
            found, source, folder = measure(num_rows, stages, pathlib.Path(scratch))
            sizes.append(found)
            if reference is None:
                reference = in_process("reference", source, folder)
                print_line(f"{reference['rows']:,}", "row by row in Python", reference["rows"], reference)
    lines = verdicts(sizes, stages)
    print("\n".join(lines))
    options.results.parent.mkdir(exist_ok=True)
    result = {
        "command": f"python tests/benchmarks/bench_data.py --rows {options.rows} --stages {options.stages}",
        "commit": commit.strip(), "cpus": os.cpu_count(), "load_before": load, "load_after": os.getloadavg()[0],
        "synthetic": True, "sizes": sizes, "reference": reference, "verdicts": lines,
    }  # fmt: skip
    options.results.write_text(json.dumps(result, indent=1) + "\n")
    print(f"raw values: {options.results}")


if __name__ == "__main__":
    main()
