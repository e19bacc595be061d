"""Whatever goes wrong at whatever address, the body has one shape, and the headers say what can be done."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from octorec.serve.openai_schemas import OpenAIProblem
from octorec.serve.problems import OTHERS
from octorec.serve.refusal import LONGEST, STATUS
from octorec.serve.schemas import Problem
from octorec.serve.service import Service
from tests.serve.served import administered, listening, make_engine, one_process, run, served

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "FOO")
ALLOWED = {  # address -> its methods
    "/v1/recommend": "POST",
    "/v1/compare": "POST",
    "/v1/explain": "POST",
    "/v1/about": "GET, HEAD",
    "/v1/items": "GET, HEAD",
    "/": "GET, HEAD",
    "/v1/completions": "POST",
    "/v1/chat/completions": "POST",
    "/generate": "POST",
    "/v1/models": "GET, HEAD",
    "/health": "GET, HEAD",
    "/v2/health/live": "GET, HEAD",
    "/v2/health/ready": "GET, HEAD",
    "/v2/models/octorec": "GET, HEAD",
    "/v2/models/octorec/ready": "GET, HEAD",
    "/metrics": "GET, HEAD",
    "/docs": "GET, HEAD",
    "/openapi.json": "GET, HEAD",
    "/static-offline-docs/swagger-ui.css": "GET, HEAD",
}
ALLOWED_TO_ADMIN = {
    "/v1/state": "GET, HEAD",
    "/v1/catalog": "POST",
    "/v1/catalog/rollback": "POST",
    "/v1/items": "POST",
    "/v1/items/withdraw": "POST",
    "/v1/items/restore": "POST",
    "/v1/model": "POST",
    "/v1/model/rollback": "POST",
    "/docs": "GET, HEAD",
}
NOWHERE = ("/nothing", "/v1", "/v1/recommend/", "/v2/models/other", "/v2/models/other/ready", "/v2/models/%00%ff",
           "/static-offline-docs/nothing", "/static-offline-docs/%2e%2e/core.py", "/" + "x" * 3000,
           "/v1/%1b[2J")  # fmt: skip


def problem(response: httpx.Response, status: int, outcome: str) -> dict[str, Any]:
    """The shape of the address: the schema's model exactly, bounded, without control characters."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    if response.request.url.path in OTHERS:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        OpenAIProblem.model_validate(body, strict=True)
        assert body["error"]["code"] == outcome
    else:
        assert set(body) == {"error", "request_id"}
        assert set(body["error"]) == {"status", "type", "field", "message"}
        Problem.model_validate(body, strict=True)
        assert (body["error"]["status"], body["error"]["type"]) == (status, outcome)
        assert STATUS[outcome] == status
    assert 0 < len(body["error"]["message"]) <= LONGEST
    assert len(response.content) < 3 * LONGEST
    assert "Traceback" not in response.text
    assert "\x1b" not in body["error"]["message"]
    return body["error"]


@one_process
def test_wrong_methods_and_unknown_addresses() -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client), administered(service) as admin:
            for port, addresses in ((client, ALLOWED), (admin, ALLOWED_TO_ADMIN)):
                assert {path.partition("{")[0] for path in (await port.get("/openapi.json")).json()["paths"]} <= {
                    path.replace("octorec/ready", "").replace("octorec", "") for path in addresses
                }
                for address, allowed in addresses.items():
                    for method in [method for method in METHODS if method not in allowed.split(", ")]:
                        response = await port.request(method, address, content=b"{}")
                        assert response.headers["allow"] == allowed, (method, address)
                        if method == "HEAD":
                            assert (response.status_code, response.content) == (405, b"")
                        else:
                            assert address in problem(response, 405, "method_not_allowed")["message"]
                for address in NOWHERE:
                    problem(await port.get(address), 404, "not_found")
                for method in METHODS:
                    if method != "HEAD":
                        problem(await port.request(method, "/nothing"), 404, "not_found")

    run(test())


BODIES: dict[str, tuple[bytes, dict[str, str], int, str]] = {  # to any operation: body, headers, status, type
    "no JSON": (b"{", {}, 400, "malformed"),
    "not UTF-8": (b'{"version": "\xff"}', {}, 400, "malformed"),
    "half of a surrogate pair": (b'{"version": "\\ud800"}', {}, 400, "malformed"),
    "NaN": (b'{"version": NaN}', {}, 400, "malformed"),
    "deep": (b"[" * 100_000, {}, 400, "malformed"),
    "a number": (b"3", {}, 422, "invalid"),
    "another field": (b'{"\\u001b[2J' + b"y" * 5000 + b'": 1}', {}, 422, "invalid"),
    "compressed": (b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415, "unsupported_media"),
}
OPERATIONS = ("/v1/catalog", "/v1/items", "/v1/items/withdraw", "/v1/items/restore", "/v1/model")


