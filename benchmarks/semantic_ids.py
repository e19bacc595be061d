"""Semantic IDs by faiss beside scikit-learn's k-means: seconds, iterations, what each level leaves, shared tuples.

python -m benchmarks.semantic_ids --items 1000000                  # a million made-up vectors, 3 x 8192 codes
python -m benchmarks.semantic_ids --items 42000 --old              # scikit-learn beside it: minutes a level
python -m benchmarks.semantic_ids --vectors demo --old             # the demo's films, 3 x 256 codes
python -m benchmarks.semantic_ids --vectors embeddings.npy --old   # your own
python -m benchmarks.semantic_ids --recall --seeds 0,1,2           # the demo's model over either's catalogs: hours
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import faiss
import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from benchmarks.program import run
from benchmarks.records import RESULTS, append, typed
from benchmarks.rows import CodebookRecall, CodebookRow
from octorec.catalog import build
from octorec.catalog.codebook import Codebook, Fit
from octorec.catalog.columns import with_defaults
from octorec.catalog.nearest import Nearest, workers
from octorec.catalog.residual_kmeans import fit_codebook
from octorec.catalog.vectors import item_vectors
from octorec.data.movielens import movielens_100k
from octorec.data.splits import leave_last_out
from octorec.demo import run as demo
from octorec.progress import Progress, silent

OUT = RESULTS / "semantic_ids.jsonl"
CACHE = Path(".cache")
WIDTH = 64
PLACES = 2000  # of a mixture: few hold most of the items


def mixture(items: int, seed: int = 0) -> np.ndarray:
    """Vectors [items, WIDTH] float32 of length 1: places of heavy-tailed weight, each of its own breadth, in which the
    directions differ in theirs."""
    rng = np.random.default_rng(seed)
    weights = rng.pareto(1.2, PLACES) + 0.1
    place = rng.choice(PLACES, items, p=weights / weights.sum())
    middles, breadths = rng.normal(size=(PLACES, WIDTH)), rng.lognormal(-1, 0.4, PLACES)
    out = np.empty((items, WIDTH), np.float32)
    for start in range(0, items, 2**16):
        at = place[start : start + 2**16]
        spread = rng.normal(size=(len(at), WIDTH)) / np.sqrt(1 + np.arange(WIDTH) / 4)
        rows = middles[at] + breadths[at, None] * spread
        out[start : start + 2**16] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return out


def old_fit(vectors: np.ndarray, sizes: list[int], seed: int, progress: Progress = silent) -> Codebook:
    """What `fit_codebook` did before faiss: scikit-learn's k-means a level, on one thread."""
    rest = np.array(vectors, np.float32)
    centroids, iterations, errors = [], [], [_mean_square(rest)]
    for size in sizes:
        size = min(size, len(np.unique(rest, axis=0)))
        with threadpool_limits(1):
            fitted = KMeans(size, n_init=1, random_state=seed).fit(rest)
        centroids.append(fitted.cluster_centers_.astype(np.float32))
        rest -= centroids[-1][Nearest(centroids[-1]).search(rest)[0][:, 0]]
        iterations.append(int(fitted.n_iter_))
        errors.append(_mean_square(rest))
        print(f"scikit-learn: {size} codes, {iterations[-1]} iterations", flush=True)
    full = [np.concatenate([c, np.repeat(c[:1], size - len(c), 0)]) for c, size in zip(centroids, sizes, strict=True)]
    return Codebook(tuple(full), Fit(len(rest), (len(rest),) * len(sizes), tuple(iterations), tuple(errors)))


def _mean_square(x: np.ndarray) -> float:
    return float(np.square(x, dtype=np.float64).sum(1).mean())


METHODS = {"faiss": fit_codebook, "scikit-learn": old_fit}


