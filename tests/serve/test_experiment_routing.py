"""Every unit is answered by the variant that it is assigned, on every server, and each assigned request has its row."""

import asyncio
import json
import logging
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from octorec.engine.engine import Engine, EngineConfig
from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.rows import ENDED, EXPOSURES
from octorec.models.user import UserField
from octorec.serve.logs import JsonFormatter
from tests.serve.served import FIELDS, Gate, make_catalog, make_model, run, served, until
from tests.serve.tried import FILE, Tried, file_with, make_engine, other_items, tried


def gate(engine: Engine) -> Gate:
    assert isinstance(engine.model, Gate)
    return engine.model


def test_units_are_answered_by_their_variants_and_stay_there(tmp_path: Path) -> None:
    control, treatment = make_engine(), make_engine(other_items())
    versions = {"control": control.catalog.version, "fp8": treatment.catalog.version}

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}) as server:
            for _ in range(2):
                for number in range(12):
                    answer = (await server.ask(f"u{number}")).json()
                    variant = assign(server.experiment, f"u{number}").variant
                    assert answer["catalog"] == versions[variant]
                    assert "variant" not in answer
                    row = server.rows[-1]
                    assert (row["unit"], row["variant"], row["group"]) == (f"u{number}", variant, "experiment")
                    assert (row["items"], row["ended"], row["stage"]) == (answer["items"], "answered", 0)
                    assert (row["request_id"], row["catalog"]) == (answer["request_id"], answer["catalog"])
                    assert row["model"] == {"control": "first-0", "fp8": "fp8-0"}[variant]
                    assert row["latency_ms"] >= answer["timings"]["total_ms"]
            assert {row["variant"] for row in server.rows} == {"control", "fp8"}
            assert pa.table({name: [row[name] for row in server.rows] for name in EXPOSURES.names if name != "time"})

    run(test())


def test_requests_of_nobody_and_of_units_beyond_the_ramp_are_the_controls_and_have_no_row(tmp_path: Path) -> None:
    control, treatment = make_engine(), make_engine(other_items())

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}, file_with(ramp=0)) as server:
            plain = {"history": ["i1"], "k": 3}
            bodies = [plain, {**plain, "user": {}}, {**plain, "user": {"age": 3}}]
            bodies += [{**plain, "user": {"user_id": unit}} for unit in (None, "", "u1", 7)]
            for body in bodies:
                answer = (await server.client.post("/v1/recommend", json=body)).json()
                assert answer["catalog"] == control.catalog.version
            assert server.rows == []

    run(test())


@pytest.mark.parametrize("unit", [1.5, 2**70, "x" * 257, "x" * 900_000, "é" * 200], ids=lambda unit: str(unit)[:8])
def test_what_is_no_unit_id_is_refused_by_the_name_of_its_field_with_and_without_an_experiment(
    unit: Any, tmp_path: Path
) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server, served(make_engine()) as (_, other):
            body = {"history": ["i1"], "k": 3, "user": {"user_id": unit}}
            for client in (server.client, other):
                response = await client.post("/v1/recommend", json=body)
                assert (response.status_code, response.json()["error"]["field"]) == (422, "user.user_id")
                assert len(response.content) < 1000
            assert server.rows == []

    run(test())


