"""A web page gets nothing from the admin port, and what the port refuses tells nothing of what was sent."""

from pathlib import Path

import httpx
import pytest

from tests.serve.served import administered, make_engine, run, served

FOREIGN = "https://example.com"
SECRET = "s3cr3t-word"


async def rolled_back(admin: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await admin.post("/v1/catalog/rollback", headers=headers)


def test_foreign_hosts_and_origins_are_refused() -> None:
    async def test() -> None:
        async with (
            served(make_engine(), admin_names=("octorec.internal",)) as (service, _),
            administered(service) as to,
        ):
            for host in ("localhost", "LOCALHOST:8081", "127.0.0.1:8081", "[::1]:8081", "octorec.internal:80"):
                for origin in ({}, {"Origin": f"http://{host}"}):
                    assert (await rolled_back(to, Host=host, **origin)).status_code in (409, 422), host
            for host in (
                "example.com",
                "localhost.example.com",
                "127.0.0.1.example.com",
                "",
                "[",
                "a b",
                "localhost@x",
            ):
                response = await rolled_back(to, Host=host)
                assert response.status_code == 403
                assert response.json()["error"]["field"] == "host"
            for origin in (FOREIGN, "null", "http://localhost:1", "file://", "http://localhost.example.com"):
                response = await rolled_back(to, Host="localhost:8081", Origin=origin)
                assert response.status_code == 403
                assert response.json()["error"]["field"] == "origin"
            for path in ("/v1/state", "/docs", "/openapi.json", "/nothing"):
                assert (await to.get(path, headers={"Host": "example.com"})).status_code == 403

    run(test())


@pytest.mark.parametrize("token", [False, True])
def test_what_was_sent_does_not_come_back(token: bool, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("operator\n")
    json = {"Content-Type": "application/json"} | ({"Authorization": "Bearer operator"} if token else {})

    async def test() -> None:
        config = {"admin_token_file": str(tmp_path / "tokens")}
        async with served(make_engine(), **config) as (service, _), administered(service) as to:
            asked = [
                to.get(f"/{SECRET}"),
                to.request(SECRET, "/v1/state"),
                to.get("/v1/state", headers={"Host": SECRET}),
                to.post("/v1/catalog", content=b"{}", headers={**json, "Content-Type": SECRET}),
                to.post("/v1/catalog", content=b"{}", headers={**json, "Content-Encoding": SECRET}),
                to.post("/v1/catalog", content=f'{{"{SECRET}": 1}}', headers=json),
                to.post("/v1/catalog", content=f'{{"version": ["{SECRET}"]}}', headers=json),
                to.post("/v1/items", content=f'{{"upsert": "{SECRET}"}}', headers=json),
                to.post("/v1/items", content=f'{{"upsert": [{{"item_id": "i", "{SECRET}": 1}}]}}', headers=json),
                to.post("/v1/items", content=f'{{"a": "{SECRET}', headers=json),
                to.post("/v1/items", content=f'{{"{SECRET}": 1, "{SECRET}": 2}}', headers=json),
            ]
            for answer in asked:
                response = await answer
                assert 400 <= response.status_code < 500
                assert SECRET not in response.text
                assert SECRET not in str(response.headers)

    run(test())
