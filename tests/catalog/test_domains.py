"""A model of several domains has a catalog each, found by the names of files or said by the user."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.catalog.domains import domain_paths, domains_of, read_domains
from octorec.catalog.foreign import read
from octorec.errors import InputError

SIZES = (8192, 8192, 8192)


def sid2pid(path: Path, pid: int) -> Path:
    path.write_text(json.dumps({"5": [{"pid": pid, "count": 1, "count_after_downsample": 1}]}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """OneReason's three maps, and files that are no catalogs."""
    for number, name in enumerate(("video_ad", "product", "live"), 1):
        sid2pid(tmp_path / f"sid2pid_{name}.json", number)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "video").mkdir()
    (tmp_path / "ad.txt").write_text("notes on ads")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "domains"),
    [
        ("sid2pid_video_ad.json", ("video", "ad")),
        ("video_ad_pid2sid.parquet", ("video", "ad")),
        ("product_pid2sid.parquet", ("product",)),
        ("sid2pid_product.json", ("product",)),
        ("sid2pid_live.json", ("live",)),
        ("sid2pid.json", ("sid",)),
        ("sid2iid.json", ("product",)),
        ("video", ("video",)),
        ("living.jsonl", ("live",)),
        ("Industrial_and_Scientific.index.json", ()),
        ("catalog", ()),
        ("roadmap.json", ()),
    ],
)
def test_a_name_says_its_domains(name: str, domains: tuple[str, ...]) -> None:
    assert domains_of(Path("somewhere") / name) == domains


def test_a_folder_gives_each_domain_its_catalog(folder: Path) -> None:
    catalogs = read_domains(folder, SIZES)
    assert {domain: one.item_ids for domain, one in catalogs.items()} == {
        "video": ["1"], "ad": ["1"], "product": ["2"], "live": ["3"],
    }  # fmt: skip
    assert catalogs["video"] is catalogs["ad"]  # read once
    assert catalogs["product"].codebook_sizes == SIZES


def test_a_saved_catalog_of_a_domains_name_is_one_too(folder: Path) -> None:
    shutil.rmtree(folder / "video")
    read(sid2pid(folder / "more.json", 9), SIZES).save(folder / "sid")
    assert read_domains(folder)["sid"].item_ids == ["9"]


def test_what_is_typed_with_its_domain_wins(folder: Path) -> None:
    other = sid2pid(folder / "other.json", 8)
    paths = domain_paths([f"ad={other}", str(folder), f"extra={other}"])
    assert {domain: path.name for domain, path in paths.items()} == {
        "video": "sid2pid_video_ad.json", "ad": "other.json", "product": "sid2pid_product.json",
        "live": "sid2pid_live.json", "extra": "other.json",
    }  # fmt: skip
    assert read_domains(paths)["ad"].item_ids == ["8"]


def test_a_catalog_whose_name_says_nothing_is_the_only_one(folder: Path) -> None:
    assert domain_paths([str(folder / "other.json")]) == {"": folder / "other.json"}
    assert domain_paths([str(folder / "sid2pid_live.json")]) == {"live": folder / "sid2pid_live.json"}
    read(folder / "sid2pid_live.json").save(folder / "saved")
    assert list(read_domains(folder / "saved")) == [""]


def test_two_catalogs_of_one_domain_are_refused(folder: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"pid": [1], "sid": [5]}), folder / "product_pid2sid.parquet")
    with pytest.raises(InputError, match=r"domain product: got .*pid2sid.* and .*sid2pid_.*as product=PATH"):
        read_domains(folder)
    assert read_domains({"prod": folder / "product_pid2sid.parquet"})["prod"].item_ids == ["1"]
    with pytest.raises(InputError, match="domain ad: got"):
        domain_paths(["ad=x", "ad=y"])


def test_a_damaged_file_and_a_folder_without_catalogs_are_refused(folder: Path) -> None:
    (folder / "sid2pid_live.json").write_text('{"5": [{"pid": 1')
    with pytest.raises(InputError, match=r"sid2pid_live\.json: got .*must be a readable JSON file"):
        read_domains(folder)
    (folder / "sid2pid_live.json").write_text("")
    with pytest.raises(InputError, match=r"sid2pid_live\.json'; is empty"):
        read_domains(folder)
    (folder / "none").mkdir()
    with pytest.raises(InputError, match="has no catalog of a domain: names are such as sid, video"):
        read_domains(folder / "none")
    with pytest.raises(InputError, match="there is no such file or folder"):
        read_domains({"ad": folder / "nowhere.json"})


def test_every_domain_needs_tokens_for_its_codes(folder: Path) -> None:
    levels = [np.array([10]), np.array([20]), np.array([30, 31, 32, 33, 34, -1])]
    with pytest.raises(InputError, match=r"sid2pid_video_ad\.json: codes of level c: got .*no token|lacks \(5\)"):
        read_domains(folder, levels=levels)
    levels[2][5] = 35
    assert read_domains(folder, levels=levels)["ad"].codebook_sizes == (1, 1, 6)