def test_units_that_are_no_scalars_are_refused_too(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server:
            for unit in (True, ["u1"], {"id": "u1"}):
                response = await server.ask(unit)
                assert (response.status_code, response.json()["error"]["field"]) == (422, "user.user_id")
            assert server.rows == []

    run(test())


def test_one_unit_in_two_unicode_forms_is_one(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server:
            for form in ("NFC", "NFD"):
                assert (await server.ask(unicodedata.normalize(form, "Zoë Ångström"))).status_code == 200
            assert (await server.ask(7)).status_code == (await server.ask("7")).status_code == 200
            units = [row["unit"] for row in server.rows]
            assert units == [unicodedata.normalize("NFC", "Zoë Ångström")] * 2 + ["7"] * 2

    run(test())


def test_the_unit_is_not_handed_to_a_model_without_such_a_field(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            body = {"history": ["i1"], "k": 3, "user": {"age": 40}}
            without = (await client.post("/v1/recommend", json=body)).json()
            named = (await client.post("/v1/recommend", json={**body, "user": {"age": 40, "user_id": "u1"}})).json()
            assert named["scores"] == without["scores"]
            nothing = await client.post("/v1/recommend", json={"history": [], "user": {"user_id": "u1"}})
            assert nothing.json()["error"]["field"] == "history"  # as without a user: no counts in this catalog
            unknown = await client.post("/v1/recommend", json={**body, "user": {"user": "u1"}})
            assert unknown.json()["error"]["field"] == "user"
        async with served(make_engine(), unit_field="age") as (_, client):
            scores = [
                (await client.post("/v1/recommend", json={**body, "user": {"age": age}})).json()["scores"]
                for age in (20, 70)
            ]
            assert scores[0] != scores[1]  # the model has the field, and reads it

    run(test())


def test_every_end_of_an_assigned_request_has_its_row(tmp_path: Path) -> None:
    control, treatment = make_engine(), make_engine(make_catalog(5), gate=True)

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}, max_queued_requests=1) as server:
            unit = server.units("fp8")[0]
            assert (await server.ask(unit, request_id="good")).status_code == 200
            assert (await server.ask(unit, k=16, beam_width=16, request_id="few")).status_code == 200
            assert (await server.ask(unit, k=0, request_id="none")).status_code == 422
            assert (await server.ask(unit, ["i1"], allow=["no such"], request_id="set")).status_code == 422
            gate(treatment).poison = tuple(treatment.catalog.codes[treatment.catalog.index["i2"]].tolist())
            assert (await server.ask(unit, ["i2"], request_id="poison")).status_code == 500
            gate(treatment).shut()
            held = asyncio.create_task(server.ask(unit, request_id="held"))
            await until(gate(treatment).entered.is_set, "the device is held")
            assert (await server.ask(unit, deadline_ms=600, request_id="late")).status_code == 504
            waits = asyncio.create_task(server.ask(unit, request_id="gone"))
            await until(lambda: server.service.batcher.waiting == 1, "the queue is full")
            assert (await server.ask(unit, request_id="full")).status_code == 503  # before it is assigned
            waits.cancel()
            await until(lambda: len(server.rows) == 7, "the row of who hung up")
            gate(treatment).open.set()
            await held
            ended = {row["request_id"]: row["ended"] for row in server.rows}
            none = next(name for name in ended if len(name) == 32)  # refused before its id was known to be one
            assert ended.pop(none) == "refused"
            assert ended == {
                "good": "answered",
                "few": "short",
                "set": "refused",
                "poison": "failed",
                "held": "answered",
                "late": "refused",
                "gone": "failed",
            }
            for row in server.rows:
                assert (row["unit"], row["variant"]) == (unit, "fp8")
                assert row["ended"] in ENDED
                assert (
                    bool(row["items"])
                    == bool(row["model"])
                    == bool(row["catalog"])
                    == (row["ended"] in ("answered", "short"))
                )
            assert server.metric("octorec_variant_requests_total", variant="fp8", outcome="ok") == 3
            assert server.metric("octorec_variant_requests_total", variant="fp8", outcome="invalid") == 2
            assert server.metric("octorec_variant_latency_seconds_count", variant="fp8") == 3

    run(test())


def test_each_request_of_a_list_is_assigned_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path, make_engine(), {"fp8": make_engine(other_items())}) as server:
            units = [*server.units("fp8", n=3), *server.units("control", n=2)]
            body = [{"history": ["i1"], "k": 2, "user": {"user_id": unit}} for unit in units]
            answers = (await server.client.post("/v1/recommend", json=[*body, {"history": ["i1"]}])).json()["answers"]
            rows = {row["unit"]: row for row in server.rows}
            assert [rows[unit]["variant"] for unit in units] == ["fp8"] * 3 + ["control"] * 2
            assert [rows[unit]["items"] for unit in units] == [answer["items"] for answer in answers[:5]]
            assert [rows[unit]["request_id"] for unit in units] == [answer["request_id"] for answer in answers[:5]]

    run(test())


def test_held_out_units_and_testers_are_said_and_not_counted(tmp_path: Path) -> None:
    file = file_with(hold_out=0.5, overrides={"me": "fp8"})

    async def test() -> None:
        control, treatment = make_engine(), make_engine(other_items())
        async with tried(tmp_path, control, {"fp8": treatment}, file, hold_out_salt="ours") as server:
            seen: list[Any] = []
            server.running.watching.append(seen.append)
            held_out, inside = server.units("control", "hold_out")[0], server.units("fp8")[0]
            catalogs = [(await server.ask(unit)).json()["catalog"] for unit in (held_out, inside, "me")]
            assert catalogs == [control.catalog.version, *[treatment.catalog.version] * 2]
            assert [(row["variant"], row["group"]) for row in server.rows] == [
                ("control", "hold_out"),
                ("fp8", "experiment"),
                ("fp8", "tester"),
            ]
            assert [(one.variant, one.outcome, one.by_control) for one in seen] == [("fp8", "ok", False)]
            assert server.metric("octorec_variant_requests_total", variant="hold out", outcome="ok") == 1

    run(test())


