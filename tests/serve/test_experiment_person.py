"""What a person says holds, over a guard that knows an old look and over what another server just wrote."""

import asyncio
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octorec.errors import InputError
from octorec.evaluate.online import record as records
from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.experiment import parse_experiment
from octorec.evaluate.online.look import look
from octorec.serve import guard as guarding
from octorec.serve.experiment import begin
from octorec.serve.experiment_metrics import ExperimentMetrics
from octorec.serve.guard import GuardTask
from octorec.serve.metrics import Metrics
from octorec.serve.outcomes import rows_of
from octorec.serve.refusal import Refusal
from tests.serve.served import run, until
from tests.serve.tried import FILE, file_with, tried

NAME = FILE["name"]


def found_inferior(at: float) -> str:
    effect = {"metric": "clicks", "variant": "fp8", "outcome": "inferior"}
    made = {"number": 1, "time": at, "units": 500, "effects": [effect]}
    return json.dumps({"outcome": "inferior", "looks": [made], "broken": []})


def test_a_look_from_before_a_person_resumed_stops_nothing_again_and_a_later_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    looked = [time.time()]

    async def report(folder: Path) -> tuple[int, str, str]:
        asked.append(folder)
        return 3, found_inferior(looked[0]), ""

    monkeypatch.setattr(guarding, "report", report)

    async def test() -> None:
        async with tried(tmp_path) as server:
            await asyncio.wrap_future(server.running.stop("fp8", "clicks is inferior"))
            await asyncio.wrap_future(server.running.switch.resume())
            guard = GuardTask(server.running, report_every_s=0.01)
            guard.start()
            await until(lambda: len(asked) >= 3, "it is asked again and again")
            assert server.running.state.stop is None
            looked[0] = time.time() + 1
            await until(lambda: server.running.state.stop is not None, "the next look stops it")
            await guard.stop()

    run(test())


def test_a_stop_holds_where_the_one_before_was_resumed_a_moment_ago(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server:
            switch, folder = server.running.switch, tmp_path / "experiments" / NAME
            switch.look_every_s = math.inf  # so that it has not seen it yet
            await asyncio.wrap_future(server.running.stop("", "first"))
            records.resume(folder, time.time())
            await asyncio.wrap_future(server.running.stop("", "second"))
            stop = records.read_record(folder).stop
            assert stop is not None
            assert (stop.why, server.running.state.stop) == ("second", stop)
            resumed, stopped = switch.resume(), server.running.stop("", "third")
            await asyncio.wrap_future(resumed)
            await asyncio.wrap_future(stopped)
            stop = records.read_record(folder).stop
            assert stop is not None
            assert stop.why == "third"
            assert server.running.state.stop == stop

    run(test())


def test_a_server_of_older_versions_divides_by_the_shares_of_the_stage_that_it_states(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server:
            newer = {name: replace(one, model=f"{one.model}x") for name, one in server.running.answering.items()}
            shares = {"control": {"share": "9/10"}, "fp8": {"share": "1/10"}}
            changed = parse_experiment(file_with(variants=shares))
            metrics = ExperimentMetrics(Metrics().registry)
            other = begin(changed, newer, server.service.config, metrics)
            await until(lambda: len(server.running.state.record.stages) == 2, "the stage is seen")
            for unit in (f"u{number}" for number in range(20)):
                await server.ask(unit)
                assert server.rows[-1]["stage"] == 0
                assert server.rows[-1]["variant"] == assign(server.experiment, unit).variant
            assert other.state.assigns.variants["fp8"].share == changed.variants["fp8"].share
            await other.close(1.0)

    run(test())


@pytest.mark.parametrize("value", [1.0001e15, -1e16, 1e300, 10**18])
def test_a_value_that_no_report_would_count_is_refused_when_it_is_sent(value: Any) -> None:
    with pytest.raises(Refusal, match=r"outcomes\.1\.value: got .*; must be from -1e\+15 to 1e\+15") as refused:
        rows_of([{"unit": "u1", "event": "click"}, {"unit": "u1", "event": "click", "value": value}], 1.0)
    assert refused.value.field == "outcomes.1.value"
    assert rows_of({"unit": "u1", "event": "click", "value": -1e15}, 1.0)[0]["value"] == -1e15


def test_no_look_is_made_without_the_files_that_outcomes_come_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    async def report(folder: Path) -> tuple[int, str, str]:
        asked.append(folder)
        return 3, found_inferior(time.time()), ""

    monkeypatch.setattr(guarding, "report", report)

    async def test() -> None:
        async with tried(tmp_path, file=file_with(guard={"outcomes": False})) as server:
            guard = GuardTask(server.running, report_every_s=0.01)
            guard.start()
            await asyncio.sleep(0.2)
            await guard.stop()
            assert (asked, server.running.state.stop) == ([], None)
            folder = server.running.switch.folder
            with pytest.raises(InputError, match="give them by --outcomes"):
                look(folder, now=time.time())

    run(test())
