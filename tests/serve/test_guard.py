"""An experiment loses a bad variant by itself, within seconds, and only a person gives it back."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from octorec.evaluate.online import record as records
from octorec.serve import guard as guarding
from octorec.serve.exposure import Ended
from octorec.serve.guard import GuardTask, inferior
from tests.serve.served import Gate, make_catalog, run, until
from tests.serve.tried import file_with, make_engine, tried

WITHIN_S = 5.0
FOR_GOOD = {"window": "1h", "requests": 10}


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "CHECK_S", 0.02)


def guarded(**thresholds: Any) -> dict[str, Any]:
    return file_with(guard={**FOR_GOOD, **thresholds})


def ended(variant: str = "fp8", outcome: str = "ok", ms: float = 10.0, by_control: bool = False) -> Ended:
    return Ended(variant, outcome, ms / 1e3, by_control)


def test_a_variant_that_fails_has_no_traffic_seconds_later(tmp_path: Path) -> None:
    control, treatment = make_engine(), make_engine(make_catalog(1, codebook=0), gate=True)

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}, guarded(error_rate=0.2)) as server:
            assert isinstance(treatment.model, Gate)
            treatment.model.poison = tuple(treatment.catalog.codes[0].tolist())
            unit = server.units("fp8")[0]
            for _ in range(10):
                assert (await server.ask(unit, ["i0"])).status_code == 500
            await until(lambda: server.running.state.stop is not None, "it is stopped", WITHIN_S)
            assert (await server.ask(unit)).status_code == 200
            await until(lambda: records.read_record(server.running.switch.folder).stop is not None, "it is recorded")
            stop = records.read_record(server.running.switch.folder).stop
            assert stop is not None
            assert (stop.variant, stop.why) == ("fp8", "100.0% of 10 requests in 3600 s failed, more than 20.0%")
            assert server.metric("octorec_experiment_stopped") == 1

    run(test())


def test_a_slow_variant_is_stopped_and_what_came_before_a_resume_is_forgotten(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path, file=guarded(latency_ms=100)) as server:
            running, guard = server.running, server.service.guard
            assert guard is not None
            for _ in range(10):
                guard.seen(ended(ms=500))
            await until(lambda: running.state.stop is not None, "it is stopped", WITHIN_S)
            await asyncio.sleep(0.1)
            await asyncio.wrap_future(running.switch.resume())
            for _ in range(9):  # with one from before there would be enough
                guard.seen(ended(ms=500))
            await asyncio.sleep(0.2)
            assert running.state.stop is None
            guard.seen(ended(ms=500))
            await until(lambda: running.state.stop is not None, "it is stopped again", WITHIN_S)

    run(test())


@pytest.mark.parametrize(
    "one",
    [
        ended("control", "failed"),
        ended(outcome="invalid"),
        ended(outcome="cancelled", ms=60_000),
        ended(outcome="too_large"),
        ended(outcome="failed", by_control=True),
    ],
    ids=str,
)
def test_what_is_no_fault_of_the_variant_does_not_count(one: Ended, tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path, file=guarded(error_rate=0.01, latency_ms=50)) as server:
            assert server.service.guard is not None
            for _ in range(50):
                server.service.guard.seen(one)
            await asyncio.sleep(0.1)
            assert server.running.state.stop is None

    run(test())


def a_report(
    outcome: str = "inconclusive", metric: str = "clicks", of: str = "inferior", **more: Any
) -> dict[str, Any]:
    effect = {"metric": metric, "variant": "fp8", "outcome": of}
    look = {"number": 1, "time": time.time(), "units": 500, "effects": [effect]}
    return {"outcome": outcome, "looks": [look], "broken": [], **more}


@pytest.mark.parametrize(("code", "outcome", "stopped"), [(3, "inferior", True), (5, "broken", False)])
def test_a_guardrail_that_is_inferior_at_a_look_stops_the_experiment(
    code: int, outcome: str, stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    async def report(folder: Path) -> tuple[int, str, str]:
        asked.append(folder)
        return code, json.dumps(a_report(outcome)), ""

    monkeypatch.setattr(guarding, "report", report)

    async def test() -> None:
        async with tried(tmp_path) as server:
            guard = GuardTask(server.running, report_every_s=0.01)
            guard.start()
            await until(lambda: len(asked) >= 1, "it is asked for a report")
            if stopped:
                await until(lambda: server.running.state.stop is not None, "it is stopped", WITHIN_S)
                stop = server.running.state.stop
                assert stop is not None
                assert stop.why == "clicks is inferior by the margin of 0.05 at look 1 with 500 units"
            else:
                await until(lambda: len(asked) >= 2, "it is asked again")
                assert server.running.state.stop is None
            await guard.stop()
            assert set(asked) == {server.running.switch.folder}

    run(test())


def test_a_goal_that_gets_worse_and_a_report_without_looks_stop_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server:
            experiment = server.experiment
            assert inferior(a_report("inferior"), experiment) is not None
            assert inferior(a_report("inferior", of="inconclusive"), experiment) is None
            assert inferior(a_report("inferior", metric="of an older file"), experiment) is None
            assert inferior({**a_report(), "looks": []}, experiment) is None

    run(test())


def test_a_report_that_cannot_be_made_is_logged_once_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Path] = []

    async def report(folder: Path) -> tuple[int, str, str]:
        asked.append(folder)
        return 2, "", "warning\nerror: record: broken\n"

    monkeypatch.setattr(guarding, "report", report)

    async def test() -> None:
        async with tried(tmp_path) as server:
            guard = GuardTask(server.running, report_every_s=0.01)
            guard.start()
            await until(lambda: len(asked) >= 3, "it is asked again and again")
            await guard.stop()
            assert server.running.state.stop is None
            reasons = [one.reason for one in caplog.records if one.message == "the experiment's report"]
            assert reasons == ["error: record: broken"]

    run(test())
