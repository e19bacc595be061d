"""How a server is put under load: one dataclass is the flags of `octorec bench serve` and their documentation."""

from dataclasses import dataclass
from typing import get_type_hints

from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.serve.config import require, setting, typed

MOST = 100_000  # of anything that a request counts


@dataclass(frozen=True)
class BenchConfig:
    """Every setting of the load tool."""

    request_rate: tuple[float, ...] = setting(
        (10.0,), "Requests a second, with commas for one rate after the other; inf: whenever a place is free."
    )
    duration_s: float = setting(30.0, "Seconds that are measured at each rate.")
    warm_up_s: float = setting(2.0, "Seconds before them that are not.")
    max_concurrency: int | None = setting(None, "Requests on their way at most; the wait for a place is latency.")
    goodput: str = setting("e2el:150", "Milliseconds within which an answer is good, from due to received.")
    requests: str | None = setting(None, "JSON lines, each the body of a request; taken in turn.")
    catalog: str | None = setting(None, "Catalog folder from whose items histories are drawn, instead of --requests.")
    history_length: int = setting(100, "Items of a drawn history.")
    k: int = setting(Request.k, "Items to ask for, with a drawn history.")
    beam_width: int | None = setting(None, "Beams to ask for, with a drawn history; the server's default if not given.")
    seed: int = setting(0, "Of arrivals and histories.")
    timeout_s: float = setting(60.0, "A request without an answer by then is an error.")
    token_file: str | None = setting(None, "File whose first line is the bearer token.")
    out: str | None = setting(None, "JSON lines to append a row a rate to.")
    plot: str | None = setting(None, "SVG of latency and goodput against rate to write.")

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            object.__setattr__(self, name, typed(name, kind, getattr(self, name)))
        for name in ("duration_s", "timeout_s"):
            require(getattr(self, name) > 0, name, self, "must be above 0")
        for name in ("history_length", "k", "beam_width", "max_concurrency"):
            value = getattr(self, name)
            require(value is None or 0 < value <= MOST, name, self, f"must be an integer from 1 to {MOST}")
        require(0 <= self.seed < 2**63, "seed", self, "must be an integer from 0 to 2^63 - 1")
        require(self.warm_up_s >= 0, "warm_up_s", self, "must be 0 or more")
        rates = self.request_rate
        require(bool(rates) and all(rate > 0 for rate in rates), "request_rate", self, "must be above 0")
        if float("inf") in rates and self.max_concurrency is None:
            raise InputError("max_concurrency", None, "is required where request_rate is inf")
        if (self.requests is None) == (self.catalog is None):
            raise InputError("requests", self.requests, "give either --requests or --catalog")
        _ = self.bound_ms

    @property
    def bound_ms(self) -> float:
        """The latency within which an answer is good."""
        name, _, value = self.goodput.partition(":")
        try:
            bound = float(value)
        except ValueError:
            bound = 0.0
        if name != "e2el" or not bound > 0:
            raise InputError("goodput", self.goodput, "must be e2el:MILLISECONDS")
        return bound
