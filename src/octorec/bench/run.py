"""The load tool asks a server at one rate after the other, and makes a row of each."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from octorec.bench.capacity import capacity, shares_of
from octorec.bench.client import Client
from octorec.bench.config import BenchConfig
from octorec.bench.output import append, claimed_outputs
from octorec.bench.processes import askers
from octorec.bench.requests import bodies
from octorec.bench.result import Loaded, row_of
from octorec.bench.ways import way_of
from octorec.progress import Progress


async def bench(url: str, config: BenchConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row for each rate, as `summary` makes them; append it to `config.out` as each is done."""
    with claimed_outputs(config):
        return await _rows(url, config, progress)


async def _rows(url: str, config: BenchConfig, progress: Progress) -> list[dict[str, Any]]:
    rows = []
    to = way_of(url)
    asked = to.asked_of(url, bodies(config), config)
    said = await to.about(url, asked, config)
    async with askers(url, config) as several, to.over(url, config) as way:

        async def load(how: BenchConfig, rate: float) -> Loaded:
            if several is not None:
                return await several.load(how, rate, progress)
            return await Client(way, asked, how).loaded(rate, time.perf_counter() + how.warm_up_s, progress)

        rates: Sequence[float]
        if config.request_rate is None:
            most = await capacity(load, url, config)
            rates, said = shares_of(most), {**said, "capacity_per_s": round(most, 2)}
        else:
            rates = config.request_rate
        for rate in rates:
            rows.append({"url": url, **said, **row_of(await load(config, rate), rate, config)})
            if config.out is not None:
                append(Path(config.out), rows[-1])
    return rows
