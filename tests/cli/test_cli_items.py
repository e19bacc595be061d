"""`octorec catalog upsert`, `withdraw` and `restore`: from tables to a folder that an engine answers from."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.engine.request import Request
from tests.cli.test_cli import octorec
from tests.serve.served import make_engine

SIZES = (7, 5, 6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vectors = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
    columns = {"item_id": [str(i) for i in range(90)], "title": [f"T{i}" for i in range(90)], "vector": list(vectors)}
    build_catalog(None, pa.table(columns), SIZES).save(tmp_path / "catalog")
    return tmp_path / "catalog"


def everything(folder: Path) -> dict[str, list[int]]:
    """Every item that an engine on the folder may answer with, and its codes."""
    catalog = Catalog.load(folder)
    engine = make_engine(catalog, beam_widths=(210,), default_beam_width=210)
    answer = engine.recommend([Request([catalog.item_ids[0]], k=210)])[0]
    return dict(zip(answer.items, map(list, answer.codes), strict=True))


def changed(*arguments: object) -> dict[str, Any]:
    return json.loads(octorec("catalog", *arguments, "--json").stdout)


def test_items_go_and_come_back_with_their_codes(folder: Path, tmp_path: Path) -> None:
    before = everything(folder)
    (tmp_path / "gone.csv").write_text("item_id\n7\n8\n9\n")
    told = changed("withdraw", folder, "--items", tmp_path / "gone.csv", "--out", tmp_path / "fewer")
    assert (told["withdrawn"], told["items"], told["live_items"]) == (3, 90, 87)
    assert everything(tmp_path / "fewer") == {
        item: codes for item, codes in before.items() if item not in ("7", "8", "9")
    }
    assert everything(folder) == before
    (tmp_path / "back.csv").write_text("shop;movie\na;7\nb;8\na;9\n")
    flags = ("--sep", ";", "--columns", "item_id=movie", "--in-place")
    assert changed("restore", tmp_path / "fewer", "--items", tmp_path / "back.csv", *flags)["restored"] == 3
    assert everything(tmp_path / "fewer") == before
    assert Catalog.load(tmp_path / "fewer").version == Catalog.load(folder).version == told["previous_version"]


@pytest.mark.parametrize("form", ["items.jsonl", "items.parquet"])
def test_one_call_adds_changes_withdraws_and_restores(form: str, folder: Path, tmp_path: Path) -> None:
    rows = [{"item_id": "new", "vector": [0.5, 0.5, 0.5], "title": "New"}, {"item_id": "1", "title": "One"},
            {"item_id": "2", "vector": [3.0, 3.0, 3.0]}]  # fmt: skip
    if form.endswith("parquet"):
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / form)
    else:
        (tmp_path / form).write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "gone.jsonl").write_text('{"item_id": 3}\n{"item_id": 4}\n')
    changed("withdraw", folder, "--items", tmp_path / "gone.jsonl", "--in-place")
    (tmp_path / "back.csv").write_text("item_id\n3\n")
    (tmp_path / "gone.csv").write_text("item_id\n5\n4\n")
    told = changed("upsert", folder, "--items", tmp_path / form, "--withdraw", tmp_path / "gone.csv",
                   "--restore", tmp_path / "back.csv", "--in-place")  # fmt: skip
    assert told["version"] != told["previous_version"]
    assert {name: told[name] for name in ("added", "withdrawn", "restored", "unchanged")} == {
        "added": 1, "withdrawn": 1, "restored": 1, "unchanged": 1,
    }  # fmt: skip
    catalog = Catalog.load(folder)
    assert catalog.titles[catalog.index["1"]] == "One"
    assert catalog.titles[catalog.index["2"]] == "T2"
    assert set(everything(folder)) == {str(i) for i in range(90)} - {"4", "5"} | {"new"}


def test_an_empty_cell_of_a_csv_empties_and_a_missing_column_stays(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,sets\n1,red|new\n2,\n")
    changed("upsert", folder, "--items", tmp_path / "items.csv", "--in-place")
    (tmp_path / "items.csv").write_text("item_id,title,sets\n1,,\n")
    changed("upsert", folder, "--items", tmp_path / "items.csv", "--in-place")
    catalog = Catalog.load(folder)
    assert [catalog.titles[catalog.index[item]] for item in "12"] == ["", "T2"]
    assert not any(catalog.sets)


def test_counts_come_from_a_csv_too(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    columns = {"item_id": [str(i) for i in range(9)], "vector": list(vectors), "interactions": list(range(9))}
    build_catalog(None, pa.table(columns), (3, 3, 3)).save(tmp_path / "counted")
    (tmp_path / "items.csv").write_text("item_id,interactions\n4,500\n")
    assert changed("upsert", tmp_path / "counted", "--items", tmp_path / "items.csv", "--in-place")["changed"] == 1
    catalog = Catalog.load(tmp_path / "counted")
    assert catalog.interactions is not None
    assert catalog.interactions[catalog.index["4"]] == 500
    assert catalog.interactions.sum() == 500 + 36 - 4


def test_tables_are_read_as_flags_say(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("sku;name\n1;One\n")
    (tmp_path / "gone.csv").write_text("sku\n2\n")
    flags = ("--sep", ";", "--columns", "item_id=sku,title=name", "--withdraw", tmp_path / "gone.csv")
    told = changed("upsert", folder, "--items", tmp_path / "items.csv", *flags, "--in-place")
    assert (told["changed"], told["withdrawn"]) == (1, 1)


def test_no_input_is_replaced(folder: Path, tmp_path: Path) -> None:
    (folder / "items.csv").write_text("item_id\n1\n")
    octorec("catalog", "withdraw", folder, "--items", folder / "items.csv", "--in-place", expect=2)
    (folder / "items.csv").rename(tmp_path / "items.csv")
    octorec("catalog", "withdraw", folder, "--items", tmp_path / "items.csv", "--out", folder, "--force", expect=2)
    assert Catalog.load(folder).live.all()


def test_what_changes_nothing_says_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\n1,T1\n")
    stamp = os.stat(folder / "items.parquet").st_mtime_ns
    out = octorec("catalog", "upsert", folder, "--items", tmp_path / "items.csv", "--in-place").stdout
    assert "1 unchanged; 90 of 90 items may be recommended; still version" in out
    assert os.stat(folder / "items.parquet").st_mtime_ns == stamp


def test_what_is_wrong_is_one_line_and_the_folder_stays(folder: Path, tmp_path: Path) -> None:
    files = {
        "unknown.csv": "item_id\n1\nnope\nno\n", "items.csv": "item_id,title\n1,One\nx,New\n",
        "twice.csv": "item_id,title\n1,a\n1,b\n", "codes.jsonl": '{"item_id": "1", "codes": [1, 1, 1]}',
        "good.csv": "item_id\n1\n", "other.csv": "id\n1\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "there").mkdir()
    into = ("--out", tmp_path / "out")
    wrong = [
        (("withdraw", "unknown.csv", *into), "withdraw: got '2 unknown items: nope, no'"),
        (("restore", "unknown.csv", "--in-place"), "restore: got '2 unknown items: nope, no'"),
        (("upsert", "items.csv", "--in-place"), "1 items of which nothing is known: x"),
        (("upsert", "twice.csv", *into), "stands more than once"),
        (("upsert", "codes.jsonl", *into), "the catalog's codebook gives the codes"),
        (("withdraw", "other.csv", *into), "column item_id is missing"),
        (("withdraw", "missing.csv", *into), "missing.csv"),
        (("withdraw", "good.csv"), "give --out NEW, or --in-place"),
        (("withdraw", "good.csv", *into, "--in-place"), "not both"),
        (("withdraw", "good.csv", "--out", tmp_path / "there"), "it exists already"),
        (
            ("upsert", "items.csv", "--withdraw", tmp_path / "good.csv", "--restore", tmp_path / "good.csv", *into),
            "'1'",
        ),
    ]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    names = set(os.listdir(tmp_path))
    for (verb, items, *rest), message in wrong:
        done = octorec("catalog", verb, folder, "--items", tmp_path / items, *rest, expect=2)
        assert message in done.stderr, done
        assert done.stderr.count("\n") == 1
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert set(os.listdir(tmp_path)) == names
