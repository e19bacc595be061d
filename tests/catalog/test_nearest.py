"""The nearest centroids: exact, and the same in every company."""

import subprocess
import sys

import faiss
import numpy as np
import pytest

from octorec.catalog import nearest as nearest_module
from octorec.catalog.nearest import BLOCK, Nearest, distinct_rows


def by_hand(x, centroids, k=1):
    """The k nearest of each row, a tie to the lower code, in float64."""
    x, centroids = x.astype(np.float64), centroids.astype(np.float64)
    squared = np.stack([((row - centroids) ** 2).sum(1) for row in x])
    return squared.argsort(1, kind="stable")[:, :k]


def hard(name, seed=0):
    """Vectors and centroids of which float32 distances do not tell the nearest."""
    rng = np.random.default_rng(seed)
    x, centroids = (rng.normal(size=(n, 8)).astype(np.float32) for n in (300, 100))
    if name == "far away":
        return x + np.float32(3000), centroids + np.float32(3000)
    if name == "two places far from each other":
        away = np.float32(1e4) * (rng.random((400, 1)) < 0.5).astype(np.float32)
        return x + away[:300], centroids + away[300:]
    if name == "whole numbers":
        return x.round(), centroids.round()
    if name == "too large to square":
        return x * np.float32(1e25), centroids * np.float32(1e25)
    if name == "too small to square":
        return x * np.float32(1e-25), centroids * np.float32(1e-25)
    if name == "one far centroid":
        return x, np.concatenate([centroids, np.full((1, 8), 1e19, np.float32)])
    if name == "few centroids":
        return x, centroids[:3]
    assert name == "plain"
    return x, centroids


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(
    "name",
    [
        "plain", "far away", "two places far from each other", "whole numbers", "too large to square",
        "too small to square", "one far centroid", "few centroids",
    ],
)  # fmt: skip
def test_the_nearest_is_found_where_float32_cannot_tell(name, k):
    x, centroids = hard(name)
    centroids = centroids[distinct_rows(centroids)]
    codes, squared = Nearest(centroids).search(x, k)
    np.testing.assert_array_equal(codes, by_hand(x, centroids, k))
    exact = ((x[:, None].astype(np.float64) - centroids[codes].astype(np.float64)) ** 2).sum(2)
    np.testing.assert_allclose(squared, exact, rtol=1e-12)


def test_a_tie_goes_to_the_lower_code():
    centroids = np.array([[5, 5], [1, 0], [-1, 0], [1, 0], [0, 1], [0.0, -1]], np.float32)
    codes, _ = Nearest(np.tile(centroids, (4, 1))).search(np.array([[0, 0], [1, 0], [-0.0, -9]], np.float32))
    assert codes[:, 0].tolist() == [1, 1, 5]


def test_codes_of_equal_centroids_are_found_once():
    codes, squared = Nearest(np.zeros((4, 2), np.float32)).search(np.ones((3, 2), np.float32), 2)
    assert codes.tolist() == [[0]] * 3
    assert squared.tolist() == [[2]] * 3


def test_a_row_has_the_same_code_alone_and_in_any_batch(monkeypatch):
    x, centroids = hard("far away")
    nearest = Nearest(centroids)
    codes, squared = nearest.search(x)
    for rows in (slice(0, 1), slice(7, 8), slice(3, 40), slice(40, 300)):
        again, distances = nearest.search(x[rows])
        np.testing.assert_array_equal(again, codes[rows])
        assert distances.tobytes() == squared[rows].tobytes()
    many = np.concatenate([x] * (2 * BLOCK // len(x) + 1))  # more than one block
    monkeypatch.setattr("octorec.catalog.nearest.workers", lambda: 3)
    np.testing.assert_array_equal(nearest.search(many)[0][-len(x) :], codes)


class Erring:
    """Distances that are off by about as much as float32 may be, in another way each time."""

    def __init__(self, centroids):
        self.centroids, self.rng = centroids, np.random.default_rng(1)

    def search(self, x, count):
        squared = ((x[:, None] - self.centroids) ** 2).sum(2)
        lengths = np.linalg.norm(x, axis=1)[:, None] + np.linalg.norm(self.centroids, axis=1)
        most = (x.shape[1] + 8) * 2.0**-24 * lengths**2
        squared = (squared + self.rng.uniform(-most, most)).astype(np.float32)
        places = squared.argsort(1)[:, :count]
        return np.take_along_axis(squared, places, 1), places


def test_faiss_that_rounds_otherwise_changes_no_code():
    """Other threads, batches and processors have the same effect."""
    x, centroids = hard("plain")
    centroids[50:] = centroids[:50] + np.random.default_rng(2).uniform(-1e-7, 1e-7, (50, 8)).astype(np.float32)
    nearest = Nearest(centroids)
    nearest._index = Erring((centroids - nearest._origin)[distinct_rows(centroids)])
    expected = by_hand(x, centroids)
    assert (nearest._index.search(x, 1)[1] != expected).mean() > 0.1
    np.testing.assert_array_equal(nearest.search(x)[0], expected)


def test_all_cores_search_unless_fewer_are_asked_for(monkeypatch):
    monkeypatch.setattr(nearest_module, "cores", lambda: 8)
    monkeypatch.setattr(nearest_module, "threads", lambda: 7)
    found = []
    for asked in (1, 3, 7, 8):
        monkeypatch.setattr(faiss, "omp_get_max_threads", lambda asked=asked: asked)
        found.append(nearest_module.workers())
    assert found == [1, 3, 8, 8]


def test_distinct_rows_are_counted_by_value():
    x = np.array([[0, 1], [-0.0, 1], [2, 1], [0, 1], [2, 2]], np.float32)
    assert distinct_rows(x).tolist() == [0, 2, 4]


@pytest.mark.slow
@pytest.mark.parametrize("imports", ["import torch, faiss", "import faiss, torch"])
def test_faiss_and_torch_work_in_one_process_in_either_order(imports):
    code = f"""{imports}, numpy
from octorec.catalog.nearest import Nearest
torch.set_num_threads(2)
x = numpy.random.default_rng(0).normal(size=(9000, 16)).astype("float32")
for _ in range(3):
    codes = Nearest(x[:500]).search(x)[0][:, 0]
    near = torch.cdist(torch.from_numpy(x[:500]), torch.from_numpy(x[:500])).topk(1, largest=False).indices[:, 0]
assert (codes[:500] == numpy.arange(500)).all() and (near.numpy() == codes[:500]).all()
before = faiss.omp_get_max_threads()
Nearest(x[:500]).search(x)
assert (faiss.omp_get_max_threads(), torch.get_num_threads()) == (before, 2)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
