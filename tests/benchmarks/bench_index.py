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
PROBES = (8, 16, 32, 64)
LIBRARIES = ("scann 100", "scann 300", "annoy 2000", "annoy 20000")
"""ScaNN with so many candidates rescored, Annoy with so many nodes looked into."""
WAYS = ("exact", *(f"inverted_file {probes}" for probes in PROBES), *LIBRARIES)


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
    """Builds the index; what it gives takes a query [D] and gives the positions of the best K."""
    kind, _, setting = way.partition(" ")
    if kind in ("exact", "inverted_file"):
        import numpy as np

        from trainer_modules import inverted_file, top_k

        import tensorflow as tf  # isort: skip

        stored = tf.Variable(candidates)
        k, nothing = tf.constant([K]), tf.fill([1, 1], -1)
        if kind == "exact":
            def best(query):
                return top_k.top_k(top_k.mask(tf.matmul(query, stored, transpose_b=True), nothing), k).position
        else:
            index = inverted_file.InvertedFile(candidates, 0, int(setting))

            def best(query):
                return index(query, stored, nothing, k).position

        compiled = tf.function(best, input_signature=[tf.TensorSpec([None, DIMENSION], tf.float32)], autograph=False)
        return lambda query: np.asarray(compiled(query[None]))[0]
    if kind == "scann":
        import scann

        leaves = round(len(candidates) ** 0.5)
        built = (
            scann.scann_ops_pybind.builder(candidates, K, "dot_product")
            .tree(leaves, max(1, leaves // 16), training_sample_size=min(len(candidates), 250_000))
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(int(setting))
            .build()
        )
        return lambda query: built.search(query)[0]
    import annoy

    built = annoy.AnnoyIndex(DIMENSION, "dot")
    built.set_seed(SEED)
    for item, vector in enumerate(candidates):
        built.add_item(item, vector)
    built.build(50, n_jobs=1)
    return lambda query: built.get_nns_by_vector(query, K, search_k=int(setting))


def measure(way: str, num_candidates: int) -> dict:
    """One way at one size, in this process."""
    import numpy as np

    candidates, queries = vectors(num_candidates)
    best = np.concatenate([
        np.argpartition(-(chunk @ candidates.T), K, axis=1)[:, :K] for chunk in np.array_split(queries, 20)
    ])  # fmt: skip
    try:
        finder(way, candidates[:5000])  # imports; 70 cells, more than any number of probes
        begun = time.process_time()
        find = finder(way, candidates)
    except ImportError as error:
        extra = f"pip install 'movierec[{way.split()[0]}]'"
        return {"way": way, "num_candidates": num_candidates, "missing": f"{error.name} is not installed: {extra}"}
    build_s = time.process_time() - begun
    for query in queries[:10]:
        find(query)
    begun = time.process_time()
    found = [find(query) for query in queries]
    query_ms = 1000 * (time.process_time() - begun) / len(queries)
    recall = float(np.mean([len(np.intersect1d(own, all_of)) / K for own, all_of in zip(found, best, strict=True)]))
    return {
        "way": way, "num_candidates": num_candidates, "recall_at_100": round(recall, 4),
        "build_cpu_s": round(build_s, 2), "query_cpu_ms": round(query_ms, 4),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }  # fmt: skip


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
            results.append(json.loads(done.stdout.splitlines()[-1]))
            print(table(results).splitlines()[-1], flush=True)
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
