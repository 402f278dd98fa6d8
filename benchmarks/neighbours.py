"""Measures exact search of neighbours: ours against scikit-learn and FAISS, with peak memory.

    python -m benchmarks.neighbours [--gallery=200000] [--queries=5000] [--width=768] [--json]

The 20 nearest of every query by cosine, features of length 1, drawn around 1,000 centers. Every way
runs in a process of its own, which draws the same features; seconds are of the search alone, peak
memory is of the process. `faiss` takes part where it is installed (pip install faiss-cpu).
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np

K, CENTERS, CHUNK = 20, 1000, 10_000


def draw(count: int, width: int, seed: int) -> np.ndarray:
    """Draws features of length 1 without a second array of their size."""
    centers = np.random.default_rng(0).standard_normal((CENTERS, width), np.float32)
    rng = np.random.default_rng(seed)
    features = np.empty((count, width), np.float32)
    for at in range(0, count, CHUNK):
        part = features[at : at + CHUNK]
        part[:] = centers[rng.integers(CENTERS, size=len(part))]
        part += rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return features


def ours(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    from omnivore_jax.eval.knn import nearest

    return nearest(query, gallery, K)[0]


def sklearn(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(gallery)
    return search.kneighbors(query, return_distance=False)


def faiss(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    import faiss as library  # pyright: ignore[reportMissingImports]

    index = library.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return index.search(query, K)[1]


WAYS = {"ours": ours, "sklearn": sklearn, "faiss": faiss}


def run(way: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Searches once and says how long it took, the peak memory, and a digest of what was found."""
    gallery = draw(arguments.gallery, arguments.width, 1)
    query = draw(arguments.queries, arguments.width, 2)
    WAYS[way](query[:256], gallery[:20_000])  # imports and compiles
    began = time.perf_counter()
    found = WAYS[way](query, gallery)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "peak_gib": peak, "sum": float(np.sort(found, 1).sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gallery", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(run(arguments.way, arguments)))
        return
    ways = [way for way in WAYS if way != "faiss" or find_spec("faiss")]
    command = [sys.executable, "-m", "benchmarks.neighbours", *sys.argv[1:]]
    best: dict[str, dict[str, float]] = {}
    for _ in range(arguments.repeats):  # turn by turn
        for way in ways:
            said = subprocess.run([*command, f"--way={way}"], check=True, capture_output=True)
            row = json.loads(said.stdout.splitlines()[-1])
            if way not in best or row["seconds"] < best[way]["seconds"]:
                best[way] = row
    if arguments.json:
        print(json.dumps(best))
        return
    for way, row in best.items():
        ratio = row["seconds"] / best["ours"]["seconds"]
        print(f"{way:8} {row['seconds']:7.2f} s  {ratio:5.2f} x  {row['peak_gib']:.2f} GiB")
    if len({row["sum"] for row in best.values()}) > 1:
        print("what was found differs: equally near rows, or features that round otherwise")


if __name__ == "__main__":
    main()