def measure(method: str, named: str, vectors: np.ndarray, sizes: list[int], seed: int) -> CodebookRow:
    """A row: one codebook fitted, and the codes that it gives."""
    said = time.perf_counter()

    def progress(done: int, steps: int, what: str = "", /) -> None:
        print(f"{time.perf_counter() - said:7.1f} s  {method}: {what} ({done} of {steps})", flush=True)

    cpu, start = time.process_time(), time.perf_counter()
    codebook = METHODS[method](vectors, sizes, seed, progress)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    codes = codebook.assign(vectors)
    assign = time.perf_counter() - start
    counts = np.unique(codes, axis=0, return_counts=True)[1]
    fit = codebook.fit
    assert fit is not None
    return CodebookRow(
        method=method,
        vectors=named,
        items=len(vectors),
        width=vectors.shape[1],
        codebook_sizes=tuple(sizes),
        seed=seed,
        threads=workers() if method == "faiss" else 1,
        seconds=round(seconds, 2),
        cpu_seconds=round(cpu, 2),
        assign_seconds=round(assign, 2),
        used=tuple(fit.used),
        iterations=tuple(fit.iterations),
        errors=tuple(fit.errors),
        tuples=len(counts),
        sharing=int(counts[counts > 1].sum()),
        fingerprint=codebook.fingerprint,
        peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        faiss=faiss.__version__,
    )


def demo_vectors(seed: int) -> np.ndarray:
    """The vectors that the demo's catalog is built over."""
    movies = movielens_100k(CACHE)
    learned, _ = leave_last_out(movies.interactions, demo.HELD_OUT)
    made = item_vectors(learned, with_defaults(movies.items), seed)
    return made.vectors[made.known]


@contextmanager
def fitted_by(method: str) -> Iterator[None]:
    """Let `build_catalog` fit codebooks by one of METHODS."""
    with patch.object(build, "fit_codebook", METHODS[method]):
        yield


def recall(method: str, seed: int, cache: Path = CACHE) -> CodebookRecall:
    """A row: the demo's model in BF16, catalog and training of one seed, judged as the demo judges it."""
    movies = movielens_100k(cache)
    learned, examples = leave_last_out(movies.interactions, demo.HELD_OUT)
    with fitted_by(method):
        catalog = build.build_catalog(
            movies.interactions, movies.items, demo.CODEBOOK_SIZES, seed, hold_out=demo.HELD_OUT
        )
    training = replace(demo.TRAINING, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        demo.train_demo(learned, catalog, movies, Path(folder) / "bf16", False, training)
        engine = demo.demo_engine(Path(folder) / "bf16")
        found = demo.predict_demo(f"{method} {seed}", engine, examples, movies).values()
    metrics = {name: float(values.mean()) for name, values in found.items()}
    of_row = {"method": method, "demo_seed": seed, "sharing": catalog.n_sharing, **metrics}
    return typed("the demo's metrics", of_row, CodebookRecall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000, help="of the mixture")
    parser.add_argument("--vectors", default="mixture", help="mixture, demo, or a .npy file")
    parser.add_argument("--codes", help="codes a level; 256 for the demo, else 8192, at three levels")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--old", action="store_true", help="scikit-learn too")
    parser.add_argument("--recall", action="store_true", help="train the demo's model over catalogs of both")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    if options.recall:
        for seed in seeds:
            for method in METHODS:
                append(OUT, recall(method, seed))
        return
    usual = "256,256,256" if options.vectors == "demo" else "8192,8192,8192"
    sizes = [int(size) for size in (options.codes or usual).split(",")]
    for seed in seeds:
        if options.vectors == "mixture":
            vectors = mixture(options.items)
        else:
            vectors = demo_vectors(seed) if options.vectors == "demo" else np.load(options.vectors).astype(np.float32)
        for method in METHODS if options.old else ("faiss",):
            row = measure(method, Path(options.vectors).name, vectors, sizes, seed)
            print(row, flush=True)
            append(OUT, row)


if __name__ == "__main__":
    run(main)
