"""A search for what a server can do asks whenever a place is free, with more and more places."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

from octorec.bench.config import BenchConfig
from octorec.bench.result import ANSWERED, Loaded, bottleneck
from octorec.errors import InputError

FIRST, MOST = 8, 1024  # places
GAIN = 1.05  # what twice the places must bring for more to be tried
SHARES = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1)  # of what the server can do, that it is asked for

Load = Callable[[BenchConfig, float], Awaitable[Loaded]]


async def capacity(load: Load, url: str, config: BenchConfig) -> float:
    """Return how many requests a second a server answers at most, however late.

    Raises InputError where it answers none, and where the load tool itself is the bottleneck.
    """
    places, best = FIRST, 0.0
    while places <= MOST:
        found = await _answered(load, config, places, config.search_s)
        if found < GAIN * best:
            break
        places, best = 2 * places, found
    if best == 0:
        raise InputError(
            "url", url, f"answered nothing in {config.search_s:g} s: is it ready, and is what is asked right?"
        )
    return await _answered(load, config, places // 2, 2 * config.search_s)


def shares_of(most: float) -> list[float]:
    """Return the rates to ask for, of three digits."""
    return [float(f"{share * most:.3g}") for share in SHARES]


async def _answered(load: Load, config: BenchConfig, places: int, seconds: float) -> float:
    """Return how many answers a second come while `places` requests are always on their way."""
    how = replace(config, request_rate=(math.inf,), duration_s=seconds, max_concurrency=places)
    loaded = await load(how, math.inf)
    if why := bottleneck(loaded, how):
        raise InputError("processes", how.askers, why)
    end = loaded.start + seconds
    return sum(sample.outcome == ANSWERED and loaded.start <= sample.done < end for sample in loaded.samples) / seconds
