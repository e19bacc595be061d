"""Residual k-means: nearest centroids, codes of one's own, and codebooks on disk."""

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from octorec.catalog.codebook import Codebook
from octorec.catalog.residual_kmeans import fit_codebook
from octorec.catalog.unique_codes import assign_unique
from octorec.errors import InputError


def random_vectors(n=300, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def nearest_codes(codebook, vectors):
    """One vector and one level at a time, in float64."""
    codes = []
    for vector in vectors.astype(np.float64):
        row = []
        for centroids in codebook.centroids:
            row.append(int(((vector - centroids) ** 2).sum(1).argmin()))
            vector = vector - centroids[row[-1]]
        codes.append(row)
    return np.array(codes)


@pytest.fixture(scope="module")
def codebook():
    return fit_codebook(random_vectors(), (8, 4, 6), seed=0)


def test_assign_takes_the_nearest_centroid_of_what_is_left(codebook):
    new = random_vectors(seed=1)
    codes = codebook.assign(new)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, nearest_codes(codebook, new))


def test_levels_leave_less_and_less(codebook):
    vectors = random_vectors()
    codes = codebook.assign(vectors)
    left, sizes = vectors, [np.square(vectors).sum()]
    for level, centroids in enumerate(codebook.centroids):
        left = left - centroids[codes[:, level]]
        sizes.append(np.square(left).sum())
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.4 * sizes[0]


def test_well_separated_clusters_are_found():
    centres = np.eye(5, dtype=np.float32) * 100
    vectors = np.repeat(centres, 20, 0) + random_vectors(100, 5)
    codes = fit_codebook(vectors, (5, 2), seed=3).assign(vectors)[:, 0].reshape(5, 20)
    assert (codes == codes[:, :1]).all()
    assert len(set(codes[:, 0].tolist())) == 5


def test_a_seed_says_it_all(codebook):
    same, other = (fit_codebook(random_vectors(), (8, 4, 6), seed) for seed in (0, 1))
    assert same.fingerprint == codebook.fingerprint != other.fingerprint
    assert len(codebook.fingerprint) == 16


def test_fingerprint_sees_every_centroid(codebook):
    changed = [level.copy() for level in codebook.centroids]
    changed[2][5, 3] = np.nextafter(changed[2][5, 3], np.float32(9))
    assert Codebook(tuple(changed)).fingerprint != codebook.fingerprint
    two_halves = np.split(codebook.centroids[0], 2)
    assert Codebook(tuple(two_halves)).fingerprint != Codebook((codebook.centroids[0],)).fingerprint


def test_progress_names_each_level():
    calls = []
    fit_codebook(random_vectors(), (4, 4), 0, lambda *call: calls.append(call))
    first = [call for call in calls if call[2].endswith("iteration 1")]
    assert first == [(0, 16, "level 1 of 2, iteration 1"), (8, 16, "level 2 of 2, iteration 1")]


def test_fewer_distinct_vectors_than_codes():
    vectors = np.tile(np.eye(3, dtype=np.float32), (10, 1))
    with pytest.raises(InputError, match="at most 3, the distinct item vectors"):
        fit_codebook(vectors, (4, 2), seed=0)


def test_a_later_level_with_little_left_uses_few_codes():
    vectors = np.tile(np.eye(3, dtype=np.float32), (10, 1))
    codebook = fit_codebook(vectors, (3, 8), seed=0)
    codes = codebook.assign(vectors)
    assert codebook.sizes == (3, 8)
    assert all(np.isfinite(level).all() for level in codebook.centroids)
    assert len(np.unique(codes, axis=0)) == 3
    for direction in range(3):
        assert len(np.unique(codes[direction::3], axis=0)) == 1


def nearest_free_codes(codebook, vectors, taken=()):
    """The rule of `assign_unique`, item by item: owners first, then the others in order."""
    codes = [tuple(row) for row in nearest_codes(codebook, vectors).tolist()]
    used, moving = set(map(tuple, taken)), []
    for item, row in enumerate(codes):
        if row in used:
            moving.append(item)
        used.add(row)
    for item in moving:
        left = vectors[item].astype(np.float64)
        for level, code in enumerate(codes[item][:-1]):
            left = left - codebook.centroids[level][code]
        order = ((left - codebook.centroids[-1]) ** 2).sum(1).argsort(kind="stable")
        codes[item] = next(row for code in order if (row := (*codes[item][:-1], int(code))) not in used)
        used.add(codes[item])
    return codes


