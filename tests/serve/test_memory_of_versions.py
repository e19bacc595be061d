"""A server logs what its engine takes in memory, and refuses a model that has no room beside it."""

import logging
from pathlib import Path

import pytest

from octorec.serve.config import ServeConfig
from octorec.serve.versions import load_engine
from tests.serve.served import administered, make_catalog, make_engine, run, save_checkpoint, served

SMALL = {"batch_sizes": (1,), "beam_widths": (16,), "default_beam_width": 16}


def test_loading_logs_what_the_engine_takes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalog = make_catalog()
    save_checkpoint(tmp_path / "first", catalog)
    with caplog.at_level(logging.INFO):
        load_engine(tmp_path / "first", catalog, ServeConfig.of(**SMALL))
    (line,) = (record.getMessage() for record in caplog.records if record.getMessage().startswith("memory: "))
    assert line.startswith("memory: weights ")
    assert line.endswith(" free")


def test_a_model_that_does_not_fit_beside_the_first_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine()
    save_checkpoint(tmp_path / "second", engine.catalog, seed=1)
    monkeypatch.setattr("octorec.engine.load.free_bytes", lambda device: 5000)

    async def test() -> None:
        async with served(engine, model_root=str(tmp_path)) as (service, client), administered(service) as admin:
            response = await admin.post("/v1/model", json={"version": "second"})
            assert response.status_code == 422
            message = response.json()["error"]["message"]
            assert "memory" in message
            assert "only 0.0 MB are free, and most is for weights" in message
            answer = await client.post("/v1/recommend", json={"history": ["i1"], "k": 3})
            assert answer.json()["model"] == "first"

    run(test())
