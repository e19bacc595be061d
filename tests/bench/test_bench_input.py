"""What the load tool is given: wrong files and numbers are refused by name before anything is asked."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.bench.config import BenchConfig
from octorec.bench.output import append, claimed_outputs
from octorec.bench.over_http import connections
from octorec.bench.requests import bodies
from octorec.bench.run import bench
from octorec.errors import InputError
from octorec.report.bench import draw
from octorec.serve.tokens import Tokens


@pytest.mark.parametrize(
    "change",
    [
        {"history_length": 0}, {"history_length": 10**30}, {"k": 0}, {"k": 10**30}, {"beam_width": 0},
        {"beam_width": 10**30}, {"seed": -1}, {"seed": 10**30}, {"max_concurrency": 0}, {"duration_s": float("nan")},
        {"timeout_s": float("inf")}, {"request_rate": "nan"}, {"request_rate": ""}, {"request_rate": (True,)},
        {"goodput": "e2el:nan"},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_number_is_refused_by_name(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(change))}: got"):
        BenchConfig(**{"catalog": "c", **change})


def test_wrong_files_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    for path in ("pipe", "nothing", ".", "a" * 300, "deep.jsonl", "/dev/zero"):
        with pytest.raises(InputError):
            bodies(BenchConfig(requests=str(tmp_path / path)))
        with pytest.raises(InputError):
            bodies(BenchConfig(catalog=str(tmp_path / path)))
        with pytest.raises(InputError):
            Tokens(str(tmp_path / path)) if path != "deep.jsonl" else bodies(BenchConfig(catalog=str(tmp_path)))


@pytest.mark.parametrize(
    "table",
    [
        {"item_id": ["a"], "live": [False]},
        {"item_id": ["a"]},
        {"item_id": ["a"], "live": [1]},
        {"item_id": [], "live": []},
    ],
)
def test_a_catalog_without_items_to_draw_is_refused(tmp_path: Path, table: dict[str, Any]) -> None:
    pa.parquet.write_table(pa.table(table), tmp_path / "items.parquet")
    with pytest.raises(InputError, match="catalog"):
        bodies(BenchConfig(catalog=str(tmp_path)))


def test_a_token_that_no_header_can_hold_is_refused(tmp_path: Path) -> None:
    for text in ("", "é", "a\x1b", "\x00"):
        (tmp_path / "token").write_text(text)
        with pytest.raises(InputError, match="token_file"):
            connections(BenchConfig(requests="r", token_file=str(tmp_path / "token")))


@pytest.mark.parametrize(
    "url", ["", "nonsense", "http://", "http://[::1", "http://127.0.0.1:99999", "ftp://a", "http://a b\x1b"]
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "r.jsonl").write_text("{}")
    with pytest.raises(InputError, match="url"):
        asyncio.run(bench(url, BenchConfig(requests=str(tmp_path / "r.jsonl")), lambda *_: None))


def test_where_results_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("{}")
    for name in ("out", "plot"):
        config = BenchConfig(requests=str(tmp_path / "r.jsonl"), **{name: str(tmp_path)})
        with pytest.raises(InputError, match=name):
            asyncio.run(bench("http://127.0.0.1:9", config, lambda *_: None))


@pytest.mark.parametrize("name", ["out", "plot"])
def test_no_file_of_somebody_else_takes_rows_or_a_plot(tmp_path: Path, name: str) -> None:
    for file in ("r.jsonl", "token", "inter.csv", "other.svg"):
        (tmp_path / file).write_text('{"history": ["1"]}\n')
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("new")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    given = {"requests": str(tmp_path / "r.jsonl"), "token_file": str(tmp_path / "token")}
    for file in ("r.jsonl", "token", "inter.csv", "other.svg", "pipe", "link", "r.jsonl/x", "a" * 300):
        config = BenchConfig(**given, **{name: str(tmp_path / file)})
        with pytest.raises(InputError, match=f"^{name}: got"):
            asyncio.run(bench("http://127.0.0.1:9", config, lambda *_: None))
    config = BenchConfig(**given, out=str(tmp_path / "new"), plot=f"{tmp_path}/./new")
    with pytest.raises(InputError, match=r"^plot: got .*must be another file than --out"):
        asyncio.run(bench("http://127.0.0.1:9", config, lambda *_: None))
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_rows_and_plots_of_an_earlier_run_are_known(tmp_path: Path) -> None:
    rows, plot = tmp_path / "rows.jsonl", tmp_path / "plot.svg"
    append(rows, {"url": "http://127.0.0.1:9", "request_rate": None})
    append(rows, {"url": "http://127.0.0.1:9", "request_rate": 2.0})
    plot.write_text(draw([]))
    config = BenchConfig(requests="r", out=str(rows), plot=str(plot))
    with claimed_outputs(config):
        assert len(rows.read_bytes().splitlines()) == 2
    rows.write_bytes(b"")
    with claimed_outputs(config):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_the_rows_is_an_error_about_them() -> None:
    with pytest.raises(InputError, match=r"^out: got '/dev/full'; cannot be written \(No space left on device\)"):
        append(Path("/dev/full"), {"request_rate": 2.0})
