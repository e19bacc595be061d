"""A server with an experiment, as a generated client and as an operator's shell see it."""

import re
import shlex
import signal
from pathlib import Path
from typing import Any

import httpx
import pyarrow.dataset as ds
import pytest
import schemathesis
import yaml
from test_openapi import METHODS, generated, part

from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.experiment import parse_experiment
from octorec.evaluate.online.record import read_record
from octorec.evaluate.online.rows import ENDED, EXPOSURES, OUTCOMES
from octorec.serve.admin import create_admin_app
from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.service import Service
from octorec.settings import settings_of
from tests.serve.served import Process, administered, make_catalog, run, save_checkpoint
from tests.serve.tried import FILE, Loaded, make_engine, tried

JSON = {"Content-Type": "application/json"}
MORE = {
    "public": ["add_outcomes"],
    "admin": ["get_experiment", "reload_experiment", "resume_experiment", "stop_experiment"],
}


def schema_of(name: str) -> dict[str, Any]:
    config = ServeConfig.of(experiment="ab.yaml", experiment_root="experiments")
    service = Service(make_engine, "first", config, Loaded(parse_experiment(FILE), config, {}))
    return (create_app if name == "public" else create_admin_app)(service).openapi()


@pytest.mark.parametrize("name", MORE)
def test_the_schema_has_the_experiments_operations_with_all_their_answers(name: str) -> None:
    schema = schema_of(name)
    schemathesis.openapi.from_dict(schema).validate()
    operations = {one["operationId"]: one for path in schema["paths"].values() for one in path.values()}
    assert sorted(operations) == sorted([*METHODS[name], *MORE[name]])
    assert not {"HTTPValidationError", "ValidationError"} & set(schema["components"]["schemas"])
    for operation in (operations[method] for method in MORE[name]):
        assert operation["description"]
        assert operation["tags"] == ["experiment"]
        problems = {status: said for status, said in operation["responses"].items() if status >= "4"}
        assert "500" in problems
        for said in problems.values():
            (content,) = said["content"].values()
            assert content == {"schema": {"$ref": "#/components/schemas/Problem"}}


def test_a_generated_client_sends_outcomes_and_reads_a_refusal(tmp_path: Path) -> None:
    with generated(schema_of("public"), tmp_path) as package:
        models, outcomes = part("models"), part("api.experiment.add_outcomes")

        async def test() -> None:
            async with tried(tmp_path) as server:
                client = package.Client("http://test").set_async_httpx_client(server.client)
                one = models.Outcome(event="click", unit="u1", value=2.5)
                assert (await outcomes.asyncio(client=client, body=one)).taken == 1
                several = [one, models.Outcome(event="click", request_id="r1", time="2026-11-30T12:00:00Z")]
                assert (await outcomes.asyncio(client=client, body=several)).taken == 2
                wrong = await outcomes.asyncio(client=client, body=[one, models.Outcome(event="click")])
                assert isinstance(wrong, models.Problem)
                assert wrong.error.field == "outcomes.1.unit"

        run(test())


def test_a_generated_client_of_the_admin_port_stops_and_resumes(tmp_path: Path) -> None:
    with generated(schema_of("admin"), tmp_path) as package:
        models, stop = part("models"), part("api.experiment.stop_experiment")
        get, resume = part("api.experiment.get_experiment"), part("api.experiment.resume_experiment")

        async def test() -> None:
            async with tried(tmp_path) as server, administered(server.service) as http:
                client = package.Client("http://admin").set_async_httpx_client(http)
                stopped = await stop.asyncio(client=client, body=models.Why(why="complaints"))
                assert stopped.stop.why == "complaints"
                assert (await get.asyncio(client=client)).variants["fp8"].share == "1/2"
                assert (await resume.asyncio(client=client)).stop is None
                assert isinstance(await resume.asyncio(client=client), models.Problem)

        run(test())


PAGE = (Path(__file__).parents[2] / "docs" / "online-serving.md").read_text()


