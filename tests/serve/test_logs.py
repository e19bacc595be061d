"""Nobody waits for the log: what is too much of it, or cannot be written, is lost and counted."""

import contextlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import attack_answers
from octorec.serve import logs
from octorec.serve.logs import KIND_LINES, LONGEST_LINE, MOST_WAITING, Lines
from octorec.serve.metrics import Metrics
from tests.serve.served import make_catalog, save_checkpoint


def record(message: str = "request", level: int = logging.INFO, at: float | None = None, **extra: Any) -> Any:
    made = logging.makeLogRecord({"msg": message, "levelno": level, "levelname": logging.getLevelName(level), **extra})
    made.created = made.created if at is None else at
    return made


def read(descriptor: int) -> list[dict[str, Any]]:
    os.set_blocking(descriptor, False)
    text = b""
    with contextlib.suppress(BlockingIOError):
        while got := os.read(descriptor, 2**20):
            text += got
    return [json.loads(line) for line in text.splitlines()]


def test_lines_are_written_in_order() -> None:
    reader, writer = os.pipe()
    lines = Lines(writer)
    for number in range(200):
        lines.handle(record("ready", number=number))
    lines.flush()
    assert [line["number"] for line in read(reader)] == [*range(200)]
    assert not lines.lost


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_costs_lines_and_no_time() -> None:
    reader, writer = os.pipe()
    lines = Lines(writer)
    start = time.monotonic()
    n = 12_000
    for number in range(n):
        lines.handle(record("x" * 1000, number=number))
    assert time.monotonic() - start < 5
    assert lines.lost["full"] > 0
    assert lines.waiting <= MOST_WAITING
    start = time.monotonic()
    lines.flush()
    assert time.monotonic() - start < logs.FLUSH_S + 0.5
    found = 0
    os.set_blocking(reader, False)
    while lines.waiting:  # what the thread still writes comes as there is room
        with contextlib.suppress(BlockingIOError):
            found += os.read(reader, 2**20).count(b"\n")
    with contextlib.suppress(BlockingIOError):
        found += os.read(reader, 2**20).count(b"\n")
    assert found + lines.lost["full"] == n


def test_a_full_disk_and_a_line_without_json_cost_lines() -> None:
    with Path("/dev/full").open("wb") as full:
        lines = Lines(full.fileno())
        lines.handle(record())
        lines.flush()
        lines.handle(record("%d", args=("no number",)))
        lines.handle(record("x" * LONGEST_LINE))
        lines.handle(record())
        lines.flush()
        assert (lines.lost["failed"], lines.lost["full"]) == (3, 1)
    metrics = Metrics()
    metrics.watch_log(lines.lost)
    assert 'octorec_log_lines_lost{why="failed"} 3.0' in metrics.text().decode()


def test_refusals_are_sampled_and_counted_and_answers_are_not() -> None:
    reader, writer = os.pipe()
    lines = Lines(writer)
    for number in range(100):
        lines.handle(record(outcome="ok", number=number, at=1.0))
        lines.handle(record(outcome="invalid", number=number, at=1.0))
        lines.handle(record("a request failed", logging.ERROR, at=1.0))
    lines.handle(record(outcome="invalid", at=2.5))
    lines.flush()
    found = read(reader)
    assert sum(line.get("outcome") == "ok" for line in found) == 100
    assert sum(line.get("outcome") == "invalid" for line in found) == KIND_LINES + 1
    assert sum(line["message"] == "a request failed" for line in found) == KIND_LINES
    assert found[-1]["left_out"] == 100 - KIND_LINES
    assert lines.lost == {"sampled": 2 * (100 - KIND_LINES)}


def test_kinds_of_lines_take_no_memory_without_end() -> None:
    lines = Lines(os.open("/dev/null", os.O_WRONLY))
    (sampled,) = lines.filters
    for number in range(5000):
        lines.handle(record(f"kind {number}", logging.WARNING))
    assert len(sampled._kinds) <= logs.MOST_KINDS + 1  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["log_unread", "log_full"])
def test_the_server_answers_whatever_becomes_of_its_log(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attack_answers, "REQUESTS", 400)  # whose lines fill a pipe
    save_checkpoint(tmp_path / "model", make_catalog())
    _, answer = attack_answers.ANSWERS[name]
    assert answer(tmp_path / "model", tmp_path) == "400 of 400 requests answered"
