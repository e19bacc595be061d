"""The server as `octorec serve` builds it, on each device: graphs, versions and batches of one device thread."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from octorec.engine.request import Request
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.serve.config import ServeConfig
from octorec.serve.versions import load_engine
from tests.serve.served import N_ITEMS, SIZES, administered, make_catalog, run, served, until


def save_demo(folder: Path, seed: int) -> None:
    """A checkpoint of the demo's widths, which every kernel can take."""
    catalog = make_catalog()
    model = OneRecV2(preset("demo", codebook_sizes=SIZES, codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=seed)
    for parameter in model.parameters():
        parameter.data *= 2
    folder.mkdir()
    save(model, folder, torch.bfloat16)
    catalog.save(folder / "catalog")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_models_and_catalogs_change_under_load(device: str, tmp_path: Path) -> None:
    """One bucket, so that an answer's bits do not depend on its batch."""
    for seed, name in enumerate(("first", "second")):
        save_demo(tmp_path / name, seed)
    other = make_catalog(N_ITEMS + 5, seed=2)
    (tmp_path / "catalogs").mkdir()
    other.save(tmp_path / "catalogs" / "other")
    settings: dict[str, Any] = {
        "device": device, "batch_sizes": (8,), "beam_widths": (32,), "default_beam_width": 32, "max_items": 120,
        "catalog_root": str(tmp_path / "catalogs"), "model_root": str(tmp_path),
    }  # fmt: skip
    config = ServeConfig.of(**settings)
    requests = [Request([f"i{n}", f"i{2 * n}"], k=20, beam_width=20 + n, exclude=["i7"]) for n in range(12)]
    offline: dict[tuple[str, str], list[Any]] = {}
    for name in ("first", "second"):
        engine = load_engine(tmp_path / name, None, config)
        offline[name, engine.catalog.version] = engine.recommend(requests)
        engine.replace_catalog(other)
        offline[name, other.version] = engine.recommend(requests)
    answers: list[tuple[int, dict[str, Any]]] = []

    async def test() -> None:
        engine = load_engine(tmp_path / "first", None, config)
        async with served(engine, **settings) as (service, client), administered(service) as admin:
            ending = asyncio.Event()

            async def ask(number: int) -> None:
                while not ending.is_set():
                    number = (number + 5) % 12
                    request = requests[number]
                    body = {"history": request.history, "k": request.k, "beam_width": request.beam_width}
                    response = await client.post("/v1/recommend", json={**body, "exclude": request.exclude})
                    assert response.status_code == 200, response.text
                    answers.append((number, response.json()))

            asking = [asyncio.create_task(ask(number)) for number in range(12)]
            await until(lambda: answers, "the first answers")
            for path, body in (
                ("/v1/catalog", {"version": "other"}),
                ("/v1/model", {"version": "second"}),
                ("/v1/catalog/rollback", {}),
            ):
                response = await admin.post(path, json=body)
                assert response.status_code == 200, response.text
                now = {name: response.json()[name] for name in ("model", "catalog")}
                await until(lambda: answers[-1][1].items() >= now.items(), "it answers")  # noqa: B023
            ending.set()
            await asyncio.gather(*asking)
            assert service.not_live is None

    run(test())
    for number, answer in answers:
        expected = offline[answer["model"], answer["catalog"]][number]
        assert answer["items"] == expected.items
        assert torch.tensor(answer["scores"]).equal(torch.tensor(expected.scores))
    seen = {(answer["model"], answer["catalog"]) for _, answer in answers}
    assert len(seen) == 4
    print(f"{device}: {len(answers)} answers over {len(seen)} versions, each bit-equal to its own version's")
