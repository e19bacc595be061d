"""k-means over many clusters: what it leaves, what it needs, and that a seed says it all."""

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.cluster import KMeans

from octorec.catalog import kmeans as module
from octorec.catalog import residual_kmeans
from octorec.catalog.kmeans import DRAWN_FROM, ITERATIONS, kmeans
from octorec.catalog.nearest import Nearest, distinct_rows
from octorec.catalog.residual_kmeans import LARGEST, fit_codebook
from octorec.errors import InputError


def mixture(n=3000, width=8, seed=0):
    """Places of unlike weight and breadth."""
    rng = np.random.default_rng(seed)
    weights = rng.pareto(1.5, 60) + 0.1
    place = rng.choice(60, n, p=weights / weights.sum())
    spread = rng.lognormal(-1, 0.5, 60)[place, None] * rng.normal(size=(n, width))
    return (rng.normal(size=(60, width))[place] + spread).astype(np.float32)


def error_of(x, centroids):
    return Nearest(centroids).search(x)[1].mean()


def test_it_leaves_no_more_than_scikit_learn():
    x = mixture()
    theirs = KMeans(200, n_init=1, random_state=0).fit(x).inertia_ / len(x)
    assert error_of(x, kmeans(x, 200, 0).centroids) < 1.02 * theirs


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    x = mixture(2 * 4096 + 5)
    made = []
    for threads in (1, 4, 4):
        monkeypatch.setattr("octorec.catalog.nearest.workers", lambda threads=threads: threads)
        made.append(fit_codebook(x, (64, 32), seed=7).fingerprint)
    assert len(set(made)) == 1


@pytest.mark.slow
def test_any_instruction_set_gives_the_same_bits():
    code = """import faiss, numpy
from octorec.catalog.residual_kmeans import fit_codebook
x = numpy.random.default_rng(0).normal(size=(9000, 24)).astype("float32")
distances = faiss.knn(x, x[:300].copy(), 2)[0]
print(fit_codebook(x, (128, 64), 0).fingerprint, distances.sum(dtype="float64"))"""
    sets = {}, {"OPENBLAS_CORETYPE": "Haswell", "FAISS_OPT_LEVEL": "avx2"}, {"OPENBLAS_CORETYPE": "Nehalem"}
    said = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **one}, capture_output=True, check=True).stdout
        for one in sets
    ]
    assert len({line.split()[0] for line in said}) == 1


def test_many_items_are_drawn_from_a_part_and_fitted_to_a_larger_one(monkeypatch):
    x = mixture(2000)
    monkeypatch.setattr(residual_kmeans, "PER_CODE", 50)
    codebook = fit_codebook(x, (8, 100), seed=0)
    assert DRAWN_FROM * 8 < 400
    assert (codebook.fit.vectors, codebook.fit.used) == (2000, (400, 2000))
    left = x - codebook.centroids[0][codebook.assign(x)[:, 0]]
    sizes = [np.square(part.astype(np.float64)).sum(1).mean() for part in (x, left)]
    np.testing.assert_allclose(codebook.fit.errors[:2], sizes, rtol=1e-9)
    assert str(codebook.fit).startswith("400, 2,000 of 2,000 vectors used a level, ")


def test_a_part_that_lacks_distinct_vectors_gives_way_to_all(monkeypatch):
    x = np.zeros((1000, 2), np.float32)
    x[-4:, 0] = [1, 2, 3, 4]
    monkeypatch.setattr(residual_kmeans, "PER_CODE", 10)
    codebook = fit_codebook(x, (5,), seed=0)
    assert codebook.fit.used == (1000,)
    assert sorted(codebook.centroids[0][:, 0].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 2, 7, 39])
def test_there_are_as_many_clusters_as_asked_whatever_repeats(size):
    x = np.concatenate([np.zeros((500, 3)), np.tile([[9, 9, 9]], (400, 1)), mixture(38, 3)]).astype(np.float32)
    clusters = kmeans(x, size, seed=1)
    assert clusters.centroids.shape == (size, 3)
    assert len(distinct_rows(clusters.centroids)) == size
    assert 1 <= clusters.iterations <= ITERATIONS


def test_neighbours_of_one_centre_can_all_be_merged():
    """Each of a simplex's corners has the middle as its nearest: one merge a round would not come to an end."""
    corners = np.concatenate([np.zeros((1, 64)), np.eye(64)]).astype(np.float32)
    assert len(module._merged(corners, np.ones(65), 32)) == 33
    clusters = kmeans(np.repeat(corners, 3, 0) + mixture(195, 64) / 100, 33, seed=0)
    assert len(clusters.centroids) == 33


def test_merging_is_weighted():
    centroids = np.array([[0, 0], [1, 0], [50, 0], [90, 0]], np.float32)
    merged = module._merged(centroids, np.array([3.0, 1, 5, 5]), 1)
    assert merged.tolist() == [[0.25, 0], [50, 0], [90, 0]]
    empty = module._merged(centroids, np.array([3.0, 1, 5, 0]), 1)
    assert empty.tolist() == [[0, 0], [1, 0], [50, 0]]


def test_it_ends_when_nothing_moves():
    x = np.repeat(np.eye(6, dtype=np.float32) * 10, 20, 0) + mixture(120, 6) / 1000
    assert kmeans(x, 6, seed=0).iterations < ITERATIONS


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2 * LARGEST, -2 * LARGEST])
def test_numbers_that_float32_cannot_square_are_refused(value):
    x = mixture(50)
    x[3, 2] = value
    with pytest.raises(InputError, match=r"item vectors: got .*finite"):
        fit_codebook(x, (4, 4), 0)
