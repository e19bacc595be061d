"""How a server is put under load: one dataclass is the flags of `octorec bench serve` and their documentation."""

import math
from dataclasses import dataclass

from octorec.engine.limits import MOST_ROWS
from octorec.engine.model_folder import require_catalog
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.reading import require_file
from octorec.settings import LARGEST, LONGEST_S, check_range, check_types, require, setting


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
        check_types(self, infinite=("request_rate",))
        check_range(self, 0, LONGEST_S, "duration_s", "timeout_s", above=True)
        check_range(self, 0, LONGEST_S, "warm_up_s")
        check_range(self, 1, 100_000, "history_length", "max_concurrency")
        check_range(self, 1, MOST_ROWS, "k", "beam_width")
        check_range(self, 0, LARGEST, "seed")
        require(bool(self.request_rate), "request_rate", self, "must be numbers, with commas")
        check_range(self, 0, 1_000_000, "request_rate", above=True)
        if math.inf in self.request_rate and self.max_concurrency is None:
            raise InputError("max_concurrency", None, "is required where request_rate is inf")
        if (self.requests is None) == (self.catalog is None):
            raise InputError("requests", self.requests, "give either --requests or --catalog")
        _ = self.bound_ms

    def look_at_paths(self) -> None:
        """Refuse a file or folder that is not there."""
        if self.catalog is not None:
            require_catalog(self.catalog)
        for name in ("requests", "token_file"):
            if (path := getattr(self, name)) is not None:
                require_file(path, name)

    @property
    def bound_ms(self) -> float:
        """The latency within which an answer is good."""
        name, _, value = self.goodput.partition(":")
        try:
            bound = float(value)
        except ValueError:
            bound = 0.0
        if name != "e2el" or not 0 < bound < math.inf:
            raise InputError("goodput", self.goodput, "must be e2el:MILLISECONDS")
        return bound