def test_wrong_bodies() -> None:
    async def test() -> None:
        async with served(make_engine(), max_body_bytes=200_000) as (service, client), administered(service) as admin:
            for port, addresses in ((client, ("/v1/recommend",)), (admin, OPERATIONS)):
                for address in addresses:
                    for body, headers, status, outcome in BODIES.values():
                        as_json = {"Content-Type": "application/json", **headers}
                        response = await port.post(address, content=body, headers=as_json)
                        problem(response, status, outcome)
                        assert ("accept-encoding" in response.headers) == (status == 415)
            for address in OPERATIONS:
                for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
                    response = await admin.post(address, content=b"{}", headers={"Content-Type": kind})
                    assert problem(response, 415, "unsupported_media")["field"] == "content-type"
                    assert response.headers["accept"] == "application/json"
                large = await admin.post(address, content=b" " * (2**24 + 1))
                assert problem(large, 413, "too_large")["field"] == "body"
                problem(await admin.post(address), 422, "invalid")
            problem(await client.post("/v1/recommend", content=b" " * 200_001), 413, "too_large")

    run(test())


def test_a_model_that_reads_codes_has_no_prompts() -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client):
            for address in ("/v1/completions", "/v1/chat/completions", "/generate"):
                said = problem(await client.post(address, content=b"{}"), 404, "not_found")["message"]
                assert said == f"{address}: this model reads items' codes, and no prompts: ask /v1/recommend"
            models = (await client.get("/v1/models")).json()["data"]
            assert [(one["id"], one["root"], one["max_model_len"]) for one in models] == [("octorec", "first", None)]
            assert service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": "not_found"}) == 3

    run(test())


def test_a_missing_token(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("operator\n")
    path = str(tmp_path / "tokens")

    async def test() -> None:
        tokens = {"token_file": path, "admin_token_file": path}
        async with served(make_engine(), **tokens) as (service, client), administered(service) as admin:
            asked = [client.post("/v1/recommend", content=b"{"), admin.get("/v1/state")]
            asked += [client.post("/generate"), client.post("/v1/completions"), client.get("/v1/models")]
            asked += [admin.post(address, content=b" " * (2**24 + 1)) for address in OPERATIONS]
            for answer in asked:
                response = await answer
                error = problem(response, 401, "unauthorized")
                assert error.get("field", error.get("param")) == "authorization"
                assert response.headers["www-authenticate"] == "Bearer"

    run(test())


@one_process
def test_a_server_that_loads_or_ends_says_when_to_ask_again() -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client):
            for state, outcome in (("loading", "not_ready"), ("draining", "draining")):
                service.state = state  # type: ignore[assignment]
                asked = [("GET", "/health"), ("GET", "/v2/health/ready"), ("GET", "/v2/models/octorec/ready")]
                for method, address in [*asked, ("POST", "/v1/recommend")]:
                    response = await client.request(method, address, json={"history": ["i1"]})
                    problem(response, 503, outcome)
                    assert response.headers["retry-after"] == "1"
                assert (await client.get("/v2/health/live")).status_code == 200
            service.state, service.error = "failed", RuntimeError("no weights")
            response = await client.get("/v2/health/live")
            assert "no weights" in problem(response, 503, "not_live")["message"]
            assert "retry-after" not in response.headers

    run(test())


@pytest.mark.parametrize("address", ["/health", "/v1/recommend"])
@one_process
def test_what_only_the_server_can_do_wrong(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    async def test() -> None:
        async with (
            listening(make_engine()) as (_, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            monkeypatch.setattr(Service, "not_ready", property(broken))
            monkeypatch.setattr(Service, "not_live", property(broken))
            monkeypatch.setattr("octorec.serve.door.read_body", broken)
            method = "POST" if address == "/v1/recommend" else "GET"
            error = problem(await client.request(method, address), 500, "failed")
            assert "secret" not in json.dumps(error)

    run(test())


def test_an_upgrade_to_a_websocket_is_an_ordinary_request() -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eA==",
    }

    async def test() -> None:
        async with (
            listening(make_engine()) as (_, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            problem(await client.get("/nothing", headers=upgrade), 404, "not_found")
            problem(await client.get("/v1/recommend", headers=upgrade), 405, "method_not_allowed")

    run(test())
