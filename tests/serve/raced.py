"""Operators race under load: each answer is of one version, and nothing withdrawn is in it."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import httpx

from octorec.catalog.catalog import Catalog
from tests.serve.served import administered, make_catalog, make_engine, run, save_checkpoint, served

KEEP = [f"i{number}" for number in range(60)]  # are never withdrawn
COME_AND_GO = [f"i{number}" for number in range(60, 90)]


class Race:
    """A Race has what was withdrawn and since when: an answer asked for later, and read before a restore, lacks it."""

    def __init__(self, versions: dict[str, Catalog], seconds: float):
        self.versions = versions  # by the first part of the version that answers state
        self.gone: dict[str, float] = {}  # items by when their withdrawal was confirmed
        self.statuses: dict[str, dict[int, int]] = {}
        self.answers, self.end = 0, time.monotonic() + seconds
        self.seen: set[tuple[str, str]] = set()

    async def ask(self, client: httpx.AsyncClient, number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < self.end:
            asked_at, gone = time.monotonic(), dict(self.gone)
            body = {"history": [chance.choice(KEEP)], "k": 10, "titles": True}
            response = await client.post("/v1/recommend", json=body)
            assert response.status_code == 200, response.text
            answer = response.json()
            self.check(answer)
            for item, since in gone.items():
                if since < asked_at and self.gone.get(item) == since:  # gone all the while
                    assert item not in answer["items"]
            self.answers += 1
            await asyncio.sleep(0.005)

    def check(self, answer: dict[str, Any]) -> None:
        self.seen.add((answer["model"], answer["catalog"].partition("-")[0]))
        catalog = self.versions[answer["catalog"].partition("-")[0]]
        for item, codes, title in zip(answer["items"], answer["codes"], answer["titles"], strict=True):
            place = catalog.index[item]
            assert catalog.codes[place].tolist() == codes
            assert catalog.titles[place] == title

    async def operate(self, admin: httpx.AsyncClient, number: int, own: list[str]) -> None:
        """Do one thing after the other; what is withdrawn or restored is of this operator's own items."""
        chance = random.Random(1000 + number)
        while time.monotonic() < self.end:
            what = chance.choice(
                ("catalog", "rollback", "withdraw", "withdraw", "restore", "model", "refresh", "undo", "wrong")
            )
            items = chance.sample(own, 3)
            if what == "withdraw":
                items = [item for item in items if item not in self.gone]
                status = (await self.post(admin, what, "/v1/items/withdraw", items=items)) if items else 200
                if status == 200:
                    self.gone |= dict.fromkeys(items, time.monotonic())
            elif what == "restore":
                items = [item for item in own if item in self.gone][:3]
                for item in items:
                    del self.gone[item]
                if items:
                    await self.post(admin, what, "/v1/items/restore", items=items)
            elif what == "catalog":
                await self.post(admin, what, "/v1/catalog", version=chance.choice(("one", "two")))
            elif what == "rollback":
                await self.post(admin, what, "/v1/catalog/rollback")
            elif what == "model":
                await self.post(admin, what, "/v1/model", version=chance.choice(("first", "second")))
            elif what == "refresh":
                version = chance.choice(("first", "second"))
                await self.post(admin, what, "/v1/model", version=version, in_place=True)
            elif what == "undo":
                await self.post(admin, what, "/v1/model/rollback")
            else:
                await self.post(admin, what, "/v1/catalog", version="foreign")
            await asyncio.sleep(0.02)

    async def post(self, admin: httpx.AsyncClient, what: str, path: str, **body: Any) -> int:
        status = (await admin.post(path, json=body)).status_code
        counts = self.statuses.setdefault(what, {})
        counts[status] = counts.get(status, 0) + 1
        return status


def race(tmp_path: Path, seconds: float) -> None:
    """Let three operators change what is served for `seconds` while six clients ask, and check every answer."""
    one, two = make_catalog(), make_catalog(95, seed=2)
    for name, catalog in (("one", one), ("two", two), ("foreign", make_catalog(codebook=1))):
        catalog.save(tmp_path / "catalogs" / name)
    for name in ("first", "second"):
        save_checkpoint(tmp_path / "models" / name, one, seed=len(name))
    roots: dict[str, Any] = {"catalog_root": str(tmp_path / "catalogs"), "model_root": str(tmp_path / "models")}
    roots["refresh_requests"] = 0  # nothing is compared: what races is the exchange
    options = {"batch_sizes": (1, 8), "beam_widths": (16,), "default_beam_width": 16, "max_items": 120}

    async def test() -> None:
        racing = Race({one.version: one, two.version: two}, seconds)
        async with served(make_engine(**options), log_requests=False, **options, **roots) as (service, client):
            async with administered(service) as admin:
                asking = [racing.ask(client, number) for number in range(6)]
                shares = [COME_AND_GO[number::3] for number in range(3)]
                operating = [racing.operate(admin, number, own) for number, own in enumerate(shares)]
                await asyncio.gather(*asking, *operating)
            assert service.accepted == 0
        print(f"{racing.answers} answers of {len(racing.seen)} versions; operations by status: {racing.statuses}")
        assert set(racing.statuses["withdraw"]) == set(racing.statuses["restore"]) == {200}
        assert set(racing.statuses["wrong"]) <= {409, 422}
        assert all(set(racing.statuses[what]) <= {200, 409, 422} for what in racing.statuses)
        assert racing.statuses["catalog"][200] > 0
        assert racing.statuses["refresh"][200] > 0
        assert racing.answers > 100
        assert len(racing.seen) >= 3

    run(test())