def test_what_the_page_says_to_send_is_taken_and_its_words_are_the_servers(tmp_path: Path) -> None:
    catalog = make_catalog(190, ids=[str(number) for number in range(190)])
    (block,) = re.findall(r"^```bash\n(.*?)^```", PAGE, re.S | re.M)
    typed = [shlex.split(line) for line in block.splitlines() if line.startswith("curl ")]

    async def test() -> None:
        async with tried(tmp_path, make_engine(catalog)) as server:
            sent = [
                await server.client.post(line[1].removeprefix("localhost:8080"), content=line[3], headers=JSON)
                for line in typed
            ]
            assert [answer.status_code for answer in sent] == [200, 202]
            assert [row["request_id"] for row in (server.rows[0], server.outcomes[0])] == ["r1", "r1"]
            metrics = (await server.client.get("/metrics")).text
            named = set(re.findall(r"`(octorec_\w+)`", PAGE))
            assert len(named) >= 6
            assert all(name in metrics for name in named)

    run(test())
    cells = " ".join(re.findall(r"^\| (`.*?) \|", PAGE, re.M))
    words = set(re.findall(r"`(\w+)`", cells))
    settings = {"experiment", "experiment_root", "unit_field", "hold_out_salt"}
    assert words == {"ended", *settings, *ENDED, *OUTCOMES.names}
    assert settings <= set(settings_of(ServeConfig))


@pytest.mark.slow
def test_a_process_routes_logs_takes_outcomes_and_leaves_all_rows_on_the_disk(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "first", make_catalog())
    save_checkpoint(tmp_path / "second", make_catalog(), seed=1)
    (tmp_path / "experiments").mkdir()
    file = {
        **FILE,
        "variants": {"control": {"share": "1/2"}, "fp8": {"share": "1/2", "checkpoint": str(tmp_path / "second")}},
    }
    (tmp_path / "ab.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    experiment = parse_experiment(file)
    flags = ["--experiment", str(tmp_path / "ab.yaml"), "--experiment-root", str(tmp_path / "experiments")]
    small = ["--batch-sizes", "1,4", "--beam-widths", "16", "--default-beam-width", "16"]
    process = Process(tmp_path / "first", *flags, *small)
    try:
        address = f"http://127.0.0.1:{process.line('listening')['port']}"
        process.line("ready")
        with httpx.Client(base_url=address, timeout=60) as client:
            for number in range(20):
                body = {"history": ["i1"], "k": 3, "user": {"user_id": f"u{number}"}, "request_id": f"r{number}"}
                answer = client.post("/v1/recommend", json=body).json()
                wanted = {"control": "first", "fp8": "second"}[assign(experiment, f"u{number}").variant]
                assert answer["model"] == wanted
                outcome = {"request_id": f"r{number}", "event": "click", "item": answer["items"][0]}
                assert client.post("/v1/outcomes", json=outcome).status_code == 202
            assert b"octorec_variant_requests_total" in client.get("/metrics").content
        process.process.send_signal(signal.SIGTERM)
        assert process.end() == 0
    finally:
        process.process.kill()
    folder = tmp_path / "experiments" / "fp8"
    exposures = ds.dataset(sorted(map(str, (folder / "exposures").glob("*.parquet")))).to_table()
    outcomes = ds.dataset(sorted(map(str, (folder / "outcomes").glob("*.parquet")))).to_table()
    assert set(exposures.schema.names) >= set(EXPOSURES.names)
    assert set(outcomes.schema.names) >= set(OUTCOMES.names)
    assert sorted(exposures["request_id"].to_pylist()) == sorted(f"r{number}" for number in range(20))
    assert exposures.num_rows == outcomes.num_rows == 20
    for row in exposures.to_pylist():
        assert row["variant"] == assign(experiment, row["unit"]).variant
        assert (row["ended"], row["group"], len(row["items"])) == ("answered", "experiment", 3)
        assert row["time"].utcoffset() is not None
    stage = read_record(folder).stages[0]
    assert {row["variant"]: (row["model"], row["catalog"]) for row in exposures.to_pylist()} == dict(stage.versions)


@pytest.mark.slow
def test_a_file_that_does_not_fit_ends_the_process_with_the_field(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "first", make_catalog())
    save_checkpoint(tmp_path / "foreign", make_catalog(codebook=5))
    (tmp_path / "experiments").mkdir()
    variants = {"control": {"share": "1/2"}, "fp8": {"share": "1/2", "checkpoint": str(tmp_path / "foreign")}}
    (tmp_path / "ab.yaml").write_text(yaml.safe_dump({**FILE, "variants": variants}, sort_keys=False))
    process = Process(
        tmp_path / "first",
        *["--experiment", str(tmp_path / "ab.yaml"), "--experiment-root", str(tmp_path / "experiments")],
        *["--batch-sizes", "1", "--beam-widths", "16", "--default-beam-width", "16"],
    )
    assert process.process.stderr
    said = process.process.stderr.read()
    assert process.end() != 0
    assert "variants.fp8.checkpoint" in said
    assert "Traceback" not in said
    assert list((tmp_path / "experiments").iterdir()) == []
