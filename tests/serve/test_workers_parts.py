"""The parts of HTTP workers, each in this process: the mapped catalog, the board, the private folder, messages."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octorec.engine.rank import by_popularity
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.serve.fair_queue import FairQueue
from octorec.serve.metrics import Metrics
from octorec.serve.pending import Pending, Serving
from octorec.serve.refusal import Refusal
from octorec.serve.run import serve
from octorec.serve.workers import messages
from octorec.serve.workers.board import Board
from octorec.serve.workers.counts import merged
from octorec.serve.workers.mapped import open_mapped, write, write_hashes
from octorec.serve.workers.private import PREFIX, PrivateFolder
from octorec.serve.workers.wire import unframed
from tests.serve.served import make_catalog, make_engine

ASKED = [
    Request(["i1", "i7"], k=16),
    Request(["i1"], k=16, allow=["red"], exclude=["i2", "i3"], exclude_seen=True),
    Request(["i8"], k=16, exclude=[f"i{number}" for number in range(80)]),
    Request([], k=5),
]


def test_a_mapped_catalog_parses_and_ranks_as_the_one_in_memory(tmp_path: Path) -> None:
    """What is asked goes through both messages, as between two processes."""
    engine = make_engine(make_catalog(counted=True))
    write(engine.catalog, tmp_path / "catalog")
    write_hashes(str(tmp_path / "catalog"))
    mapped = open_mapped(tmp_path / "catalog")
    desk = engine.desk(mapped)
    assert [*mapped.item_ids] == engine.catalog.item_ids
    assert mapped.titles[3:5] == engine.catalog.titles[3:5]
    assert mapped.version == engine.catalog.version
    for request in ASKED:
        here, there = engine.parse(request), desk.parse(request)
        if here.source == "popularity":
            assert by_popularity(there).answer() == by_popularity(here).answer()
            continue
        serving = Serving(engine, "first")
        pending = Pending(request, serving, there, deadline=time.monotonic() + 9, future=None)  # type: ignore[arg-type]
        frames = [bytes(frame) for frame in messages.asked(7, 1, pending, again=False)]
        _, head, arrays = unframed(frames)
        found = engine.search([messages.parsed_of(head, arrays, engine.catalog)])
        frames = [bytes(frame) for frame in messages.found_row(7, found, 0, pending)]
        _, head, arrays = unframed(frames)
        row = messages.found_of(head, arrays, desk)
        assert row.ranked(0, there).answer() == engine.recommend([request])[0]


def test_a_mapped_catalog_stays_when_its_folder_is_gone(tmp_path: Path) -> None:
    write(make_catalog(), tmp_path / "catalog")
    write_hashes(str(tmp_path / "catalog"))
    mapped = open_mapped(tmp_path / "catalog")
    for path in (tmp_path / "catalog").iterdir():
        path.unlink()
    assert mapped.places(["i5", "nobody knows it"]).tolist() == [make_catalog().index["i5"], -1]
    assert mapped.popular_order is None


class Waiter:
    def __init__(self, client: str):
        self.client, self.turn = client, 0


def test_the_board_has_room_where_the_queue_has(tmp_path: Path) -> None:
    board, queue = Board(tmp_path / "board", make=True), FairQueue[Waiter](6)
    read = Board(tmp_path / "board")

    def queued(client: str, own: int) -> None:
        full = len(queue) >= queue.most
        board.queued(client, own, len(queue), queue.clients, queue.largest if full else 0)

    queue.changed = queued
    generator = np.random.default_rng(0)
    clients, waiting = ["a", "b", "127.0.0.1"], list[Waiter]()
    for _ in range(300):
        client = clients[generator.integers(3)]
        assert read.has_room(client) == queue.has_room(client)
        if queue.has_room(client) and generator.random() < 0.7:
            waiting.append(Waiter(client))
            queue.add(waiting[-1])
        elif waiting:
            queue.remove(waiting.pop(int(generator.integers(len(waiting)))))
    assert read.get("waiting") == len(queue)


def test_the_board_says_no_longer_wait_than_the_queue(tmp_path: Path) -> None:
    board = Board(tmp_path / "board", make=True)
    assert board.shortest_wait("a") == 0
    board.put(free_at=time.monotonic() + 5, lag=0.5, rows=4, whole_s=1.0, one_s=0.4)
    assert board.shortest_wait("a") == pytest.approx(5.9, abs=0.05)  # it runs 5 s more, then a batch of one
    for own in (1, 8):
        board.queued("a", own, own, 1, 0)
    assert board.shortest_wait("a") == pytest.approx(7.9, abs=0.05)  # behind two whole batches
    assert board.shortest_wait("b") == pytest.approx(6.1, abs=0.05)  # behind one of the other client, in its batch


def test_the_board_counts_connections_of_all_and_forgets_the_dead(tmp_path: Path) -> None:
    board = Board(tmp_path / "board", make=True)
    board.beats(0, 5)
    board.beats(3, 7)
    assert board.connections() == 12
    board.clear(0)
    assert board.connections() == 7
    assert board.seen(0) == 0


@pytest.mark.slow
def test_a_folder_of_a_killed_process_is_removed_and_one_of_a_living_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path)[:60])
    root = Path(tempfile.gettempdir())
    root.mkdir(exist_ok=True)
    code = "import octorec.serve.workers.private as room, os; room.PrivateFolder(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(root)}, check=False)
    left = {*root.glob(f"{PREFIX}*")}
    assert len(left) == 1
    first, second = PrivateFolder(), PrivateFolder()
    assert {*root.glob(f"{PREFIX}*")} == {first.path, second.path}
    assert first.path.stat().st_mode & 0o077 == 0
    for folder in (first, second):
        folder.remove()


def test_a_long_temporary_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    with pytest.raises(InputError, match="TMPDIR"):
        PrivateFolder()


def test_an_experiment_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    config = ServeConfig.of(http_workers=2, experiment="ab.yaml", experiment_root=str(tmp_path))
    with pytest.raises(InputError, match="http_workers: got 2; 0: an experiment needs all in one process"):
        serve("nowhere", config)


def test_refusals_pass_as_they_are() -> None:
    refusal = Refusal("overloaded", "an answer would take 3 s", "deadline_ms", 7)
    frames = [bytes(frame) for frame in messages.refused(3, refusal)]
    word, head, _ = unframed(frames)
    passed = messages.refusal_of(head)
    assert word == messages.REFUSED
    assert (passed.body(), passed.headers) == (refusal.body(), refusal.headers)
    assert messages.refusal_of(unframed(messages.refused(3, ValueError("a path")))[1]).outcome == "failed"


@pytest.mark.slow
def test_counts_of_processes_add_up(tmp_path: Path) -> None:
    """Another process counts into files, this one into its registry."""
    code = """
import sys
from octorec.serve.metrics import Metrics
metrics = Metrics()
metrics.requests.labels("ok").inc(2)
metrics.e2e.observe(0.5)
metrics.connections.set(4)
"""
    environment: dict[str, Any] = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    own = Metrics()
    own.requests.labels("ok").inc(10)
    own.batches.inc(3)
    own.now_serving("first", "1234")
    text = merged(str(tmp_path), list(own.registry.collect())).decode()
    assert 'octorec_requests_total{outcome="ok"} 12.0' in text
    assert "octorec_e2e_request_latency_seconds_count 1.0" in text
    assert "octorec_connections 4.0" in text
    assert "octorec_batches_total 3.0" in text
    assert 'octorec_version_info{catalog="1234",model="first"} 1.0' in text
    assert "pid" not in text
