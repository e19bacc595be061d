"""Rows of `benchmarks.serve_goodput` and `benchmarks.serve_processes`: a server of several processes."""

from dataclasses import dataclass

from benchmarks.records import Row
from benchmarks.rows.serving import Times


@dataclass(frozen=True)
class GoodputRow(Row):
    """The highest rate at which 99 % of the requests were answered within a bound, beside the engine's own rate."""

    part: str  # k10, k512 or schedule
    checkpoint: str  # the folder's name, or the preset of random weights
    device: str
    k: int
    beam_width: int | tuple[int, ...]  # for all levels, or by level
    history: int  # items
    n_items: int  # of the catalog
    over: str  # http or grpc
    rows_per_call: int
    http_workers: int
    bound_ms: float
    offline_per_s: float  # requests/s of full batches, of the device alone
    offline_batch: int  # requests of such a batch
    asked_per_s: float
    share: float  # goodput_per_s / offline_per_s
    within: bool  # False: not even the lowest rate that was tried was within the bound
    refused: str | None  # why there are no figures: the load tool was the bottleneck
    goodput_per_s: float  # good answers a second
    requests: int
    errors: dict[str, int]  # by status
    e2el_ms: Times  # from when a request was due to its last byte
    queue_ms: Times  # over gRPC none of the three is known
    device_ms: Times
    outside_device_ms: Times
    server_cores: float  # processor seconds of all of the server's processes a second
    processes: int  # of the load tool
    tool_busy: float  # of a core, its busiest process
    cores: int
    load: float  # of the machine in the last minute


@dataclass(frozen=True)
class FloodRow(Row):
    """A model on a CPU that is asked for many times what it can do; server and clients have cores of their own."""

    times: float  # asked_per_s / capacity_per_s, as was wanted
    http_workers: int
    capacity_per_s: float  # of the same server just before
    asked_per_s: float
    served_per_s: float
    share: float  # served_per_s / capacity_per_s
    e2el_ms: Times  # of what was served
    statuses: dict[str, int]  # answers by HTTP status, how the connection ended, or `not sent`: none was free
    refusal_us: float | None  # processor time of the workers over refusals; None: no workers, or no refusal
    server_cores: int  # that it may run on; the clients have the others
    client_cores: float  # processor seconds of all clients a second
    clients: int  # processes
    seconds: float
    cores: int
    load: float  # of the machine in the last minute


@dataclass(frozen=True)
class ProcessesRow(Row):
    """Memory of all processes of a server: proportional set sizes (each page's share), 10^6 bytes."""

    http_workers: int
    n_items: int  # of the catalog
    total_mb: float
    engine_mb: float  # of the process that was started
    worker_mb: float | None  # of a worker, on average; None: there is none
    worker_own_mb: float | None  # of which no other process has
    catalog_mb: float | None  # of the files that workers map; None: there are no workers
    requests: int  # that were answered before, over many connections


@dataclass(frozen=True)
class WorkersRateRow(Row):
    """What one checkpoint's server answers at most, by how many workers have HTTP: medians of rounds by turns."""

    checkpoint: str  # the folder's name
    http_workers: int
    per_s: float  # the median
    rounds: tuple[float, ...]
    over_none: float  # the median over the rounds of this one over that without workers just before
    at_once: int  # requests on their way
    seconds: float  # of a round
    beam_width: int
    cores: int
    load: float  # of the machine in the last minute
