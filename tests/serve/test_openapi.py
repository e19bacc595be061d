"""The schema gives clean clients: one is generated here, imported, and answered; /docs needs no other host."""

import asyncio
import importlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import schemathesis
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

import octorec
from octorec.serve.admin import create_admin_app
from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.problems import OTHERS
from octorec.serve.service import Service
from tests.serve.served import administered, listening, make_engine, run, served

METHODS = {  # operation ids are the names of a generated client's functions
    "public": [
        "about",
        "compare",
        "create_chat_completion",
        "create_completion",
        "explain",
        "generate",
        "health",
        "list_models",
        "metrics",
        "model_metadata",
        "model_ready",
        "recommend",
        "search_items",
        "server_live",
        "server_ready",
    ],
    "admin": [
        "change_items",
        "get_state",
        "load_catalog",
        "load_model",
        "restore_items",
        "roll_back_catalog",
        "roll_back_model",
        "withdraw_items",
    ],
}
APPS = {"public": create_app, "admin": create_admin_app}


def schema_of(name: str, **config: Any) -> dict[str, Any]:
    return APPS[name](Service(make_engine, "first", ServeConfig.of(**config))).openapi()


@contextmanager
def generated(schema: dict[str, Any], folder: Path) -> Iterator[ModuleType]:
    """The package that openapi-python-client makes of a schema without a warning, imported."""
    (folder / "schema.json").write_text(json.dumps(schema))
    sources = {"document_source": folder / "schema.json", "output_path": folder / "octorec_client"}
    config = Config.from_sources(
        ConfigFile(post_hooks=[]), MetaType.NONE, file_encoding="utf-8", overwrite=False, **sources
    )
    assert generate(config=config) == []
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("octorec_client")
    finally:
        sys.path.remove(str(folder))
        for module in [module for module in sys.modules if module.partition(".")[0] == "octorec_client"]:
            del sys.modules[module]


@pytest.mark.parametrize("name", APPS)
def test_the_schema_says_the_servers_version_and_its_paths_the_interfaces(name: str) -> None:
    schema = schema_of(name)
    assert schema["info"]["version"] == octorec.__version__
    others = ("/health", "/metrics", "/generate")
    ours = [path for path in schema["paths"] if not path.startswith("/v2/") and path not in others]
    assert ours
    assert all(path.startswith("/v1/") for path in ours)


def part(name: str) -> Any:
    return importlib.import_module(f"octorec_client.{name}")


def test_a_generated_client_is_answered_and_reads_an_error_as_its_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)
    example = example.replace('"50", "181"', '"i50", "i18"')
    with generated(schema_of("public"), tmp_path) as package:
        models = part("models")
        one = part("api.recommend.recommend")
        health, ready = part("api.health.health"), part("api.health.model_ready")
        metrics = part("api.health.metrics")

        async def test() -> None:
            async with listening(make_engine()) as (_, port), package.Client(f"http://127.0.0.1:{port}") as client:
                request = models.RecommendRequest(history=["i1", 2], k=3, titles=True)
                answer = await one.asyncio(client=client, body=request)
                assert isinstance(answer, models.Recommendations)
                assert len(answer.items) == len(answer.titles) == 3
                assert answer.timings.total_ms > 0
                wrong = models.RecommendRequest(history=["i1"], k=0)
                error = await one.asyncio(client=client, body=wrong)
                assert isinstance(error, models.Problem)
                assert (error.error.status, error.error.type_, error.error.field) == (422, "invalid", "k")
                several = await one.asyncio(client=client, body=[request, wrong])
                assert isinstance(several, models.Answers)
                kinds = [type(answer) for answer in several.answers]
                assert kinds == [models.Recommendations, models.Problem]
                assert (await health.asyncio(client=client)).model == "first"
                unknown = await ready.asyncio_detailed("other", client=client)
                assert (unknown.status_code, unknown.parsed.error.type_) == (404, "not_found")
                assert "octorec_requests_total" in await metrics.asyncio(client=client)
                await asyncio.to_thread(exec, example.replace("8080", str(port)), {})
                said = capsys.readouterr().out
                assert len(re.findall("'i[0-9]+'", said)) == 5, said

        asyncio.run(test())


