"""The load tool: arrivals are Poisson, latencies count waiting, errors are named, and it says what it saw."""

import asyncio
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner

from octorec.bench.client import Client
from octorec.bench.config import BenchConfig
from octorec.bench.over_http import timings_of
from octorec.bench.requests import bodies
from octorec.bench.run import bench
from octorec.cli import app as cli
from octorec.errors import InputError
from octorec.models.model import Logits
from octorec.report.bench import draw, render
from octorec.serve.config import ServeConfig
from octorec.serve.encode import with_timings
from tests.serve.served import Gate, Process, listening, make_catalog, make_engine, run, save_checkpoint, until


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    make_catalog().save(tmp_path / "catalog")
    return str(tmp_path / "catalog")


def silent(*_: Any) -> None:
    pass


def short(catalog: str, **more: Any) -> BenchConfig:
    return BenchConfig(**{"catalog": catalog, "duration_s": 1.0, "warm_up_s": 0.1, "history_length": 5, "k": 4, **more})


def test_arrivals_are_poisson_and_the_same_for_a_seed() -> None:
    async def arrivals(seed: int) -> np.ndarray:
        client = Client(None, [], BenchConfig(requests="r", seed=seed))  # type: ignore[arg-type]
        coming = client._arrivals(1e6, math.inf)
        return np.array([await anext(coming) for _ in range(5001)])

    first, again, other = (np.diff(asyncio.run(arrivals(seed))) for seed in (1, 1, 2))
    np.testing.assert_allclose(first, again, atol=1e-9)  # two starts, each with its own rounding
    assert not np.allclose(first[:100], other[:100], atol=1e-9)
    assert first.mean() == pytest.approx(1e-6, rel=0.06)
    assert first.std() == pytest.approx(1e-6, rel=0.06)  # of an exponential, as its mean
    print(f"{len(first)} gaps: mean {first.mean() * 1e6:.3f} us, deviation {first.std() * 1e6:.3f} us of 1")


def test_a_server_that_stalls_is_seen_by_everybody_who_came_meanwhile(catalog: str, tmp_path: Path) -> None:
    """A client that waits for its answer before it asks again would see one slow answer."""
    engine = make_engine(gate=True)
    config = short(catalog, request_rate=(40.0,), warm_up_s=0, goodput="e2el:200", out=str(tmp_path / "rows.jsonl"))

    async def test() -> None:
        async with listening(engine) as (service, port):
            gate = engine.model
            assert isinstance(gate, Gate)
            gate.shut()
            asking = asyncio.create_task(bench(f"http://127.0.0.1:{port}/", config, silent))
            await until(lambda: service.accepted >= 8, "eight wait")
            await asyncio.sleep(0.3)  # or longer: all of them are late by now
            gate.open.set()
            (row,) = await asking
            assert (row["answered"], row["errors"]) == (row["requests"], {})
            slow = row["requests"] - round(row["goodput_per_s"] * row["seconds"])
            assert slow >= 8
            assert not row["within"]
            assert row["e2el_ms"]["max"] > 300
            assert row["device_ms"]["max"] < row["e2el_ms"]["max"]
            assert (row["model"], row["catalog"]) == ("first", engine.catalog.version)
            assert json.loads((tmp_path / "rows.jsonl").read_text()) == row
            print(f"{slow} of {row['requests']} slower than 200 ms, {row['e2el_ms']}")

    run(test())


def test_scores_of_nan_are_counted_by_name(catalog: str) -> None:
    engine = make_engine(gate=True)
    gate = engine.model
    assert isinstance(gate, Gate)

    async def test() -> None:
        async with listening(engine) as (_, port):
            decode = gate.decode
            gate.decode = lambda *args: Logits(decode(*args).values * float("nan"))  # type: ignore[method-assign]
            (row,) = await bench(f"http://127.0.0.1:{port}", short(catalog, request_rate="40", warm_up_s=0), silent)
            assert row["errors"] == {"500": row["requests"]}
            assert row["nonfinite"] == row["requests"] > 0
            assert f"the model gave {row['nonfinite']} requests scores of NaN or infinity" in said(render([row]))

    run(test())


def test_errors_are_counted_by_status_and_places_bound_the_load(catalog: str) -> None:
    engine = make_engine(gate=True)

    async def test() -> None:
        async with listening(engine, max_queued_requests=3, default_deadline_ms=1000) as (service, port):
            url = f"http://127.0.0.1:{port}"
            gate = engine.model
            assert isinstance(gate, Gate)
            gate.shut()
            (row,) = await bench(url, short(catalog, request_rate="60", duration_s=0.5, warm_up_s=0), silent)
            gate.open.set()
            service.config = ServeConfig.of(max_queued_requests=3, default_deadline_ms=60_000.0)
            assert set(row["errors"]) == {"503", "504"}
            assert row["answered"] == 0
            assert sum(row["errors"].values()) == row["requests"]
            bound = {"max_concurrency": 2, "goodput": "e2el:60000", "warm_up_s": 0}
            (bounded,) = await bench(url, short(catalog, request_rate="inf", duration_s=0.5, **bound), silent)
            assert bounded["errors"] == {}  # never more than two at once: the queue has three places
            assert bounded["requests"] == bounded["answered"] >= 2
            assert bounded["request_rate"] is None
            rates = [{**bounded, "request_rate": rate} for rate in (10.0, 20.0)]
            text = said(render([row, bounded]))
            assert "x 503" in text
            assert "2 at once" in text
            assert "goodput: " in text
            assert draw([row, *rates]).startswith("<svg")
            print(text)

    run(test())


