"""`octorec serve --http-workers 3` as a shell starts it: the answers of one process, and what happens to the dying."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.serve.workers.private import PREFIX
from tests.serve.served import Process, make_catalog, save_checkpoint

pytestmark = pytest.mark.slow
N = 3
FLAGS = ("--batch-sizes", "1,8", "--beam-widths", "16,32", "--default-beam-width", "16", "--admin-port", "0")
ASKED: list[dict[str, Any]] = [
    {"history": ["i1", "i7", "i30"], "k": 16},
    {"history": [f"i{number}" for number in range(40)], "k": 5, "titles": True, "exclude_seen": True},
    {"history": ["i1"], "k": 16, "allow": ["red"], "exclude": ["i2", "i3", "i4"]},
    {"history": ["i5", "nobody knows it"], "k": 3, "user": {"age": 20, "plan": "paid"}},
    {"history": ["i5"], "k": 3, "beam_width": "auto"},
    {"history": ["i5"], "k": 20, "beam_width": 32},
    {"history": [], "k": 7},
    {"history": [], "user": {"age": 33}, "k": 7},
    {"history": ["i8"], "k": 16, "allow": ["blue"], "exclude": [f"i{number}" for number in range(80)]},
]
OWN = ("request_id", "timings", "bound")  # of each answer; bounds belong to the batch's width, compared apart


@dataclass
class Server:
    """A server that runs. port, admin: where it listens."""

    process: Process
    port: int
    admin: int

    @property
    def main(self) -> psutil.Process:
        return psutil.Process(self.process.process.pid)

    def workers(self) -> list[psutil.Process]:
        """The processes that have HTTP."""
        makers = [child for child in self.main.children() if "forkserver" in " ".join(child.cmdline())]
        return [worker for maker in makers for worker in maker.children()]

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30, **options)

    def operate(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(f"http://127.0.0.1:{self.admin}{path}", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=30).text
        found = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in found)


def start(folder: Path, *flags: str) -> Server:
    process = Process(folder, "--http-workers", str(N), *FLAGS, *flags)
    ports = {line["application"]: line["port"] for line in (process.line("listening"), process.line("listening"))}
    process.line("ready")
    server = Server(process, ports["OctoRec"], ports["OctoRec admin"])
    until(lambda: len(server.workers()) == N, "all workers are there")
    return server


def until(condition: Any, what: str, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workers")
    save_checkpoint(root / "model", make_catalog(counted=True))
    make_catalog(seed=1, counted=True).save(root / "catalogs" / "other")
    save_checkpoint(root / "models" / "second", make_catalog(counted=True), seed=1)
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    roots = "--catalog-root", str(folder / "catalogs"), "--model-root", str(folder / "models")
    server = start(folder / "model", *roots, "--drain-timeout-s", "5")
    yield server
    server.process.process.send_signal(signal.SIGTERM)
    assert server.process.end() == 0


async def ask(server: Server, bodies: list[Any], connections: int = 12) -> list[httpx.Response]:
    """Ask over connections that different workers accept."""
    limits = httpx.Limits(max_keepalive_connections=0, max_connections=connections)
    async with server.client(limits=limits) as client:
        return await asyncio.gather(*(client.post("/v1/recommend", json=body) for body in bodies))


def test_answers_are_those_of_one_process(server: Server, folder: Path) -> None:
    options: dict[str, Any] = {"batch_sizes": (1, 8), "beam_widths": (16, 32), "default_beam_width": 16}
    engine: Engine = load(folder / "model", None, "cpu", **options)
    answers = asyncio.run(ask(server, ASKED * 4))
    for body, got in zip(ASKED * 4, answers, strict=True):
        assert got.status_code == 200, got.text
        found = got.json()
        request = Request(**{name: value for name, value in body.items() if name != "titles"})
        known = [item for item in request.history if item in engine.catalog.index]
        expected = engine.recommend([Request(**{**vars(request), "history": known})])[0]
        assert found["items"] == expected.items
        assert found["scores"] == pytest.approx(expected.scores, abs=1e-6)
        assert [tuple(codes) for codes in found["codes"]] == expected.codes
        assert (found["complete"], found["source"]) == (expected.complete, expected.source)
        if "titles" in body:
            assert found["titles"] == expected.titles
        assert set(found) >= {"notes", "model", "catalog", "timings", "exact"}


def test_what_was_imported_is_in_memory_once(server: Server) -> None:
    """A garbage collector that looks at what all share would copy it: a third of a worker's pages were its own then."""
    asyncio.run(ask(server, ASKED * 4))
    for worker in server.workers():
        memory = worker.memory_full_info()
        print(f"resident {memory.rss / 1e6:.0f} MB, of which no other process has {memory.uss / 1e6:.0f} MB")
        assert memory.uss < memory.rss / 5


