"""An experiment on tiny engines, run by a server in this process."""

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine
from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.experiment import Experiment, parse_experiment
from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.experiment import Running
from octorec.serve.pending import Serving
from octorec.serve.service import Service
from octorec.serve.variants import Answering, Variants
from tests.serve import served
from tests.serve.served import make_catalog

FILE: dict[str, Any] = {
    "name": "fp8",
    "salt": "a salt",
    "unit": "user_id",
    "variants": {"control": {"share": "1/2"}, "fp8": {"share": "1/2"}},
    "metrics": {"clicks": {"kind": "mean", "event": "click", "window": "1d", "role": "guardrail", "margin": 0.05}},
    "plan": {"units": 1000},
}


def make_engine(catalog: Catalog | None = None, gate: bool = False) -> Engine:
    """One that is quickly made and warm."""
    return served.make_engine(catalog, gate, batch_sizes=(1, 8), beam_widths=(16,))


def file_with(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(FILE), **changes}


@dataclass(frozen=True)
class Loaded(Variants):
    """Variants whose engines are there: those of `engines`, else the control's."""

    engines: Mapping[str, Engine] = field(default_factory=dict)

    def load(self, control: Serving) -> dict[str, Answering]:
        servings = {id(engine): Serving(engine, name) for name, engine in self.engines.items()}
        return {
            name: Answering(
                servings[id(self.engines[name])] if name in self.engines else control,
                f"{name if name in self.engines else 'first'}-0",
                variant.beam_width,
            )
            for name, variant in self.experiment.variants.items()
        }


class Rows:
    """In the place of a log."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.lost = 0

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def close(self, timeout_s: float) -> None:
        self.rows.append({"closed": timeout_s})


@dataclass
class Tried:
    """A server with an experiment. rows, outcomes: that it wrote."""

    service: Service
    client: httpx.AsyncClient
    experiment: Experiment
    rows: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]

    @property
    def running(self) -> Running:
        assert self.service.running is not None
        return self.service.running

    def units(self, variant: str, group: str = "experiment", n: int = 1) -> list[str]:
        """The first `n` of u0, u1, ... that are assigned so."""
        found: list[str] = []
        number = 0
        while len(found) < n:
            unit = f"u{number}"
            assigned = assign(self.experiment, unit, self.service.config.ab.hold_out_salt or "")
            if (assigned.variant, assigned.group) == (variant, group):
                found.append(unit)
            number += 1
        return found

    async def ask(self, unit: Any, history: list[Any] | None = None, **more: Any) -> httpx.Response:
        user = {**more.pop("user", {}), "user_id": unit}
        body = {"history": ["i1"] if history is None else history, "k": 3, "user": user, **more}
        return await self.client.post("/v1/recommend", json=body)

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


def other_items(n: int = 90, start: int = 0) -> Catalog:
    """A catalog of the codebook that `make_engine` has, with other codes, titles and version."""
    return make_catalog(n, seed=7, ids=[f"i{number + start}" for number in range(n)])


@asynccontextmanager
async def tried(
    root: Path,
    control: Engine | None = None,
    engines: Mapping[str, Engine] | None = None,
    file: Mapping[str, Any] = FILE,
    **config: Any,
) -> AsyncIterator[Tried]:
    """A ready server that runs the experiment of `file` below `root`."""
    path = root / "experiment.yaml"
    path.write_text(yaml.safe_dump(dict(file), sort_keys=False))
    (root / "experiments").mkdir(exist_ok=True)
    settings = ServeConfig.of(experiment=str(path), experiment_root=str(root / "experiments"), **config)
    experiment = parse_experiment(dict(file))
    engine = make_engine() if control is None else control
    variants = Loaded(experiment, settings, {}, {} if engines is None else engines)
    service = Service(lambda: engine, "first", settings, variants)
    app = create_app(service)
    async with app.router.lifespan_context(app):
        await service.loaded
        assert service.error is None, service.error
        assert service.running is not None
        rows, outcomes = Rows(), Rows()
        for name, log in (("exposures", rows), ("outcomes", outcomes)):
            getattr(service.running, name).close(1.0)
            setattr(service.running, name, log)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            yield Tried(service, client, experiment, rows.rows, outcomes.rows)
