"""A stop holds for every request after it, here at once and on other servers soon; only a person resumes."""

import asyncio
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from octorec.errors import InputError
from octorec.evaluate.online import record as records
from octorec.serve.experiment import Running, begin
from octorec.serve.experiment_metrics import ExperimentMetrics
from octorec.serve.metrics import Metrics
from octorec.serve.variants import Answering
from tests.serve.served import administered, run, served, until
from tests.serve.tried import FILE, Tried, file_with, make_engine, other_items, tried

NAME = FILE["name"]


def write(server: Tried, **changes: Any) -> None:
    """Change the experiment's file."""
    assert server.service.config.ab.experiment is not None
    Path(server.service.config.ab.experiment).write_text(yaml.safe_dump(file_with(**changes), sort_keys=False))


def shares(control: str, fp8: str) -> dict[str, Any]:
    return {"variants": {"control": {"share": control}, "fp8": {"share": fp8}}}


def test_after_a_stop_the_control_answers_everybody_and_units_stay_assigned(tmp_path: Path) -> None:
    control, treatment = make_engine(), make_engine(other_items())

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}) as server:
            unit, other = server.units("fp8")[0], server.units("control")[0]
            assert (await server.ask(unit)).json()["catalog"] == treatment.catalog.version
            written = server.running.stop("fp8", "too slow")
            for _ in range(3):  # the very next request
                assert (await server.ask(unit)).json()["catalog"] == control.catalog.version
            await server.ask(other)
            rows = [(row["unit"], row["variant"], row["ended"], row["catalog"]) for row in server.rows]
            assert rows == [
                (unit, "fp8", "answered", treatment.catalog.version),
                *[(unit, "fp8", "by_control", control.catalog.version)] * 3,
                (other, "control", "answered", control.catalog.version),
            ]
            assert server.rows[1]["model"] == "first-0"
            assert server.metric("octorec_experiment_stopped") == 1
            assert server.metric("octorec_variant_latency_seconds_count", variant="fp8") == 1
            await asyncio.wrap_future(written)
            stop = records.read_record(tmp_path / "experiments" / NAME).stop
            assert stop is not None
            assert (stop.variant, stop.why) == ("fp8", "too slow")
            await asyncio.wrap_future(server.running.switch.resume())
            assert (await server.ask(unit)).json()["catalog"] == treatment.catalog.version
            assert server.metric("octorec_experiment_stopped") == 0

    run(test())


def replica(server: Tried) -> Running:
    """Another server's part in the same experiment, with the same versions, which looks at the record all the time."""
    metrics = ExperimentMetrics(Metrics().registry)
    found = begin(server.experiment, server.running.answering, server.service.config, metrics)
    found.switch.look_every_s = 0.01
    found.switch.look()
    return found


def test_other_servers_follow_the_record(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path, make_engine(), {"fp8": make_engine(other_items())}) as server:
            other = replica(server)
            folder = tmp_path / "experiments" / NAME
            server.running.stop("fp8", "too slow")
            await until(lambda: other.state.stop is not None, "the stop is seen")
            unit = server.units("fp8")[0]
            exposure = other.exposed({"user": {"user_id": unit}})
            assert exposure is not None
            assert (exposure.by_control, exposure.assignment.variant) == (True, "fp8")
            records.resume(folder, time.time())
            await until(lambda: other.state.stop is None, "the resumption is seen")
            write(server, ramp=1, **shares("3/4", "1/4"))
            await asyncio.wrap_future(server.running.switch.reload())
            await until(lambda: other.state.stage == 1, "the new stage is seen")
            assert str(other.state.assigns.variants["fp8"].share) == "1/4"
            records.end(folder, time.time())
            await until(lambda: other.over, "the end is seen")
            assert other.exposed({"user": {"user_id": unit}}) is None
            await other.close(1.0)

    run(test())