def test_a_variants_beam_width_is_the_default_of_its_units_over_a_shared_engine(tmp_path: Path) -> None:
    variants = {"control": {"share": "1/2"}, "fp8": {"share": "1/2", "beam_width": 4}}

    async def test() -> None:
        async with tried(tmp_path, file=file_with(variants=variants)) as server:
            assert server.service.batcher.others == ()
            answers = [await server.ask(server.units(name)[0], k=5) for name in ("control", "fp8")]
            assert [answer.status_code for answer in answers] == [200, 422]
            assert "beam_width = 4" in answers[1].json()["error"]["message"]
            wide = await server.ask(server.units("fp8")[0], k=5, beam_width=16)
            assert wide.json()["scores"] == answers[0].json()["scores"]

    run(test())


def test_a_batch_is_of_one_engine_and_none_of_them_waits_for_another_to_be_idle(tmp_path: Path) -> None:
    """While one engine is held, both get requests in turn; each is then answered in two batches, the oldest first."""
    control, treatment = make_engine(gate=True), make_engine(other_items(), gate=True)

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}) as server:
            pairs = zip(server.units("control", n=6), server.units("fp8", n=6), strict=True)
            units = [unit for pair in pairs for unit in pair]
            gate(control).shut()
            held = asyncio.create_task(server.ask(units[0]))
            await until(gate(control).entered.is_set, "the device is held")
            asked = []
            for number, unit in enumerate(units[1:]):  # fp8 first
                asked.append(asyncio.create_task(server.ask(unit)))
                await until(lambda number=number: server.service.batcher.waiting == number + 1, "it waits")  # type: ignore[misc]
            gate(control).batches.clear()
            gate(treatment).batches.clear()
            gate(control).open.set()
            answers = [await held, *await asyncio.gather(*asked)]
            assert len(gate(control).batches) == 2  # the held one's, and that of five others
            assert len(gate(treatment).batches) == 1
            assert server.service.metrics.registry.get_sample_value("octorec_batch_fill_ratio_sum") is not None
            for unit, answer in zip(units, answers, strict=True):
                engine = {"control": control, "fp8": treatment}[assign(server.experiment, unit).variant]
                assert answer.json()["catalog"] == engine.catalog.version

    run(test())


def test_a_variant_that_fails_on_everything_does_not_end_the_server(tmp_path: Path) -> None:
    control, treatment = make_engine(), make_engine(make_catalog(1, codebook=0), gate=True)

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}) as server:
            gate(treatment).poison = tuple(treatment.catalog.codes[0].tolist())
            assert (await server.ask(server.units("fp8")[0], ["i0"])).status_code == 500
            assert server.service.not_live is None
            assert (await server.ask(server.units("control")[0])).status_code == 200
            assert [row["ended"] for row in server.rows] == ["failed", "answered"]

    run(test())


def test_the_log_line_says_the_variant_and_the_answer_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with tried(tmp_path) as server:
            with caplog.at_level(logging.INFO):
                answer = await server.ask(server.units("fp8")[0])
                assert "fp8" not in answer.text + str(answer.headers)
                await until(lambda: any(one.message == "request" for one in caplog.records), "the line")
            line = next(one for one in caplog.records if one.message == "request")
            said = json.loads(JsonFormatter().format(line))
            assert (said["variant"], said["group"], said["outcome"]) == ("fp8", "experiment", "ok")

    run(test())


def test_a_watcher_that_fails_takes_no_answer_away(tmp_path: Path) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("a watcher's own fault")

    async def test() -> None:
        async with tried(tmp_path) as server:
            server.running.watching.append(fail)
            assert (await server.ask("u1")).status_code == 200
            assert len(server.rows) == 1

    run(test())


def test_both_logs_are_closed_at_the_end_within_what_is_left_to_drain(tmp_path: Path) -> None:
    async def test() -> None:
        async with tried(tmp_path, drain_timeout_s=7.0) as server:
            await server.ask("u1")
            kept: Tried = server
        assert [list(rows[-1]) for rows in (kept.rows, kept.outcomes)] == [["closed"], ["closed"]]
        assert all(0 < rows[-1]["closed"] <= 7 for rows in (kept.rows, kept.outcomes))

    run(test())


def test_a_model_that_has_the_unit_as_a_field_reads_it(tmp_path: Path) -> None:
    fields = (*FIELDS, UserField("user_id", "number", mean=0, std=1))
    catalog = make_catalog()
    config = EngineConfig(max_context=12, batch_sizes=(1,), beam_widths=(16,), default_beam_width=16)
    engine = Engine(make_model(catalog, fields=fields), catalog, config)

    async def test() -> None:
        async with tried(tmp_path, engine, file=FILE) as server:
            scores = [(await server.ask(unit)).json()["scores"] for unit in (1, 2)]
            assert scores[0] != scores[1]
            assert [row["unit"] for row in server.rows] == ["1", "2"]

    run(test())
