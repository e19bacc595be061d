"""The load tool asks a server at one rate after the other, and makes a row of each."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from octorec.bench.capacity import capacity, shares_of
from octorec.bench.client import Client, address, connections
from octorec.bench.config import BenchConfig
from octorec.bench.output import append, claimed_outputs
from octorec.bench.processes import askers
from octorec.bench.requests import bodies
from octorec.bench.result import Loaded, row_of
from octorec.errors import InputError
from octorec.progress import Progress


async def bench(url: str, config: BenchConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row for each rate, as `summary` makes them; append it to `config.out` as each is done."""
    with claimed_outputs(config):
        return await _rows(url, config, progress)


async def _rows(url: str, config: BenchConfig, progress: Progress) -> list[dict[str, Any]]:
    rows = []
    asked = bodies(config)
    async with connections(config) as session, askers(url, config) as several:
        about = await _about(session, url)

        async def load(how: BenchConfig, rate: float) -> Loaded:
            if several is not None:
                return await several.load(how, rate, progress)
            client = Client(session, address(url), asked, how)
            return await client.loaded(rate, time.perf_counter() + how.warm_up_s, progress)

        rates: Sequence[float]
        if config.request_rate is None:
            most = await capacity(load, url, config)
            rates, about = shares_of(most), {**about, "capacity_per_s": round(most, 2)}
        else:
            rates = config.request_rate
        for rate in rates:
            rows.append({"url": url, **about, **row_of(await load(config, rate), rate, config)})
            if config.out is not None:
                append(Path(config.out), rows[-1])
    return rows


async def _about(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """Return the versions that answer; raise an InputError where no server is, or none that is ready."""
    try:
        async with session.get(f"{url.rstrip('/')}/health") as response:
            about = orjson.loads(await response.read())
            if response.status != 200:
                raise InputError("url", url, f"is not ready: {about['error']['message']}")
            return {"model": about["model"], "catalog": about["catalog"]}
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError("url", url, f"has no OctoRec server ({type(error).__name__}: {error})") from error