def test_errors_are_those_of_one_process(server: Server) -> None:
    bodies = [{"k": 0}, {"history": "i1"}, {"history": ["i1"], "k": 99}, {"history": ["i1"], "allow": ["green"]}, 7]
    answers = asyncio.run(ask(server, bodies))
    assert [answer.status_code for answer in answers] == [422] * 5
    assert [answer.json()["error"]["field"] for answer in answers] == ["k", "history", "k", "allow", "body"]
    late = asyncio.run(ask(server, [{"history": ["i1"], "k": 3, "deadline_ms": 0.01}]))
    assert late[0].status_code in (503, 504)
    several = asyncio.run(ask(server, [[ASKED[0], {"k": 0}]]))[0].json()["answers"]
    assert several[0]["complete"]
    assert several[1]["error"]["status"] == 422


def test_what_operators_change_is_seen_in_all_workers_at_once(server: Server) -> None:
    asked = {"history": ["i1"], "k": 16}
    best = asyncio.run(ask(server, [asked]))[0].json()
    gone = best["items"][0]
    popular = asyncio.run(ask(server, [{"history": [], "k": 1}]))[0].json()["items"][0]
    server.operate("/v1/items/withdraw", {"items": [gone, popular]})
    answers = [answer.json() for answer in asyncio.run(ask(server, [asked, {"history": [], "k": 3}] * 30))]
    assert not [one for one in answers if {gone, popular} & {*one["items"]}]
    assert {one["catalog"] for one in answers} != {best["catalog"]}
    server.operate("/v1/items/restore", {"items": [gone, popular]})
    assert asyncio.run(ask(server, [asked]))[0].json()["items"] == best["items"]
    server.operate("/v1/items", {"upsert": [{"item_id": best["items"][1], "title": "Another"}]})
    titled = asyncio.run(ask(server, [{**asked, "titles": True}] * 20))
    assert {answer.json()["titles"][1] for answer in titled} == {"Another"}
    server.operate("/v1/catalog/rollback", {})


def mapped_catalogs(server: Server) -> set[Path]:
    """The folders of catalogs that workers map."""
    maps = [one.path for worker in server.workers() for one in worker.memory_maps(grouped=True)]
    return {Path(path).parent for path in maps if PREFIX in path and "/catalogs/" in path}


def test_another_checkpoint_with_an_equal_catalog_writes_and_opens_no_catalog(server: Server) -> None:
    asked = {"history": ["i1"], "k": 16}
    before = asyncio.run(ask(server, [asked]))[0].json()
    (own,) = mapped_catalogs(server)
    files = {path: path.stat().st_mtime_ns for path in own.iterdir()}
    server.operate("/v1/model", {"version": "second"})
    answers = [answer.json() for answer in asyncio.run(ask(server, [asked] * 30))]
    assert {(one["model"], one["catalog"]) for one in answers} == {("second", before["catalog"])}
    assert all(one["scores"] != before["scores"] for one in answers)
    assert mapped_catalogs(server) == {own}
    assert [*own.parent.iterdir()] == [own]
    assert {path: path.stat().st_mtime_ns for path in own.iterdir()} == files
    server.operate("/v1/catalog", {"version": "other"})
    until(lambda: mapped_catalogs(server).isdisjoint({own}), "no worker has it any more")
    assert not own.exists()
    assert len([*own.parent.iterdir()]) == 1
    server.operate("/v1/catalog/rollback", {})
    assert asyncio.run(ask(server, [asked]))[0].json()["scores"] == pytest.approx(answers[0]["scores"], abs=1e-6)


def test_a_switch_under_load_loses_nothing_and_mixes_nothing(server: Server) -> None:
    """Every answer is wholly of the version that it states."""

    async def test() -> None:
        asked = {"history": ["i1", "i2"], "k": 16, "titles": True}
        before = (await ask(server, [asked]))[0].json()
        answers: list[httpx.Response] = []

        async def load() -> None:
            async with server.client() as client:
                while not done.is_set():
                    answers.append(await client.post("/v1/recommend", json=asked))

        done = asyncio.Event()
        loading = [asyncio.create_task(load()) for _ in range(12)]
        await asyncio.sleep(0.3)
        for _ in range(3):
            await asyncio.to_thread(server.operate, "/v1/catalog", {"version": "other"})
            await asyncio.sleep(0.1)
            other = (await ask(server, [asked]))[0].json()
            await asyncio.to_thread(server.operate, "/v1/catalog/rollback", {})
        done.set()
        await asyncio.gather(*loading)
        assert {answer.status_code for answer in answers} == {200}
        seen = {(one["catalog"], *one["items"], *one["titles"]) for one in (answer.json() for answer in answers)}
        assert seen == {(one["catalog"], *one["items"], *one["titles"]) for one in (before, other)}

    asyncio.run(test())


