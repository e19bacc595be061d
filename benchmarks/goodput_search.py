"""The highest rate at which 99 % of the requests are in time, among shares of what the engine does offline.

Halving finds it by short looks. It is then asked for again, longer, so that it is no lucky one; where it does not
hold, the next lower rate is.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from octorec.bench.config import BenchConfig
from octorec.bench.result import Loaded, row_of

SHARES = tuple(share / 40 for share in range(4, 45))  # 0.1 to 1.1 of the offline rate
LONGER = 2  # times a look's length
AGAIN = 3  # lower rates that are tried where the best one does not hold


@dataclass(frozen=True)
class Look:
    """A Look is what came of one rate, and the processor time that the server took a second."""

    loaded: Loaded
    server_cores: float


@dataclass(frozen=True)
class Best:
    """A Best is the load tool's row of the rate that held, and the processor time that the server took a second."""

    row: dict[str, Any]
    rate: float
    server_cores: float


Ask = Callable[[BenchConfig, float], Awaitable[Look]]


async def search(
    ask: Ask, offline_per_s: float, config: BenchConfig, bounds_ms: Sequence[float]
) -> list[tuple[float, Best]]:
    """Return the best of each bound; looks are `config.duration_s` long, and shared by the bounds."""
    looked: dict[float, Look] = {}
    found = []
    for bound in bounds_ms:
        how = replace(config, goodput=f"e2el:{bound:g}")
        low, high = 0, len(SHARES)
        while low < high:
            at = (low + high) // 2
            rate = SHARES[at] * offline_per_s
            if at not in looked:
                looked[at] = await ask(how, rate)
            if row_of(looked[at].loaded, rate, how).get("within", False):
                low = at + 1
            else:
                high = at
        found.append((bound, await _held(ask, offline_per_s, how, low - 1)))
    return found


async def _held(ask: Ask, offline_per_s: float, how: BenchConfig, at: int) -> Best:
    """Ask longer for a rate that was in time, or a lower one."""
    how = replace(how, duration_s=LONGER * how.duration_s)
    for place in range(max(at, 0), max(at - AGAIN, 0) - 1, -1):
        rate = SHARES[place] * offline_per_s
        look = await ask(how, rate)
        best = Best(row_of(look.loaded, rate, how), rate, look.server_cores)
        if best.row.get("within", False):
            break
    return best
