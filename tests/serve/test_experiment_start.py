"""A server with an experiment is ready when every variant is, and says which of them cannot be."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octorec.engine.engine import Engine
from octorec.evaluate.online.experiment import parse_experiment
from octorec.serve.config import ServeConfig
from octorec.serve.service import Service
from tests.serve.served import Gate, make_catalog, run
from tests.serve.tried import FILE, Loaded, Rows, file_with, make_engine, other_items, tried


def service_of(root: Path, engines: dict[str, Engine], file: dict[str, Any] = FILE) -> Service:
    (root / "ab.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    (root / "experiments").mkdir(exist_ok=True)
    config = ServeConfig.of(experiment=str(root / "ab.yaml"), experiment_root=str(root / "experiments"))
    return Service(make_engine, "first", config, Loaded(parse_experiment(file), config, {}, engines))


async def load(service: Service) -> None:
    await service.start()
    await service.loaded
    await service.stop()


def test_every_variants_buckets_are_warm_before_ready(tmp_path: Path) -> None:
    treatment = make_engine(other_items(), gate=True)

    async def test() -> None:
        async with tried(tmp_path, engines={"fp8": treatment}) as server:
            assert isinstance(treatment.model, Gate)
            assert sorted(treatment.model.batches) == [1, 8]
            assert server.rows == []

    run(test())


def test_a_variant_that_cannot_answer_is_named_and_nothing_has_begun(tmp_path: Path) -> None:
    broken = make_engine(make_catalog())
    with torch.no_grad():
        for parameter in broken.model.parameters():  # type: ignore[attr-defined]
            parameter.fill_(float("nan"))
    service = service_of(tmp_path, {"fp8": broken})
    run(load(service))
    assert service.error is not None
    assert "variants.fp8.checkpoint: " in str(service.error)
    assert "NaN" in str(service.error)
    assert list((tmp_path / "experiments").iterdir()) == []


def test_a_second_experiment_beside_one_that_runs_is_refused(tmp_path: Path) -> None:
    run(load(service_of(tmp_path, {})))
    other = service_of(tmp_path, {}, file_with(name="other", salt="other"))
    run(load(other))
    assert "cannot run beside fp8" in str(other.error)
    again = service_of(tmp_path, {})
    run(load(again))
    assert again.error is None


def test_lost_rows_are_counted_in_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Callable[[int], None]] = []

    def log(folder: Path, schema: Any, on_lost: Callable[[int], None]) -> Rows:
        lost.append(on_lost)
        return Rows()

    monkeypatch.setattr("octorec.serve.experiment.RowLog", log)

    async def test() -> None:
        async with tried(tmp_path) as server:
            for number, on_lost in enumerate(lost):
                await asyncio.to_thread(on_lost, 3 + number)
            assert server.metric("octorec_exposures_lost_total") == 3
            assert server.metric("octorec_outcomes_lost_total") == 4

    run(test())