def test_unique_moves_to_the_nearest_free_code():
    vectors = random_vectors(120)
    codebook = fit_codebook(vectors, (8, 32), seed=0)
    plain, unique = codebook.assign(vectors), assign_unique(codebook, vectors)
    assert len(np.unique(plain, axis=0)) < 120
    assert len(np.unique(unique, axis=0)) == 120
    assert [tuple(row) for row in unique.tolist()] == nearest_free_codes(codebook, vectors)
    np.testing.assert_array_equal(unique[:, 0], plain[:, 0])


def test_unique_leaves_taken_tuples_alone():
    vectors = random_vectors(120)
    codebook = fit_codebook(vectors, (8, 32), seed=0)
    taken = assign_unique(codebook, vectors[:60])
    new = assign_unique(codebook, vectors[60:], taken)
    assert len(np.unique(np.concatenate([taken, new]), axis=0)) == 120
    assert [tuple(row) for row in new.tolist()] == nearest_free_codes(codebook, vectors[60:], taken.tolist())


def test_unique_on_one_level():
    vectors = random_vectors(10)
    codebook = fit_codebook(vectors[:5].repeat(2, 0), (5,), seed=0)
    assert sorted(assign_unique(codebook, vectors[:5])[:, 0].tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match=r"6 items below prefix \(\)"):
        assign_unique(codebook, vectors[:6])


def test_a_full_prefix_is_refused():
    vectors = np.concatenate([np.full((5, 2), 9, np.float32), random_vectors(20, 2)])
    codebook = fit_codebook(vectors, (2, 4), seed=0)
    with pytest.raises(InputError, match=r"codebook_sizes.*items below prefix.*at least so large, not 4"):
        assign_unique(codebook, vectors)


def test_on_disk(codebook, tmp_path):
    codebook.save(tmp_path / "codebook.safetensors")
    loaded = Codebook.load(tmp_path / "codebook.safetensors")
    assert loaded.fingerprint == codebook.fingerprint
    np.testing.assert_array_equal(loaded.assign(random_vectors(seed=1)), codebook.assign(random_vectors(seed=1)))


GOOD = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": GOOD},
        {"level.0": GOOD, "level.2": GOOD},
        {"level.0": GOOD, "level.1": np.ones((2, 4), np.float32)},
        {"level.0": GOOD.astype(np.float64)},
        {"level.0": GOOD[0]},
        {"level.0": GOOD * np.nan},
    ],
)
def test_foreign_files_are_refused(tensors, tmp_path):
    safetensors.numpy.save_file(tensors, tmp_path / "codebook.safetensors")
    with pytest.raises(InputError, match=r"codebook\.safetensors"):
        Codebook.load(tmp_path / "codebook.safetensors")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn, torch.complex64])
def test_types_that_numpy_has_not_are_refused(kind, tmp_path):
    safetensors.torch.save_file({"level.0": torch.ones(2, 3).to(kind)}, tmp_path / "codebook.safetensors")
    with pytest.raises(InputError, match=r"codebook\.safetensors.*must hold level\.0"):
        Codebook.load(tmp_path / "codebook.safetensors")


def test_truncated_and_missing_files_are_refused(codebook, tmp_path):
    path = tmp_path / "codebook.safetensors"
    codebook.save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="truncated"):
        Codebook.load(path)
    with pytest.raises(InputError, match="truncated"):
        Codebook.load(tmp_path / "none")


def test_shapes_and_types_are_refused_by_the_header_alone(tmp_path, monkeypatch):
    tensors = {"level.0": np.zeros((2, 3), np.float32), "level.1": np.zeros((2, 3), np.float16)}
    safetensors.numpy.save_file(tensors, tmp_path / "c.safetensors")
    content = bytearray((tmp_path / "c.safetensors").read_bytes())
    for kind in (b"BF16", b"F16 "):
        header = bytes(content).replace(b'"F16"', b'"' + kind.strip() + b'"')
        header = (int.from_bytes(header[:8], "little") + len(header) - len(content)).to_bytes(8, "little") + header[8:]
        (tmp_path / "c.safetensors").write_bytes(header)
        with pytest.raises(InputError, match=rf"level.1: got '{kind.decode().strip()} \[2, 3\]'"):
            Codebook.load(tmp_path / "c.safetensors")


def test_a_level_that_would_take_too_much_memory_is_refused():
    vectors = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    for sizes in ((2, 10**9), (2, 2**31), (2, 0), (2, -1), (2, True + 0.5), ()):
        with pytest.raises(InputError, match="codebook_sizes"):
            fit_codebook(vectors, sizes, 0)
