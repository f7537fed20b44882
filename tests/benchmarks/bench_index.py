"""make bench-index: recall and CPU time of the ways to look candidates up, beside scoring all of them.

For 10k, 100k and 1M candidates, in a process each so that peak memory is its own: the exact index and the inverted file
as functions of the served model's operations (top_k and InvertedFile), ScaNN and Annoy through their own libraries
where the extras are installed. One thread, one query at a time, k = 100; nothing is masked. Candidates and queries are
SYNTHETIC: a mixture of Gaussians around Gaussian centres, with uneven shares and lengths; no model made them.

    .venv/bin/python tests/benchmarks/bench_index.py [--sizes 10000 100000 1000000] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable

SIZES = (10_000, 100_000, 1_000_000)
DIMENSION, K, NUM_QUERIES, SEED = 64, 100, 200, 7
WAYS = {"exact": (0,), "inverted_file": (8, 16, 32, 64), "scann": (100, 300), "annoy": (2000, 20_000)}
"""Each index is built once and asked with these settings: cells that the inverted file looks into, candidates that
ScaNN scores again, nodes that Annoy looks into."""


def vectors(num_candidates: int):
    """Candidates [N, D] and queries [NUM_QUERIES, D], float32: the same each time."""
    import numpy as np

    random = np.random.default_rng(SEED)
    num_centres = max(50, num_candidates // 500)
    coarse = random.normal(size=(50, DIMENSION))
    centres = coarse[random.integers(50, size=num_centres)] + 0.7 * random.normal(size=(num_centres, DIMENSION))
    share = random.pareto(1.5, num_centres) + 0.1

    def drawn(count: int):
        centre = random.choice(num_centres, count, p=share / share.sum())
        length = np.exp(0.2 * random.normal(size=(count, 1)))
        points = (centres[centre] + 0.6 * random.normal(size=(count, DIMENSION))) * length
        return (points / np.sqrt(DIMENSION)).astype(np.float32)

    return drawn(num_candidates), drawn(NUM_QUERIES)


def finder(way: str, candidates) -> Callable:
    """Builds the index; what it gives takes a setting, and that gives what takes a query [D] to its best positions."""
    if way in ("exact", "inverted_file"):
        import numpy as np

        from trainer_modules import inverted_file, top_k

        import tensorflow as tf  # isort: skip

        stored = tf.Variable(candidates)
        k, nothing = tf.constant([K]), tf.fill([1, 1], -1)
        index = inverted_file.InvertedFile(candidates, 0, 0) if way == "inverted_file" else None

        def exact(query):
            return top_k.top_k(top_k.mask(tf.matmul(query, stored, transpose_b=True), nothing), k).position

        def asked_with(probes: int) -> Callable:
            if index is not None:
                index.num_probes = probes  # read when the function is traced
            best = exact if index is None else lambda query: index(query, stored, nothing, k).position
            query = tf.TensorSpec([None, DIMENSION], tf.float32)
            compiled = tf.function(best, input_signature=[query], autograph=False).get_concrete_function()
            return lambda query: np.asarray(compiled(tf.constant(query[None])))[0]

        return asked_with
    if way == "scann":
        import scann

        leaves = round(len(candidates) ** 0.5)
        built = (
            scann.scann_ops_pybind.builder(candidates, K, "dot_product")
            .tree(leaves, max(1, leaves // 16), training_sample_size=min(len(candidates), 250_000))
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(max(WAYS["scann"]))
            .build()
        )
        return lambda rescored: lambda query: built.search(query, pre_reorder_num_neighbors=rescored)[0]
    import annoy

    built = annoy.AnnoyIndex(DIMENSION, "dot")
    built.set_seed(SEED)
    for item, vector in enumerate(candidates):
        built.add_item(item, vector)
    built.build(50, n_jobs=1)
    return lambda nodes: lambda query: built.get_nns_by_vector(query, K, search_k=nodes)


def measure(way: str, num_candidates: int) -> list[dict]:
    """One way at one size with each of its settings, in this process."""
    import numpy as np

    candidates, queries = vectors(num_candidates)
    best = np.concatenate([
        np.argpartition(-(chunk @ candidates.T), K, axis=1)[:, :K] for chunk in np.array_split(queries, 20)
    ])  # fmt: skip
    try:
        finder(way, candidates[:5000])  # imports; 70 cells, more than any number of probes
        begun = time.process_time()
        asked_with = finder(way, candidates)
    except ImportError as error:
        missing = f"{error.name} is not installed: pip install 'movierec[{way}]'"
        return [{"way": way, "num_candidates": num_candidates, "missing": missing}]
    build_s = time.process_time() - begun
    results = []
    for setting in WAYS[way]:
        find = asked_with(setting)
        for query in queries[:10]:
            find(query)
        begun = time.process_time()
        found = [find(query) for query in queries]
        query_ms = 1000 * (time.process_time() - begun) / len(queries)
        recall = np.mean([len(np.intersect1d(own, all_of)) / K for own, all_of in zip(found, best, strict=True)])
        results.append({
            "way": f"{way} {setting}" if setting else way, "num_candidates": num_candidates,
            "recall_at_100": round(float(recall), 4), "build_cpu_s": round(build_s, 2),
            "query_cpu_ms": round(query_ms, 4), "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        })  # fmt: skip
    return results


def table(results: list[dict]) -> str:
    """The results, each beside the exact index of its size."""
    heads = f"{'recall@100':>10} {'CPU ms':>9} {'of exact':>9} {'build s':>8} {'peak MiB':>9}"
    lines = [f"{'candidates':>10}  {'way':<18} {heads}"]
    exact = {one["num_candidates"]: one["query_cpu_ms"] for one in results if one["way"] == "exact"}
    for one in results:
        head = f"{one['num_candidates']:>10,}  {one['way']:<18} "
        if "missing" in one:
            lines.append(f"{head}not measured: {one['missing']}")
            continue
        ratio = one["query_cpu_ms"] / exact[one["num_candidates"]]
        lines.append(
            f"{head}{one['recall_at_100']:>10.3f} {one['query_cpu_ms']:>9.3f} {ratio:>9.3f} {one['build_cpu_s']:>8.1f}"
            f" {one['peak_mib']:>9,}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parent / "results")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "SIZE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure[0], int(asked.measure[1]))))
        return
    one_thread = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1",
                  "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}  # fmt: skip
    results = []
    for size in asked.sizes:
        for way in WAYS:
            command = [sys.executable, __file__, "--measure", way, str(size)]
            done = subprocess.run(command, env={**os.environ, **one_thread}, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{way} at {size} failed:\n{done.stderr[-3000:]}")
            of_way = json.loads(done.stdout.splitlines()[-1])
            exact = [one for one in results if one["way"] == "exact"]
            results += of_way
            print("\n".join(table([*exact, *of_way]).splitlines()[-len(of_way):]), flush=True)
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=pathlib.Path(__file__).parent).stdout.strip()
    about = {
        "command": "make bench-index", "commit": commit, "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load": os.getloadavg()[0], "vectors": "SYNTHETIC, a mixture of Gaussians", "dimension": DIMENSION, "k": K,
        "num_queries": NUM_QUERIES, "seed": SEED, "threads": 1,
    }  # fmt: skip
    asked.output.mkdir(parents=True, exist_ok=True)
    path = asked.output / f"index-{commit}.json"
    path.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")
    print("\nSYNTHETIC vectors, one thread; CPU per query\n" + table(results) + f"\n{path}")


if __name__ == "__main__":
    main()
