"""An engine answers from a file of semantic IDs that another project wrote, whose items may share them."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import octorec
from octorec.catalog.build import build_catalog
from octorec.data.items import check_items
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.errors import InputError, MismatchError

SIZES = (5, 4, 3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """40 items on 13 SIDs, none of which has the last code of a level."""
    dice = random.Random(0)
    content: dict[str, list[dict[str, int]]] = {}
    while len(content) < 13:
        content[str(dice.randrange(4) * 8192**2 + dice.randrange(3) * 8192 + dice.randrange(2))] = []
    for pid in dice.sample(range(1, 900), 40):
        one = {"pid": pid, "count": dice.randrange(9), "count_after_downsample": dice.randrange(3)}
        content[dice.choice(list(content))].append(one)
    path = tmp_path / "sid2pid.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def engine(file: Path, make_checkpoint: Callable[..., Path]) -> Engine:
    folder = make_checkpoint("tiny", codebook_sizes=SIZES, codebook_fingerprint=None)
    return octorec.load(folder, file, batch_sizes=(4,), beam_widths=(64,), default_beam_width=64)


def expected(engine: Engine, file: Path, request: Request, excluded: set[str]) -> list[tuple[str, float]]:
    """Every item's own score, best first; those of one SID by count after downsampling, ties in the file's order."""
    scored: list[tuple[float, list[str]]] = []
    for entries in json.loads(file.read_text()).values():
        in_order = sorted(entries, key=lambda one: -one["count_after_downsample"])  # stable
        ids = [str(one["pid"]) for one in in_order if str(one["pid"]) not in excluded]
        if ids:
            score = float(engine.score([request], ids[:1]).sum())
            scored.append((score, ids))
    return [(item, score) for score, ids in sorted(scored, reverse=True) for item in ids]


@pytest.mark.parametrize("share", [*(pytest.param(few, marks=pytest.mark.slow) for few in (0.0, 0.3)), 0.8])
def test_excluding_an_item_leaves_the_others_of_its_sid(share: float, engine: Engine, file: Path) -> None:
    dice = random.Random(1)
    ids = engine.catalog.item_ids
    assert engine.catalog.n_sharing > 30
    for _ in range(4):
        excluded = dice.sample(ids, round(share * len(ids)))
        request = Request(dice.sample(ids, 3), k=len(ids), exclude=excluded)
        answer = engine.recommend([request])[0]
        wanted = expected(engine, file, request, set(excluded))
        assert answer.items == [pid for pid, _ in wanted]
        np.testing.assert_allclose(answer.scores, [score for _, score in wanted], atol=1e-4)


def test_the_catalog_has_the_sizes_of_the_model(engine: Engine) -> None:
    assert engine.catalog.codebook_sizes == SIZES
    assert engine.catalog.codes.max(0).tolist() == [3, 2, 1]


def test_an_item_of_a_code_that_the_model_lacks_is_refused(file: Path, make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint("tiny", codebook_sizes=(5, 2, 3), codebook_fingerprint=None)
    with pytest.raises(InputError, match=r"sid2pid\.json: codes of level b: got '1 codes that the level lacks \(2\)"):
        octorec.load(folder, file)


def test_a_model_with_a_fingerprint_takes_no_file_of_other_items(
    file: Path, make_checkpoint: Callable[..., Path]
) -> None:
    folder = make_checkpoint("tiny", codebook_sizes=SIZES, codebook_fingerprint="0123456789abcdef")
    with pytest.raises(MismatchError, match="codebook_fingerprint"):
        octorec.load(folder, file)


def test_a_model_without_a_fingerprint_takes_any_catalog_of_its_sizes(make_checkpoint: Callable[..., Path]) -> None:
    import pyarrow as pa

    vectors = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    items = check_items(pa.table({"item_id": [str(n) for n in range(30)], "vector": list(vectors)}))
    folder = make_checkpoint("tiny", codebook_sizes=SIZES, codebook_fingerprint=None)
    assert len(octorec.load(folder, build_catalog(None, items, SIZES)).recommend([Request(["1"], k=3)])[0].items) == 3
    with pytest.raises(MismatchError, match="codebook_sizes"):
        octorec.load(folder, build_catalog(None, items, (5, 4, 2)))


def test_another_file_answers_while_the_engine_runs(engine: Engine, file: Path) -> None:
    from octorec.catalog.foreign import read

    content = json.loads(file.read_text())
    sid = next(key for key, entries in content.items() if entries)
    content[sid].append({"pid": 9999, "count": 50, "count_after_downsample": 50})
    file.write_text(json.dumps(content))
    engine.replace_catalog(read(file, SIZES))
    place = engine.catalog.index_of("9999")
    first = engine.catalog.trie.leaf_items[engine.catalog.item_leaf[place]]
    assert place == first  # the most frequent of its SID
