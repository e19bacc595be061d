"""A request keeps its trace over HTTP, gRPC and workers; what is malformed is ignored; spans say where time went."""

import asyncio
import logging
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from octorec.errors import InputError
from octorec.serve import front, spans
from octorec.serve.config import ServeConfig
from octorec.serve.trace_context import TraceContext, parent_of
from tests.cli.test_command import said_at_the_end
from tests.serve.inferred import call, histories, inferring, refused, request
from tests.serve.served import Process, make_catalog, make_engine, one_process, run, save_checkpoint, served, until

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
ASKED = {"history": ["i1", "i2"], "k": 5}
MALFORMED = [
    "x", "", f"00-{'0' * 32}-{SPAN_ID}-01", f"00-{TRACE_ID}-{'0' * 16}-01", f"{PARENT}-more", f"{PARENT} ",
    PARENT.upper(), f"ff-{TRACE_ID}-{SPAN_ID}-01", f"01-{TRACE_ID}-{SPAN_ID}-01.more",
    f"01-{TRACE_ID}-{SPAN_ID}-01-{'x' * 8192}",
]  # fmt: skip


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What services that are made now record."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(front, "spans_of", lambda on: spans.Spans(provider))
    return exporter


def headers_of(*parents: str, state: str | None = None) -> list[tuple[bytes, bytes]]:
    lines = [(b"traceparent", parent.encode()) for parent in parents]
    return lines if state is None else [*lines, (b"tracestate", state.encode())]


def test_a_well_formed_parent_is_read() -> None:
    assert parent_of(headers_of(PARENT)) == TraceContext(TRACE_ID, SPAN_ID, 1)
    assert parent_of(headers_of(f"cc-{TRACE_ID}-{SPAN_ID}-ff-later")) == TraceContext(TRACE_ID, SPAN_ID, 3)
    assert parent_of([]) is None
    assert parent_of(headers_of(PARENT, PARENT)) is None


@pytest.mark.parametrize("parent", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_parent_is_ignored(parent: str) -> None:
    assert parent_of(headers_of(parent, state="a=1")) is None


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=1, b@c=x y,,", "a=1,b@c=x y"), ("a=1,a=2", ""), ("A=1", ""), ("a", ""), ("a=\u00e9", ""), ("a=1=2", ""),
        (",".join(f"k{number}=1" for number in range(32)), ",".join(f"k{number}=1" for number in range(32))),
        (",".join(f"k{number}=1" for number in range(33)), ""), (f"a={'x' * 512}", ""),
    ],
)  # fmt: skip
def test_a_state_is_kept_whole_or_not_at_all(state: str, kept: str) -> None:
    found = parent_of(headers_of(PARENT, state=state))
    assert found is not None
    assert (found.trace_id, found.state) == (TRACE_ID, kept)


def test_http_answers_and_logs_name_the_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            for body, status in ((ASKED, 200), ({"history": 5}, 422)):
                given = {"traceparent": PARENT, "tracestate": "a=1", "x-request-id": f"mine-{status}"}
                answer = await client.post("/v1/recommend", json=body, headers=given)
                version, trace_id, span_id, flags = answer.headers["traceparent"].split("-")
                assert (answer.status_code, version, trace_id, flags) == (status, "00", TRACE_ID, "01")
                assert span_id != SPAN_ID
                assert (answer.headers["tracestate"], answer.headers["x-request-id"]) == ("a=1", f"mine-{status}")
                await until(lambda: lines(caplog, f"mine-{status}"), "the line")  # noqa: B023 - it is awaited here
                (line,) = lines(caplog, f"mine-{status}")
                assert (line.trace_id, line.span_id) == (trace_id, span_id)
            for parent in ("x", "y" * 8000):
                answer = await client.post("/v1/recommend", json=ASKED, headers={"traceparent": parent})
                assert answer.status_code == 200
                assert answer.headers["traceparent"].split("-")[1] not in (TRACE_ID, "0" * 32)

    with caplog.at_level(logging.INFO):
        run(test())
    assert "yyy" not in caplog.text


test_http_answers_and_logs_name_the_trace = one_process(test_http_answers_and_logs_name_the_trace)


def lines(caplog: pytest.LogCaptureFixture, request_id: str) -> list[Any]:
    return [one for one in caplog.records if one.message == "request" and vars(one)["request_id"] == request_id]


@one_process
def test_grpc_says_it_in_trailers() -> None:
    async def test() -> None:
        async with inferring(make_engine()) as (_, _, channel):
            given = (("traceparent", PARENT), ("tracestate", "a=1"), ("x-request-id", "mine"))
            one = call(channel, "ModelInfer")(request(histories(["i1"])), metadata=given)
            await one
            trailers = dict(await one.trailing_metadata())
            assert trailers["traceparent"].startswith(f"00-{TRACE_ID}-")
            assert (trailers["tracestate"], trailers["x-request-id"]) == ("a=1", "mine")
            _, _, outcome, trailers = await refused(channel, request({}), metadata=given)
            assert (outcome, trailers["x-request-id"]) == ("invalid", "mine")
            assert trailers["traceparent"].startswith(f"00-{TRACE_ID}-")

    run(test())