def test_a_killed_worker_loses_only_what_it_held_and_no_counter_falls(server: Server) -> None:
    async def test() -> None:
        outcomes: list[str] = []

        async def load() -> None:
            while not done.is_set():
                try:
                    async with server.client() as client:
                        for _ in range(5):
                            answer = await client.post("/v1/recommend", json={"history": ["i1"], "k": 3})
                            outcomes.append(str(answer.status_code))
                except httpx.TransportError:
                    outcomes.append("closed")

        before = server.metric("octorec_requests_total")
        done = asyncio.Event()
        loading = [asyncio.create_task(load()) for _ in range(12)]
        await asyncio.sleep(0.5)
        victim, others = server.workers()[0], {worker.pid for worker in server.workers()[1:]}
        os.kill(victim.pid, signal.SIGKILL)
        await asyncio.sleep(1.0)
        done.set()
        await asyncio.gather(*loading)
        assert set(outcomes) <= {"200", "closed"}
        assert outcomes.count("closed") <= 12  # one a client at most
        until(lambda: len(server.workers()) == N, "another is started")
        assert others <= {worker.pid for worker in server.workers()}
        answered = outcomes.count("200")
        counted = server.metric("octorec_requests_total") - before
        assert answered <= counted <= answered + outcomes.count("closed")
        assert server.metric("octorec_num_requests_waiting") == 0

    asyncio.run(test())


def test_the_engine_killed_is_told_at_once_and_leaves_nothing(folder: Path) -> None:
    before = {path.name for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*")}
    server = start(folder / "model")
    own = {path.name for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*")} - before
    assert len(own) == 1
    every = [*server.main.children(recursive=True)]

    async def test() -> None:
        clients = [server.client() for _ in range(12)]
        body = {"history": ["i1"], "k": 3}
        assert {(await client.post("/v1/recommend", json=body)).status_code for client in clients} == {200}
        os.kill(server.process.process.pid, signal.SIGKILL)
        server.process.process.wait(10)
        await asyncio.sleep(0.1)
        start = time.monotonic()
        answers = await asyncio.gather(*(client.post("/v1/recommend", json=body) for client in clients[:6]))
        health = await asyncio.gather(*(client.get("/v2/health/live") for client in clients[6:]))
        assert time.monotonic() - start < 1
        assert {(one.status_code, one.json()["error"]["type"]) for one in (*answers, *health)} == {(503, "not_live")}

    asyncio.run(test())
    _, alive = psutil.wait_procs(every, timeout=10)
    assert not alive
    assert not [name for name in own if (Path(tempfile.gettempdir()) / name).exists()]


def test_a_drained_server_answers_what_it_accepted(folder: Path) -> None:
    server = start(folder / "model", "--drain-delay-s", "0.5")
    every = [*server.main.children(recursive=True)]

    async def test() -> None:
        every_status: list[int] = []

        async def load() -> None:
            statuses: list[int] = []
            async with server.client() as client:
                while 503 not in statuses:
                    answer = await client.post("/v1/recommend", json={"history": ["i1"], "k": 3})
                    statuses.append(answer.status_code)
            every_status.extend(statuses)

        loading = [asyncio.create_task(load()) for _ in range(12)]
        await asyncio.sleep(0.3)
        server.process.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.25)
        async with server.client() as client:
            assert (await client.get("/v2/health/ready")).status_code == 503
            assert (await client.get("/v2/health/live")).status_code == 200
        await asyncio.gather(*loading)
        assert set(every_status) == {200, 503}
        assert every_status.count(200) > 12

    asyncio.run(test())
    assert server.process.end() == 0
    _, alive = psutil.wait_procs(every, timeout=10)
    assert not alive


def test_what_cannot_be_loaded_is_one_line_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    before = {*Path(tempfile.gettempdir()).glob(f"{PREFIX}*")}
    flags = ("--port", "0", "--http-workers", "2", "--catalog", str(tmp_path / "none"))
    command = [sys.executable, "-m", "octorec", "serve", str(folder / "model"), *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert len([line for line in ended.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in ended.stderr
    assert not {*Path(tempfile.gettempdir()).glob(f"{PREFIX}*")} - before
