"""A server is put under load in this way: one dataclass is the flags of `octorec bench serve` and their
documentation.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Interval

from octorec.engine.limits import MOST_ROWS
from octorec.engine.model_folder import require_catalog
from octorec.engine.request import Request
from octorec.engine.widths import read_for
from octorec.errors import InputError
from octorec.reading import require_file
from octorec.settings import LARGEST, SEED, Seconds, Wait, check_types, require, setting
from octorec.threads import cores

FASTEST = 1_000_000  # requests a second
Rows = Annotated[int, Interval(ge=1, le=MOST_ROWS)]
Processes = Annotated[int, Interval(ge=1, le=256)]
Calls = Annotated[int, Interval(ge=1, le=1024)]
Several = Annotated[int, Interval(ge=1, le=100_000)]


@dataclass(frozen=True)
class BenchConfig:
    """A BenchConfig holds every setting of the load tool."""

    request_rate: tuple[Annotated[float, Interval(gt=0, le=math.inf)], ...] | None = setting(
        None,
        "Requests a second, with commas for one rate after the other; inf: whenever a place is free. If not given, "
        "what the server can do is found first, and asked for shares of that.",
    )
    duration_s: Seconds = setting(30.0, "Seconds that are measured at each rate.")
    warm_up_s: Wait = setting(2.0, "Seconds before them that are not.")
    max_concurrency: Several | None = setting(
        None, "Requests on their way at most, any number if not given; the wait for a place is latency."
    )
    rows_per_call: Calls = setting(1, "Histories a call, over gRPC; each is a request, and their call takes one place.")
    processes: Processes | None = setting(None, "Processes that ask; one for every two cores if not given, at most 16.")
    search_s: Seconds = setting(5.0, "Seconds of each look at what the server can do, where no rate is given.")
    goodput: str = setting("e2el:150", "Milliseconds within which an answer is good, from due to received.")
    requests: str | None = setting(None, "JSON lines, each the body of a request; taken in turn.")
    catalog: str | None = setting(None, "Catalog folder from whose items histories are drawn, instead of --requests.")
    history_length: Several = setting(100, "Items of a drawn history.")
    k: Rows = setting(Request.k, "Items to ask for, with a drawn history.")
    beam_width: Any = setting(  # a `BeamWidth`, or None
        None, "Beams to ask for: a number, one a level such as 128-256-512, or auto; the server's default if not given."
    )
    seed: Annotated[int, Interval(ge=0, le=LARGEST)] = setting(SEED, "Of arrivals and histories.")
    timeout_s: Seconds = setting(60.0, "A request without an answer by then is an error.")
    token_file: str | None = setting(None, "File whose first line is the bearer token.")
    out: str | None = setting(None, "JSON lines to append a row a rate to.")
    plot: str | None = setting(None, "SVG of latency and goodput against rate to write.")

    def __post_init__(self) -> None:
        check_types(self)
        if self.beam_width is not None:
            object.__setattr__(self, "beam_width", read_for(self.k, "beam_width", self.beam_width))
        require(self.request_rate != (), "request_rate", self, "must be numbers, with commas")
        rates = self.request_rate or ()
        slow = all(rate <= FASTEST or rate == math.inf for rate in rates)
        require(slow, "request_rate", self, f"must be above 0, at most {FASTEST}, or inf")
        if math.inf in rates and self.max_concurrency is None:
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
    def askers(self) -> int:
        """Return how many processes ask; with few places, no more than there are."""
        count = self.processes or min(16, max(1, cores() // 2))
        return count if self.max_concurrency is None else min(count, self.max_concurrency)

    @property
    def bound_ms(self) -> float:
        """Return the latency within which an answer is good."""
        name, _, value = self.goodput.partition(":")
        try:
            bound = float(value)
        except ValueError:
            bound = 0.0
        if name != "e2el" or not 0 < bound < math.inf:
            raise InputError("goodput", self.goodput, "must be e2el:MILLISECONDS")
        return bound
