"""`octorec catalog build` and `assign` with vectors that a user brings, and what they print."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.catalog.catalog import Catalog
from tests.cli.test_cli import octorec

VECTORS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
IDS = [f"i{n}" for n in range(40)]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    return tmp_path


def build(work: Path, name: str, *arguments: object, expect: int = 0) -> Catalog | str:
    done = octorec("catalog", "build", *arguments, "--codebook-sizes", "5,4,3", "--out", work / name, expect=expect)
    return done.stderr if expect else Catalog.load(work / name)


def test_every_way_to_bring_vectors_gives_the_same_catalog(work: Path) -> None:
    columns = {"item_id": IDS, "vector": VECTORS.tolist()}
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), 4)
    pyarrow.parquet.write_table(pa.table(columns), work / "lists.parquet")
    pyarrow.parquet.write_table(pa.table({"item_id": IDS, "vector": fixed}), work / "fixed.parquet")
    rows = [json.dumps({"item_id": i, "vector": v}) for i, v in zip(IDS, VECTORS.tolist(), strict=True)]
    (work / "lines.jsonl").write_text("\n".join(rows))
    own = ("--embeddings", work / "v.npy", "--embedding-ids")
    made = [
        build(work, "a", *own, work / "ids.txt"),
        build(work, "b", *own, work / "lists.parquet"),
        build(work, "c", "--items", work / "lists.parquet"),
        build(work, "d", "--items", work / "fixed.parquet"),
        build(work, "e", "--items", work / "lines.jsonl"),
    ]
    assert len({catalog.version for catalog in made if isinstance(catalog, Catalog)}) == 1
    assert all(isinstance(catalog, Catalog) and catalog.given_vectors and len(catalog) == 40 for catalog in made)


def test_titles_stand_beside_embeddings_and_new_items_bring_theirs(work: Path) -> None:
    (work / "items.csv").write_text("item_id,title\n" + "".join(f"{i},Title {i}\n" for i in reversed(IDS)))
    own = ("--embeddings", work / "v.npy", "--embedding-ids", work / "ids.txt")
    catalog = build(work, "a", "--items", work / "items.csv", *own)
    assert isinstance(catalog, Catalog)
    assert catalog.titles[catalog.index["i7"]] == "Title i7"
    np.save(work / "new.npy", VECTORS[:2])
    (work / "new.json").write_text('["n0", "n1"]')
    new = ("--embeddings", work / "new.npy", "--embedding-ids", work / "new.json", "--out", work / "more")
    octorec("catalog", "assign", "--catalog", work / "a", *new)
    more = Catalog.load(work / "more")
    for old, added in (("i0", "n0"), ("i1", "n1")):
        assert more.codes[more.index[added]].tolist() == more.codes[more.index[old]].tolist()
    np.save(work / "new.npy", VECTORS[:2, :3])
    said = octorec("catalog", "assign", "--catalog", work / "a", *new, "--force", expect=2).stderr
    assert "width 3" in said
    assert "width 4" in said


def test_build_says_what_was_fitted(work: Path) -> None:
    own = ("--embeddings", work / "v.npy", "--embedding-ids", work / "ids.txt", "--codebook-sizes", "5,4,3")
    shown = octorec("catalog", "build", *own, "--out", work / "a").stdout
    assert "40, 40, 40 of 40 vectors used a level" in shown
    assert "mean squared residual" in shown
    fit = json.loads(octorec("catalog", "build", *own, "--out", work / "b", "--json").stdout)["fit"]
    assert (fit["vectors"], fit["used"], len(fit["iterations"])) == (40, [40] * 3, 3)
    assert fit["errors"] == sorted(fit["errors"], reverse=True)
    assert len(fit["errors"]) == 4


def test_what_is_half_given_is_refused(work: Path) -> None:
    vectors, ids = ("--embeddings", work / "v.npy"), ("--embedding-ids", work / "ids.txt")
    assert "embedding_ids: got None" in str(build(work, "x", *vectors, expect=2))
    assert "embeddings: got None" in str(build(work, "x", *ids, expect=2))
    build(work, "a", *vectors, *ids)
    said = octorec("catalog", "assign", "--catalog", work / "a", "--out", work / "x", expect=2).stderr
    assert "items: got None" in said
    (work / "items.csv").write_text("item_id\nzz\n" + "".join(f"{i}\n" for i in IDS))
    assert "1 items without a vector: zz" in str(
        build(work, "x", "--items", work / "items.csv", *vectors, *ids, expect=2)
    )


def test_an_input_is_never_replaced(work: Path) -> None:
    own = ("--embeddings", work / "v.npy", "--embedding-ids", work / "ids.txt", "--force")
    for out in ("v.npy", "ids.txt", "."):
        octorec("catalog", "build", *own, "--out", work / out, expect=2)
    np.testing.assert_array_equal(np.load(work / "v.npy"), VECTORS)
    assert (work / "ids.txt").read_text().splitlines() == IDS
