"""Mixed traffic is measured in two trees by one program, and shown before and after."""

import sys
from pathlib import Path

import pytest
import torch
from made_rows import made

from benchmarks import mixed, mixed_report, records
from benchmarks.mixed_side import TRAFFIC, Replays
from benchmarks.rows import MixedRow
from benchmarks.speed_figure import data_of
from octorec.errors import InputError


def rows(run: str, *sides: str) -> list[MixedRow]:
    return [
        made(MixedRow, run=run, side=side, tree=side[:1], traffic=traffic, requests=number, live_rows=100.0 * number,
             device_ms=ms * number, p50_ms=ms, batch_sizes=(1, 8))
        for side, ms in (("before", 4.0), ("after", 1.0), ("before", 8.0), ("after", 2.0)) if side in sides
        for traffic in ("mixed", "k 10 alone") for number in (1, 9)
    ]  # fmt: skip


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    return tmp_path / "before_after.jsonl"


def test_both_sides_of_the_newest_whole_run_are_shown(results: Path) -> None:
    assert mixed_report.mixed() == "Not measured yet: `python -m benchmarks.mixed`."
    for row in [*rows("1", "before", "after"), *rows("2", "before")]:
        records.append(results, row)
    text = mixed_report.mixed()
    assert "| mixed | 9 | 900 | 54.0 | 13.5 | 4.00x | 4.0 | 1.0 |" in text
    assert "before is b, batch sizes 1, 8; after is a" in text
    lines = mixed_report.lines_of(mixed_report.newest_run())
    assert lines == {"before": {"100": 6.0, "900": 54.0}, "after": {"100": 1.5, "900": 13.5}}
    assert data_of(mixed_report.draw(lines)) == lines


@pytest.mark.slow
def test_one_program_measures_a_side_in_a_process_of_its_own(tmp_path: Path) -> None:
    found = list(mixed.rows("1", "after", mixed.ROOT, "c", "tiny", "bf16", "cpu"))
    assert {row.traffic for row in found} == set(TRAFFIC)
    assert all(row.device_ms > 0 and row.live_rows > 0 and row.beam_widths == (64, 256, 512) for row in found)
    for row in found:
        records.append(tmp_path / "before_after.jsonl", row)
    assert records.read(tmp_path / "before_after.jsonl", MixedRow) == found


def test_a_tree_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mixed", str(tmp_path), "c"])
    with pytest.raises(InputError, match=r"before: got .* must be a tree of this repository"):
        mixed.main()


@pytest.mark.gpu
def test_replays_are_counted_and_timed_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", torch.cuda.CUDAGraph.replay)  # which is as before afterwards
    x = torch.zeros(2**20, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x += 1
    replays = Replays()
    graph.replay()
    graph.replay()
    assert len(replays.events) == 2
    assert replays.ms() > 0
    replays.clear()
    assert replays.ms() == 0
