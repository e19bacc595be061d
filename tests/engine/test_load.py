"""Checkpoint folders, 16 bit and FP8, behind the same engine."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from made_up import random_catalog
from safetensors.torch import load_file, save_file

import octorec
from octorec.catalog.catalog import Catalog
from octorec.data.items import check_items
from octorec.errors import InputError, MismatchError, NonFiniteError
from octorec.models import weights
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.quant.convert import quantize_checkpoint

SIZES = (7, 5, 6)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return random_catalog(90, SIZES, withdrawn=0.1)


@pytest.fixture(scope="module")
def folder(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "bf16"
    path.mkdir()
    model = OneRecV2(preset("tiny", d_expert=128, codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    weights.save(model, path, torch.bfloat16)
    catalog.save(path / "catalog")
    return path


@pytest.fixture(scope="module")
def fp8_folder(folder: Path) -> Path:
    out = folder.with_name("fp8")
    quantize_checkpoint(folder, out, "fp8")
    return out


def requests(n: int) -> list[octorec.Request]:
    generator = np.random.default_rng(0)
    return [
        octorec.Request([f"i{i}" for i in generator.integers(0, 90, generator.integers(1, 15))], k=int(1 + number % 20))
        for number in range(n)
    ]


@pytest.mark.parametrize("kind", ["bf16", "fp8"])
def test_an_answer_is_the_same_alone_and_in_any_batch(kind: str, folder: Path, fp8_folder: Path) -> None:
    path = fp8_folder if kind == "fp8" else folder
    engine = octorec.load(path, batch_sizes=(8,), beam_widths=(32,), default_beam_width=32)
    asked = requests(19)
    together = engine.recommend(asked)
    assert together == [engine.recommend([request])[0] for request in asked]
    reversed_order = engine.recommend(asked[::-1])[::-1]
    assert together == reversed_order


@pytest.mark.parametrize("kind", ["bf16", "fp8"])
def test_buckets_of_other_sizes_answer_the_same_items(kind: str, folder: Path, fp8_folder: Path) -> None:
    path = fp8_folder if kind == "fp8" else folder
    small = octorec.load(path, batch_sizes=(1,), beam_widths=(20,), default_beam_width=20)
    large = octorec.load(path, batch_sizes=(32,), beam_widths=(64,), default_beam_width=20)
    for a, b in zip(small.recommend(requests(10)), large.recommend(requests(10)), strict=True):
        assert a.items == b.items
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


@pytest.mark.parametrize("kind", ["bf16", "fp8"])
def test_an_answer_is_the_same_in_buckets_of_other_sizes(kind: str, folder: Path, fp8_folder: Path) -> None:
    path = fp8_folder if kind == "fp8" else folder
    engine = octorec.load(path, batch_sizes=(1, 4, 8), beam_widths=(20, 32), default_beam_width=20)
    asked = [dataclasses.replace(one, beam_width=32 if place % 3 else 20) for place, one in enumerate(requests(13))]
    assert engine.recommend(asked) == [engine.recommend([request])[0] for request in asked]


def test_fp8_stays_near_its_parent(folder: Path, fp8_folder: Path) -> None:
    parent, child = octorec.load(folder), octorec.load(fp8_folder)
    asked = requests(20)
    targets = [f"i{n}" for n in range(20)]
    drift = np.abs(parent.score(asked, targets) - child.score(asked, targets))
    assert 0 < drift.mean() < 0.1


def test_a_catalog_of_another_codebook_is_refused(folder: Path) -> None:
    foreign = random_catalog(90, SIZES, seed=5)
    with pytest.raises(MismatchError, match=rf"codebook_fingerprint.*the catalog's is {foreign.fingerprint}"):
        octorec.load(folder, catalog=foreign)


def rows(catalog: Catalog, keep: slice = slice(None), **new: list[int]) -> Catalog:
    """An import of some of the items of `catalog` and of `new` ones with their codes."""
    ids, codes = [*catalog.item_ids[keep], *new], [*catalog.codes[keep].tolist(), *new.values()]
    return Catalog.of_items(check_items(pa.table({"item_id": ids, "codes": codes})), catalog.codebook_sizes)


def test_an_imported_catalog_may_gain_and_lose_items(folder: Path, catalog: Catalog) -> None:
    following = rows(catalog, slice(20, None), new=[3, 3, 1])
    assert following.fingerprint != catalog.fingerprint
    engine = octorec.load(folder, following)
    assert len(engine.recommend([octorec.Request(["new"], k=5)])[0].items) == 5
    engine.replace_catalog(rows(catalog, slice(40), newer=[1, 1, 1]))
    assert len(engine.recommend([octorec.Request(["newer"], k=5)])[0].items) == 5
    assert "new" not in engine.catalog.index
    with pytest.raises(MismatchError, match=r"item 'newer' has the codes \[1, 2, 1\] in it, and had \[1, 1, 1\]"):
        engine.replace_catalog(rows(catalog, slice(40), newer=[1, 2, 1]))
    with pytest.raises(MismatchError, match="only 5 of its items were known, and at least 10"):
        octorec.load(folder, rows(catalog, slice(5), **{f"n{n}": [1, 1, 1] for n in range(20)}))


def test_an_import_needs_the_checkpoints_own_catalog_or_its_fingerprint(
    folder: Path, catalog: Catalog, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("catalog"))
    following = rows(catalog, new=[3, 3, 1])
    with pytest.raises(MismatchError, match="or import the index with that one as base"):
        octorec.load(bare, following)
    assert "new" in octorec.load(bare, following.as_version_of(catalog.fingerprint)).catalog.index


def test_codebook_sizes_must_be_the_catalogs(folder: Path, catalog: Catalog, tmp_path: Path) -> None:
    model = OneRecV2(preset("tiny", codebook_sizes=(7, 5, 9), codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=0)
    weights.save(model, tmp_path, torch.bfloat16)
    with pytest.raises(MismatchError, match=r"codebook_sizes.*the catalog's are \(7, 5, 6\): import the index with"):
        octorec.load(tmp_path, catalog=catalog)


@pytest.mark.parametrize("level", [0, 2])
def test_finite_weights_whose_scores_overflow_are_an_error_that_names_the_folder(
    folder: Path, tmp_path: Path, level: int
) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    file = broken / "model-00001-of-00001.safetensors"
    tensors = load_file(file)
    tensors[f"head.{level}.weight"][3] = 3e38
    save_file(tensors, file)
    engine = octorec.load(broken)
    asked = [octorec.Request(["i1"], k=2), octorec.Request(["i2"], k=2)]
    with pytest.raises(NonFiniteError, match=r"broken: scores: got 'NaN or infinity'.* request 1 of 2.*and 1 more"):
        engine.recommend(asked)
    with pytest.raises(NonFiniteError, match="broken"):
        engine.score(asked, ["i1", "i2"])


def test_missing_catalog_foreign_folder_unknown_option(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="catalog"):
        octorec.load(folder, catalog=tmp_path / "nothing")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 3}))
    (tmp_path / "model.safetensors").write_bytes((folder / "model-00001-of-00001.safetensors").read_bytes())
    with pytest.raises(InputError, match="model_type: got 'llama'; allowed: 'onerec_v2'"):
        octorec.load(tmp_path, catalog=folder / "catalog")
    with pytest.raises(InputError, match="engine option: got 'beam'; known: max_context"):
        octorec.load(folder, beam=3)