def said(what: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_bodies_come_from_a_file_or_a_catalog(catalog: str, tmp_path: Path) -> None:
    lines = tmp_path / "requests.jsonl"
    lines.write_text('{"history": ["i1"]}\n\n{"history": ["i2"], "k": 3}\n')
    assert bodies(BenchConfig(requests=str(lines))) == [b'{"history": ["i1"]}', b'{"history": ["i2"], "k": 3}']
    drawn = [orjson.loads(body) for body in bodies(short(catalog, beam_width=8))]
    assert all(set(body) == {"history", "k", "beam_width"} for body in drawn)
    assert all(len(body["history"]) == 5 for body in drawn)
    assert {item for body in drawn for item in body["history"]} == set(make_catalog().item_ids)
    assert drawn == [orjson.loads(body) for body in bodies(short(catalog, beam_width=8))]
    lines.write_text('{"history": ["i1"]}\n{"history"\n')
    for wrong in (BenchConfig(requests=str(lines)), BenchConfig(requests="no"), BenchConfig(catalog="no")):
        with pytest.raises(InputError, match=r"is no JSON|there is no such file or folder|has no items\.parquet"):
            bodies(wrong)


@pytest.mark.parametrize(
    ("typed", "sent"), [("auto", "auto"), ("8", 8), ("4-8-16", [4, 8, 16]), ((4, 8, 16), [4, 8, 16])]
)
def test_bodies_ask_for_the_beams_that_were_typed(catalog: str, typed: Any, sent: Any) -> None:
    assert {str(orjson.loads(body)["beam_width"]) for body in bodies(short(catalog, beam_width=typed))} == {str(sent)}


@pytest.mark.parametrize(("width", "field"), [("wide", "beam_width"), ("8-4-2", "k"), (3, "k"), ("0", "beam_width")])
def test_beams_that_cannot_be_asked_for_are_refused(catalog: str, width: Any, field: str) -> None:
    with pytest.raises(InputError) as refused:
        short(catalog, beam_width=width)
    assert refused.value.field == field


def test_a_server_under_load_answers_auto(catalog: str) -> None:
    engine = make_engine(batch_sizes=(1, 8), beam_widths=(4, 16, 210), default_beam_width=4)

    async def test() -> None:
        async with listening(engine) as (service, port):
            flags = {"beam_width": "auto", "request_rate": "20", "duration_s": 0.5, "warm_up_s": 0, "k": 2}
            (row,) = await bench(f"http://127.0.0.1:{port}", short(catalog, **flags), silent)
            assert row["errors"] == {}
            exact = service.metrics.registry.get_sample_value("octorec_exact_total", {"exact": "yes"})
            assert exact == row["answered"] > 0

    run(test())


def test_timings_are_read_from_the_end() -> None:
    answer = with_timings(b'{"items":["a \\"timings\\":{}"]}', {"queue_ms": 0.5, "device_ms": 3.25})
    assert timings_of(answer) == {"queue_ms": 0.5, "device_ms": 3.25}
    assert timings_of(b'{"answers":[' + answer + b"]}") == {}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"requests": None}, "give either --requests or --catalog"),
        ({"catalog": "c"}, "give either --requests or --catalog"),
        ({"request_rate": "0"}, "request_rate: got .* must be above 0"),
        ({"request_rate": "fast"}, "must be numbers, with commas"),
        ({"request_rate": "inf"}, "is required where request_rate is inf"),
        ({"goodput": "ttft:3"}, "must be e2el:MILLISECONDS"),
        ({"goodput": "e2el:x"}, "must be e2el:MILLISECONDS"),
        ({"duration_s": 0}, "duration_s: got 0; must be above 0"),
        ({"max_concurrency": 0}, "must be an integer from 1 to 100000"),
    ],
)
def test_wrong_settings_are_refused(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        BenchConfig(**{"requests": "r.jsonl", **flags})


def test_no_server_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text("{}")
    arguments = ["bench", "serve", "http://127.0.0.1:9", "--requests", str(tmp_path / "requests.jsonl")]
    result = CliRunner().invoke(cli.app, arguments)
    assert isinstance(result.exception, InputError)
    assert "has no OctoRec server" in str(result.exception)


@pytest.mark.slow
def test_the_command_writes_rows_and_a_plot(catalog: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", make_catalog())
    out, plot = tmp_path / "rows.jsonl", tmp_path / "plot.svg"
    server = Process(tmp_path / "model", "--batch-sizes", "8", "--beam-widths", "16", "--default-beam-width", "16")
    url = f"http://127.0.0.1:{server.line('listening')['port']}"
    server.line("ready")
    flags = ["--catalog", catalog, "--request-rate", "20,40", "--duration-s", "2", "--out", str(out)]
    result = CliRunner().invoke(cli.app, ["bench", "serve", url, *flags, "--plot", str(plot), "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert rows == [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["request_rate"] for row in rows] == [20, 40]
    assert all(row["answered"] > 10 for row in rows)
    assert re.search(r"^<svg.*</svg>\s*$", plot.read_text(), re.S)
    server.process.terminate()
    assert server.end() == 0