def test_a_server_looks_at_the_record_at_least_every_second(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server:
            assert server.running.switch.look_every_s <= 1
            records.stop(tmp_path / "experiments" / NAME, "", "by hand", time.time())
            await until(lambda: server.running.state.stop is not None, "the stop is seen")

    run(test())


def test_a_stop_holds_though_the_record_cannot_be_written_and_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    async def test() -> None:
        async with tried(tmp_path) as server:
            monkeypatch.setattr(records, "stop", full)
            await asyncio.wrap_future(server.running.stop("fp8", "too slow"))
            assert server.running.state.stop is not None
            await server.ask(server.units("fp8")[0])
            assert server.rows[-1]["ended"] == "by_control"
            server.running.switch._read()
            assert server.running.state.stop is not None  # the record has none, which says nothing yet
            folder = tmp_path / "experiments" / NAME
            assert records.read_record(folder).stop is None
            monkeypatch.undo()
            await until(lambda: records.read_record(folder).stop is not None, "the record has it")

    run(test())


def test_a_record_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server:
            (tmp_path / "experiments" / NAME / "record.json").write_text("{")
            server.running.switch._read()
            await server.ask(server.units("fp8")[0])
            assert [row["variant"] for row in server.rows] == ["fp8"]

    run(test())


def test_a_server_that_starts_while_the_experiment_is_stopped_answers_by_control(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server:
            await asyncio.wrap_future(server.running.stop("", "by hand"))
        async with tried(tmp_path) as server:
            await server.ask(server.units("fp8")[0])
            assert server.rows[-1]["ended"] == "by_control"

    run(test())


def test_a_person_sees_stops_and_resumes(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server, administered(server.service) as admin:
            await server.ask(server.units("fp8")[0])
            state = (await admin.get("/v1/experiment")).json()
            assert (state["name"], state["stage"], state["ramp"], state["stop"]) == (NAME, 0, "1", None)
            assert state["variants"]["fp8"] == {
                "share": "1/2",
                "model": "first-0",
                "catalog": server.service.serving.engine.catalog.version,
                "beam_width": 16,
                "requests": {"answered": 1},
            }
            for body, field in (({}, "why"), ({"why": ""}, "why"), ({"why": "x", "variant": "fp9"}, "variant")):
                refused = await admin.post("/v1/experiment/stop", json=body)
                assert (refused.status_code, refused.json()["error"]["field"]) == (422, field)
            stopped = await admin.post("/v1/experiment/stop", json={"why": "complaints"})
            assert stopped.json()["stop"]["why"] == "complaints"
            await server.ask(server.units("fp8")[0])
            resumed = await admin.post("/v1/experiment/resume")
            assert resumed.json()["stop"] is None
            assert resumed.json()["variants"]["fp8"]["requests"] == {"answered": 1, "by_control": 1}
            twice = await admin.post("/v1/experiment/resume")
            assert twice.status_code == 422
            assert "is not stopped" in twice.json()["error"]["message"]

    run(test())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ramp": 0.1}, "ramp"),
        ({"salt": "another"}, "salt"),
        ({"name": "another"}, "name"),
        ({"unit": "session"}, "unit"),
        ({"hold_out": 0.1}, "hold_out"),
        ({"plan": {"units": 2000}}, "plan.units"),
        ({"variants": {"control": {"share": "1/2"}, "fp9": {"share": "1/2"}}}, "variants"),
        (
            {"variants": {"control": {"share": "1/2"}, "fp8": {"share": "1/2", "checkpoint": "x"}}},
            "variants.fp8.checkpoint",
        ),
        ({"variants": {"control": {"share": "1/2"}, "fp8": {"share": "1/2", "catalog": "x"}}}, "variants.fp8.catalog"),
        (
            {"variants": {"control": {"share": "1/2"}, "fp8": {"share": "1/2", "beam_width": 8}}},
            "variants.fp8.beam_width",
        ),
        ({"variants": {"control": {"share": "1/2"}, "fp8": {"share": "1/3"}}}, "variants: share"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_reload_takes_no_other_change(changes: dict[str, Any], field: str, tmp_path: Path) -> None:
    async def test() -> None:
        server_of = tried(tmp_path, file=file_with(ramp=0.5), hold_out_salt="ours")
        async with server_of as server, administered(server.service) as admin:
            before = (await admin.get("/v1/experiment")).json()
            write(server, **{"ramp": 0.5, **changes})
            refused = await admin.post("/v1/experiment/reload")
            assert refused.status_code == 422
            assert refused.json()["error"]["field"].endswith(field)
            assert (await admin.get("/v1/experiment")).json() == before

    run(test())


def test_a_reload_takes_a_higher_ramp_and_new_shares_as_a_stage(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path, file=file_with(ramp=0.5)) as server, administered(server.service) as admin:
            unit = server.units("fp8")[0]
            write(server, ramp=0.8)
            state = (await admin.post("/v1/experiment/reload")).json()
            assert (state["stage"], state["ramp"]) == (0, "4/5")
            await server.ask(unit)
            write(server, ramp=0.8, **shares("0.25", "0.75"))
            state = (await admin.post("/v1/experiment/reload")).json()
            assert (state["stage"], state["variants"]["fp8"]["share"]) == (1, "3/4")
            await server.ask(unit)
            assert [(row["unit"], row["variant"], row["stage"]) for row in server.rows] == [
                (unit, "fp8", 0),
                (unit, "fp8", 1),
            ]

    run(test())


def test_a_server_of_older_versions_states_its_own_stage_until_it_is_started_anew(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server, administered(server.service) as admin:
            newer = {
                name: Answering(one.serving, f"{one.model}x", one.beam_width)
                for name, one in server.running.answering.items()
            }
            metrics = ExperimentMetrics(Metrics().registry)
            other = begin(server.experiment, newer, server.service.config, metrics)
            assert other.state.stage == 1
            await until(lambda: len(server.running.state.record.stages) == 2, "the stage is seen")
            await server.ask("u1")
            assert server.rows[-1]["stage"] == 0
            refused = await admin.post("/v1/experiment/reload")
            assert "restart it" in refused.json()["error"]["message"]
            await other.close(1.0)

    run(test())


def test_without_an_experiment_every_address_of_one_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client), administered(service) as admin:
            calls = [client.post("/v1/outcomes", json={}), admin.get("/v1/experiment")]
            calls += [admin.post(f"/v1/experiment/{verb}") for verb in ("stop", "resume", "reload")]
            for response in await asyncio.gather(*calls):
                error = json.loads(response.text)["error"]
                assert (response.status_code, error["type"]) == (404, "not_found")
                assert "no experiment is configured" in error["message"]

    run(test())


def test_another_salt_of_the_hold_out_is_refused_while_the_experiment_runs(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path, file=file_with(hold_out=0.1), hold_out_salt="of the deployment") as server:
            metrics, running = ExperimentMetrics(Metrics().registry), server.running
            ours = server.service.config
            other = dataclasses.replace(ours, ab=dataclasses.replace(ours.ab, hold_out_salt="another"))
            with pytest.raises(InputError, match="hold_out_salt"):
                begin(server.experiment, running.answering, other, metrics)

    run(test())
