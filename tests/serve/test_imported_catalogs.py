"""A server on an imported catalog takes the next index of its codebook, and no other."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from octorec.catalog.catalog import Catalog
from octorec.data.items import check_items
from tests.serve.served import SIZES, administered, make_engine, run, save_checkpoint, served


def imported(first: int, end: int, moved: int = 0) -> Catalog:
    """The items numbered `first` to `end`, each with the codes that its number says, less `moved`."""
    codes = [np.random.default_rng(n + moved).integers(0, SIZES).tolist() for n in range(first, end)]
    return Catalog.of_items(
        check_items(pa.table({"item_id": [f"i{n}" for n in range(first, end)], "codes": codes})), SIZES
    )


def test_items_of_an_imported_catalog_come_and_go_while_serving(tmp_path: Path) -> None:
    roots = {"catalog_root": str(tmp_path / "catalogs"), "model_root": str(tmp_path / "models")}
    start, following = imported(0, 90), imported(5, 95)
    for name, catalog in (("next", following), ("other", imported(0, 90, moved=1000)), ("far", imported(90, 150))):
        catalog.save(tmp_path / "catalogs" / name)
    save_checkpoint(tmp_path / "models" / "second", start, seed=1)
    options = {"batch_sizes": (1, 32), "beam_widths": (16, 32), "default_beam_width": 16, "max_items": 120}

    async def test() -> None:
        engine = make_engine(start, max_items=120)
        async with served(engine, **options, **roots) as (service, client), administered(service) as admin:

            async def change(path: str, **body: object) -> tuple[int, dict[str, Any]]:
                response = await admin.post(f"/v1/{path}", json=body)
                return response.status_code, response.json()

            status, state = await change("catalog", version="next")
            assert (status, state["catalog"], state["previous_catalog"]) == (200, following.version, start.version)
            answer = (await client.post("/v1/recommend", json={"history": ["i94"], "k": 10})).json()
            assert (len(answer["items"]), answer["notes"]) == (10, [])
            for version, reason in (("other", "more) has the codes"), ("far", "only 5 of its items were known")):
                status, refusal = await change("catalog", version=version)
                assert status == 422
                assert reason in refusal["error"]["message"]
            status, state = await change("items/withdraw", items=["i90"])
            assert (status, state["live_items"]) == (200, 89)
            status, state = await change("catalog/rollback")
            assert (status, state["catalog"]) == (200, start.version)
            status, state = await change("model", version="second", catalog="next")
            assert (status, state["live_items"], state["previous_catalog"]) == (200, 89, start.version)

    run(test())
