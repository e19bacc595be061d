"""The load tool over gRPC: calls of several histories, the same report, and bodies that no call can say."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from octorec.bench.config import BenchConfig
from octorec.bench.messages import messages
from octorec.bench.run import bench
from octorec.errors import InputError
from octorec.serve.config import HttpOptions, ServeConfig
from octorec.serve.oip_messages import ModelInferRequest
from octorec.serve.oip_requests import read_batch
from octorec.serve.schemas import checked
from tests.serve.inferred import inferring
from tests.serve.served import Gate, Process, make_catalog, make_engine, one_process, run, save_checkpoint, until

FULL: dict[str, Any] = {
    "history": ["i1", "i2"], "exclude": ["i3"], "allow": ["red"], "user": {"age": 30.5, "plan": "paid"}, "k": 4,
    "beam_width": [4, 8, 16], "exclude_seen": True, "deadline_ms": 500.0,
}  # fmt: skip


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    make_catalog().save(tmp_path / "catalog")
    return str(tmp_path / "catalog")


def short(catalog: str, **more: Any) -> BenchConfig:
    flags = {"duration_s": 0.5, "warm_up_s": 0, "history_length": 5, "k": 4, "goodput": "e2el:60000"}
    return BenchConfig(**{"catalog": catalog, **flags, **more})


def silent(*_: Any) -> None:
    pass


def encoded(*bodies: Any) -> list[bytes]:
    return [orjson.dumps(body) for body in bodies]


def read(message: bytes) -> list[dict[str, Any]]:
    """The requests of a message, as the server has them."""
    return read_batch(ModelInferRequest.FromString(message), HttpOptions(), None).bodies


def test_messages_are_read_as_the_bodies_that_they_were_made_of() -> None:
    other = {**FULL, "history": [], "exclude": ["i4", "i5"], "user": {"age": 20, "plan": "free"}}
    (message,) = messages(encoded(FULL, other), 2, "octorec")
    for body, found in zip((FULL, other), read(message), strict=True):
        said = {**body, "beam_width": "4-8-16"}
        assert found == said
        assert checked(found, ServeConfig()) == checked(said, ServeConfig())


@pytest.mark.parametrize(
    "ids", [["5", "0", "172"], ["5", "007"], ["5", "9" * 19], ["5", "é"], ["5", "٣"], [5, 6]], ids=str
)
def test_ids_stay_the_texts_that_they_were(ids: list[Any]) -> None:
    ((found,),) = (read(one) for one in messages(encoded({"history": ids}), 1, "octorec"))
    assert [str(one) for one in found["history"]] == [str(one) for one in ids]


def test_every_body_is_asked_and_every_call_is_full() -> None:
    bodies = encoded(*({"history": [f"i{number}"]} for number in range(5)))
    found = [[one["history"] for one in read(message)] for message in messages(bodies, 2, "octorec")]
    assert found == [[["i0"], ["i1"]], [["i2"], ["i3"]], [["i4"], ["i0"]]]
    (few,) = messages(bodies[:1], 3, "octorec")
    assert [one["history"] for one in read(few)] == [["i0"]] * 3


@pytest.mark.parametrize(
    ("bodies", "said"),
    [
        ([{"history": ["i1"], "titles": True}], "request 1: titles: got True; over gRPC: history, exclude"),
        ([{"history": ["i1"]}, [1]], "request 2: got .* over gRPC: an object"),
        ([{"history": "i1"}, {"history": ["i1"]}], "history: got 'i1'; over gRPC: a list of ids"),
        ([{"k": 4}, {"k": 5}], "rows_per_call: got 2; of requests that differ in more than their ids: 1"),
        ([{"user": {"age": 3}}, {"user": {"plan": "free"}}], "rows_per_call: got 2; of requests that differ"),
        ([{"k": 1.5}, {"k": 1.5}], "k: got 1.5; over gRPC: int"),
        ([{"k": 2**63}, {"k": 2**63}], "k: got 9223372036854775808; over gRPC: int"),
        ([{"user": None}], "request 1: user: got None; over gRPC: an object"),
        ([{"features": [1]}], "request 1: features: got .1.; over gRPC: an object"),
        ([{"user": {"age": None}}, {"user": {"age": 3}}], "user.age: got None; over gRPC: texts, or numbers of one"),
    ],
)  # fmt: skip
def test_what_no_call_can_say_is_refused_by_name(bodies: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        messages(encoded(*bodies), 2, "octorec")


@one_process
def test_each_history_of_a_call_is_a_request_of_the_report(catalog: str, tmp_path: Path) -> None:
    engine = make_engine()

    async def test() -> None:
        async with inferring(engine) as (service, _, channel):
            config = short(catalog, request_rate="80", rows_per_call=4, out=str(tmp_path / "rows.jsonl"))
            (row,) = await bench(f"grpc://127.0.0.1:{channel.port}", config, silent)
            assert json.loads((tmp_path / "rows.jsonl").read_text()) == row
            assert (row["model"], row["catalog"]) == ("first", engine.catalog.version)
            assert row["answered"] == row["requests"] > 0
            assert row["requests"] % 4 == 0
            counted = service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": "ok"})
            assert counted == row["answered"] + 4  # a call before them all says what answers
            assert row["within"]
            assert row["e2el_ms"]["p50"] > 0
            assert row["device_ms"] == {}
            assert 0 < row["answer_kb"] < 1  # of a request: 4 indices and scores

    run(test())


@one_process
def test_refusals_are_counted_by_code_and_by_history(catalog: str) -> None:
    engine = make_engine(gate=True)

    async def test() -> None:
        async with inferring(engine, max_queued_requests=4, max_list=4) as (service, _, channel):
            url, gate = f"grpc://127.0.0.1:{channel.port}", engine.model
            assert isinstance(gate, Gate)
            config = short(catalog, request_rate="120", rows_per_call=4)

            def counted(outcome: str) -> float:
                name = "octorec_requests_total"
                return service.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0

            asking = asyncio.create_task(bench(url, config, silent))
            await until(lambda: counted("ok") >= 4, "the first call is answered")
            gate.shut()
            await until(lambda: counted("queue_full") >= 4, "a call is refused")
            gate.open.set()
            (row,) = await asking
            assert [*row["errors"]] == ["UNAVAILABLE"]
            assert row["errors"]["UNAVAILABLE"] % 4 == 0
            assert row["answered"] + sum(row["errors"].values()) == row["requests"]

    run(test())


@one_process
def test_a_tool_that_was_too_slow_reports_nothing_over_grpc_either(catalog: str) -> None:
    async def test() -> None:
        async with inferring(make_engine()) as (_, _, channel):
            config = short(catalog, request_rate="80", rows_per_call=2, goodput="e2el:0.001")
            (row,) = await bench(f"grpc://127.0.0.1:{channel.port}", config, silent)
            assert "the load tool itself was the bottleneck" in row["refused"]
            assert "goodput_per_s" not in row

    run(test())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("grpc://127.0.0.1:9", "has no OctoRec server that answers over gRPC .UNAVAILABLE"),
        ("grpc://127.0.0.1", "must be grpc://HOST:PORT"),
        ("grpc://127.0.0.1:99999", "must be grpc://HOST:PORT"),
        ("grpc://:80", "must be grpc://HOST:PORT"),
        ("http://127.0.0.1:9", "rows_per_call: got 2; 1, but for an address with grpc://"),
    ],
)
def test_addresses_that_cannot_be_asked_are_refused(catalog: str, url: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        asyncio.run(bench(url, short(catalog, rows_per_call=2, timeout_s=5), silent))


@one_process
def test_another_model_is_not_found(catalog: str) -> None:
    async def test() -> None:
        async with inferring(make_engine()) as (_, _, channel):
            with pytest.raises(InputError, match="NOT_FOUND: no model 'shop': this server has 'octorec'"):
                await bench(f"grpc://127.0.0.1:{channel.port}/shop", short(catalog), silent)

    run(test())


@pytest.mark.slow
def test_two_processes_ask_over_grpc_what_the_server_can_do(catalog: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", make_catalog())
    flags = ("--batch-sizes", "1,8", "--beam-widths", "16", "--default-beam-width", "16", "--grpc-port", "0")
    server = Process(tmp_path / "model", *flags)
    ports = {line["application"]: line["port"] for line in (server.line("listening"), server.line("listening"))}
    server.line("ready")
    load = ["--processes", "2", "--rows-per-call", "4", "--search-s", "1", "--duration-s", "1", "--warm-up-s", "0.2"]
    tool = [sys.executable, "-m", "octorec", "bench", "serve", f"grpc://127.0.0.1:{ports['gRPC']}", "--json"]
    line = [*tool, "--catalog", catalog, "--history-length", "5", "--k", "4", *load, "--goodput", "e2el:10000"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=300)
    server.process.terminate()
    assert server.end() == 0
    rows = json.loads(done.stdout)["rows"]
    assert rows[0]["capacity_per_s"] > 0
    assert len(rows) == 6
    assert all(row["processes"] == 2 and row["requests"] % 4 == 0 and row["answered"] > 0 for row in rows)
    assert np.isfinite([row["e2el_ms"]["p99"] for row in rows]).all()
