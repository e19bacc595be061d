"""While an experiment runs nothing else is loaded, and what is done to items is done to every variant's catalog."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine
from octorec.evaluate.online import record as records
from tests.serve import served as tiny
from tests.serve.served import SIZES, administered, make_catalog, run, save_checkpoint
from tests.serve.tried import FILE, Tried, make_engine, other_items, tried


def wide(catalog: Catalog, max_items: int = 120) -> Engine:
    """An engine whose beam holds every code tuple, so that an answer may have every item."""
    return tiny.make_engine(catalog, batch_sizes=(1,), beam_widths=(210,), default_beam_width=210, max_items=max_items)


async def everything(server: Tried, variant: str) -> set[str]:
    answer = await server.ask(server.units(variant)[0], ["i1"], k=210)
    assert answer.status_code == 200, answer.text
    return set(answer.json()["items"])


def embedded(seed: int, ids: list[str]) -> Catalog:
    """A catalog built from vectors; another seed is another codebook."""
    vectors = np.random.default_rng(seed).normal(size=(len(ids), 3)).astype(np.float32)
    return build_catalog(None, pa.table({"item_id": ids, "vector": list(vectors)}), SIZES)


def test_withdrawn_and_restored_items_go_from_and_come_back_to_every_variant(tmp_path: Path) -> None:
    """i0..i89 in the control's catalog, i30..i119 in the treatment's."""
    control, treatment = wide(make_catalog(90)), wide(other_items(90, start=30))

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}) as server, administered(server.service) as admin:
            server.service.batcher.drop_unknown = True
            gone = ["i5", "i50", "i100"]  # of the first, of both, of the second
            answer = await admin.post("/v1/items/withdraw", json={"items": gone})
            assert answer.status_code == 200, answer.text
            assert not await everything(server, "control") & set(gone)
            unit = server.units("fp8")[0]
            shown = set((await server.ask(unit, ["i40"], k=210)).json()["items"])
            assert not shown & set(gone)
            assert (await admin.post("/v1/items/restore", json={"items": gone})).status_code == 200
            assert {"i5", "i50"} <= await everything(server, "control")
            assert {"i50", "i100"} <= set((await server.ask(unit, ["i40"], k=210)).json()["items"])
            for verb in ("withdraw", "restore"):
                refused = await admin.post(f"/v1/items/{verb}", json={"items": ["i5", "nobody"]})
                assert (refused.status_code, refused.json()["error"]["field"]) == (422, "items")
            assert "i5" in await everything(server, "control")

    run(test())


def test_an_upserted_item_goes_to_every_variant_by_each_ones_codebook(tmp_path: Path) -> None:
    ids = [f"i{number}" for number in range(60)]
    control, treatment = wide(embedded(0, ids)), wide(embedded(1, ids))

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}) as server, administered(server.service) as admin:
            new = {"upsert": [{"item_id": "new", "vector": [1.0, -1.0, 0.5]}], "withdraw": ["i3"]}
            assert (await admin.post("/v1/items", json=new)).json()["changed"]["added"] == 1
            for variant, engine in (("control", control), ("fp8", treatment)):
                found = await everything(server, variant)
                assert "new" in found
                assert "i3" not in found
                codebook = engine.catalog.codebook
                assert codebook is not None
                codes = codebook.assign(np.array([[1.0, -1.0, 0.5]], np.float32))[0]
                assert engine.catalog.codes[engine.catalog.index["new"]].tolist() == codes.tolist()
            coded = await admin.post("/v1/items", json={"upsert": [{"item_id": "x", "codes": [0, 0, 0]}]})
            assert (coded.status_code, "another codebook" in coded.json()["error"]["message"]) == (422, True)

    run(test())


def test_what_one_variant_cannot_take_no_variant_takes(tmp_path: Path) -> None:
    ids = [f"i{number}" for number in range(60)]
    control, treatment = wide(embedded(0, ids)), wide(embedded(0, ids[:-1]), max_items=59)

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}) as server, administered(server.service) as admin:
            before = control.catalog, treatment.catalog
            new = {"upsert": [{"item_id": "new", "vector": [1.0, -1.0, 0.5]}], "withdraw": ["i3"]}
            refused = await admin.post("/v1/items", json=new)
            assert refused.status_code == 422
            assert "max_items = 59" in refused.json()["error"]["message"]
            assert (control.catalog, treatment.catalog) == before
            assert "i3" in await everything(server, "control")
            assert (await admin.get("/v1/state")).json()["withdrawn"] == 0

    run(test())


def test_a_switch_that_fails_half_way_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control, treatment = make_engine(), make_engine(other_items())

    def fail(_: Catalog) -> None:
        raise MemoryError("no room on the device")

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}) as server, administered(server.service) as admin:
            before = control.catalog
            monkeypatch.setattr(treatment, "replace_catalog", fail)
            failed = await admin.post("/v1/items/withdraw", json={"items": ["i5"]})
            assert failed.status_code == 500
            assert control.catalog is before
            assert (await server.ask(server.units("control")[0])).status_code == 200

    run(test())


def test_variants_that_share_a_catalog_share_the_changed_one(tmp_path: Path) -> None:
    catalog = make_catalog()
    control, treatment = make_engine(catalog), make_engine(catalog)

    async def test() -> None:
        async with tried(tmp_path, control, {"fp8": treatment}) as server, administered(server.service) as admin:
            assert (await admin.post("/v1/items/withdraw", json={"items": ["i5"]})).status_code == 200
            assert control.catalog is treatment.catalog is not catalog

    run(test())


def test_nothing_is_loaded_while_an_experiment_runs_and_again_once_it_has_ended(tmp_path: Path) -> None:
    catalog = make_catalog()
    catalog.save(tmp_path / "catalogs" / "next")
    save_checkpoint(tmp_path / "models" / "next", catalog)
    roots: dict[str, Any] = {"catalog_root": str(tmp_path / "catalogs"), "model_root": str(tmp_path / "models")}
    roots |= {"batch_sizes": (1,), "beam_widths": (16,), "default_beam_width": 16}

    async def test() -> None:
        async with (
            tried(tmp_path, make_engine(catalog), {"fp8": make_engine(other_items())}, **roots) as server,
            administered(server.service) as admin,
        ):
            calls = [("catalog", {"version": "next"}), ("catalog/rollback", {}), ("model", {"version": "next"})]
            for path, body in calls:
                refused = await admin.post(f"/v1/{path}", json=body)
                assert refused.status_code == 422, path
                assert "restart the server, which opens a new stage" in refused.json()["error"]["message"]
            records.end(tmp_path / "experiments" / FILE["name"], time.time())
            server.running.switch._read()
            assert (await admin.post("/v1/catalog", json={"version": "next"})).status_code == 200
            assert (await admin.post("/v1/model", json={"version": "next"})).status_code == 200
            answer = (await server.ask(server.units("fp8")[0])).json()
            assert answer["model"] == "next"
            assert server.rows == []
            assert (await admin.post("/v1/items/withdraw", json={"items": ["i5"]})).status_code == 200

    run(test())