@one_process
def test_spans_of_a_request_are_below_its_callers(exported: InMemorySpanExporter) -> None:
    async def test() -> None:
        async with inferring(make_engine()) as (_, client, channel):
            await client.post("/v1/recommend", json=ASKED, headers={"traceparent": PARENT})
            await call(channel, "ModelInfer")(request(histories(["i1"])), metadata=(("traceparent", PARENT),))
            await client.post("/v1/recommend", json=ASKED, headers={"traceparent": PARENT[:-1] + "0"})
            await client.post("/v1/recommend", json={"history": 5}, headers={"traceparent": PARENT})

    run(test())
    found = {one.name: one for one in exported.get_finished_spans()[:4]}
    assert sorted(one.name for one in exported.get_finished_spans()) == [
        "ModelInfer", *(["POST /v1/recommend"] * 2), *(["engine"] * 2), *(["queue"] * 2), *(["ranking"] * 2),
    ]  # fmt: skip
    assert {one.context.trace_id for one in exported.get_finished_spans()} == {int(TRACE_ID, 16)}
    top = found["POST /v1/recommend"]
    assert f"{top.parent.span_id:016x}" == SPAN_ID
    assert {found[name].parent.span_id for name in ("queue", "engine", "ranking")} == {top.context.span_id}
    assert dict(found["engine"].attributes) == {"octorec.batch_size": 1, "octorec.beam_width": 16}
    assert dict(found["ranking"].attributes)["octorec.k"] == 5
    assert top.attributes["http.response.status_code"] == 200
    assert top.start_time <= found["queue"].start_time <= found["engine"].start_time <= found["engine"].end_time
    codes = [one.attributes.get("http.response.status_code") for one in exported.get_finished_spans()]
    assert codes.count(422) == 1
    assert "i1" not in str([dict(one.attributes) for one in exported.get_finished_spans()])


@pytest.mark.slow
def test_nothing_of_opentelemetry_is_imported_where_spans_are_off() -> None:
    code = "import sys, octorec.serve.run, octorec.serve.oip_server; heavy = ('sdk', 'exporter')"
    code += "; sys.exit(any('opentelemetry.' + one in sys.modules for one in heavy))"  # FastAPI imports its bare API
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_extra_is_named_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", make_catalog())
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    code, said = said_at_the_end(["serve", str(tmp_path / "model"), "--spans"])
    assert (code, said) == (2, "error: opentelemetry is not installed: run pip install 'octorec[otel]'\n")


def test_a_variable_that_cannot_be_read_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "-1")
    with pytest.raises(InputError, match="OTEL_"):
        spans.spans_of(True)


def test_a_disabled_sdk_leaves_traces_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with spans.traced(spans.spans_of(True), headers_of(PARENT), "POST /", {}) as asked:
        assert (asked.context.trace_id, asked.context.flags) == (TRACE_ID, 1)
        assert asked.context.span_id != SPAN_ID
    with spans.traced(spans.spans_of(True), [], "POST /", {}) as asked:
        assert asked.context.trace_id.strip("0")


class Collector(BaseHTTPRequestHandler):
    """A collector of OTLP over HTTP."""

    got: list[Any] = []  # noqa: RUF012 - of the class, one a test

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_spans_of_all_processes_reach_a_collector(
    workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collector, "got", [])
    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    save_checkpoint(tmp_path / "model", make_catalog())
    flags = ("--batch-sizes", "1", "--beam-widths", "16", "--default-beam-width", "16", "--http-workers", workers)
    process = Process(tmp_path / "model", *flags, "--spans")
    try:
        asyncio.run(_ask(f"http://127.0.0.1:{process.line('listening')['port']}"))
        process.process.terminate()
        assert process.end() == 0
    finally:
        process.process.kill()
    collector.shutdown()
    assert {path for path, _ in Collector.got} == {"/v1/traces"}
    found = [one for _, sent in Collector.got for part in sent.resource_spans for one in part.scope_spans[0].spans]
    resources = [part.resource for _, sent in Collector.got for part in sent.resource_spans]
    names = {one.value.string_value for part in resources for one in part.attributes if one.key == "service.name"}
    assert names == {"octorec"}
    assert sorted(one.name for one in found) == ["POST /v1/recommend", "engine", "queue", "ranking"]
    assert {one.trace_id.hex() for one in found} == {TRACE_ID}
    top = next(one for one in found if one.name == "POST /v1/recommend")
    assert top.parent_span_id.hex() == SPAN_ID
    assert {one.parent_span_id for one in found if one is not top} == {top.span_id}


async def _ask(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        async with asyncio.timeout(60):
            while (await client.get("/v2/health/ready")).status_code != 200:
                await asyncio.sleep(0.05)
        answer = await client.post("/v1/recommend", json=ASKED, headers={"traceparent": PARENT})
        assert answer.status_code == 200


def test_spans_are_off_unless_asked_for() -> None:
    assert not ServeConfig.of().http.spans
    assert spans.spans_of(False) is None