def test_a_generated_client_of_the_admin_port_sends_its_token(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("operator\n")
    config = {"admin_token_file": str(tmp_path / "tokens")}
    with generated(schema_of("admin", **config), tmp_path) as package:
        models = part("models")
        state, change = part("api.operations.get_state"), part("api.operations.change_items")

        async def test() -> None:
            async with served(make_engine(), **config) as (service, _), administered(service) as http:
                client = package.AuthenticatedClient("http://admin", token="operator").set_async_httpx_client(http)
                http.headers["Authorization"] = "Bearer operator"
                assert (await state.asyncio(client=client)).live_items == 90
                changes = models.ItemChanges(upsert=[models.ChangedItem(item_id="i1", title="New")], withdraw=["i2"])
                after = await change.asyncio(client=client, body=changes)
                assert (after.live_items, after.changed.changed, after.changed.withdrawn) == (89, 1, 1)
                refused = await change.asyncio(client=client, body=models.ItemChanges(withdraw=["nope"]))
                assert isinstance(refused, models.Problem)
                http.headers["Authorization"] = "Bearer other"
                assert (await state.asyncio(client=client)).error.type_ == "unauthorized"

        run(test())


@pytest.mark.parametrize("name", APPS)
def test_every_operation_has_a_name_and_describes_each_of_its_answers(name: str) -> None:
    schema = schema_of(name)
    schemathesis.openapi.from_dict(schema).validate()
    of_paths = [(path, operation) for path, kinds in schema["paths"].items() for operation in kinds.values()]
    operations = [operation for _, operation in of_paths]
    assert sorted(operation["operationId"] for operation in operations) == METHODS[name]
    assert not {"HTTPValidationError", "ValidationError"} & set(schema["components"]["schemas"])
    for path, operation in of_paths:
        problem = "OpenAIProblem" if path in OTHERS else "Problem"
        assert operation["description"] or operation["summary"]
        assert operation["tags"]
        assert set(operation["responses"]) >= {"200", "500"}
        for status, response in operation["responses"].items():
            assert response["description"]
            (content,) = response["content"].items()
            if status != "200":
                assert content == ("application/json", {"schema": {"$ref": f"#/components/schemas/{problem}"}})
        assert ("Retry-After" in operation["responses"].get("503", {}).get("headers", {})) == (
            "503" in operation["responses"]
        )
    assert all("head" not in path for path in schema["paths"].values())


def test_one_request_and_a_list_of_them_are_one_component() -> None:
    schema = schema_of("public", max_list=7)
    call = schema["paths"]["/v1/recommend"]["post"]
    one = {"$ref": "#/components/schemas/RecommendRequest"}
    kinds = call["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert kinds == [one, {"type": "array", "items": one, "minItems": 1, "maxItems": 7}]
    fields = schema["components"]["schemas"]["RecommendRequest"]["properties"]
    assert all(field.get("description") for field in fields.values())
    for name in ("history", "exclude"):
        assert [kind["type"] for kind in fields[name]["items"]["anyOf"]] == ["string", "integer"]


def test_a_token_is_in_the_schema_where_one_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a\n")
    for name, setting in (("public", "token_file"), ("admin", "admin_token_file")):
        with_token = schema_of(name, **{setting: str(tmp_path / "tokens")})
        assert list(with_token["components"]["securitySchemes"]) == ["HTTPBearer"]
        assert "securitySchemes" not in schema_of(name)["components"]


ADDRESS = re.compile(r"""(?:src|href)\s*=\s*["']([^"']+)|url:\s*["']([^"']+)""")


def test_docs_asks_no_other_host() -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client), administered(service) as admin:
            for port in (client, admin):
                await docs(port)

    run(test())


async def docs(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert not re.search(r"""(https?:)?//[a-z0-9]""", re.sub("<!--.*?-->", "", page.text))
    assert '"validatorUrl": null' in page.text
    named = [first or second for first, second in ADDRESS.findall(page.text)]
    kinds = {}
    for address in named:
        response = await client.get(address)
        assert response.status_code == 200, address
        assert len(response.content) > 1000
        kinds[response.headers["content-type"].partition(";")[0]] = response.text
    assert set(kinds) == {"text/css", "image/png", "text/javascript", "application/json"}
    assert not re.search(r"@import|url\([\"']?(?!data:|[\"'])", kinds["text/css"])
    assert "SwaggerUIBundle" in kinds["text/javascript"]
    assert (await client.get("/redoc")).status_code == 404
