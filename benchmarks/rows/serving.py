"""Rows of the server and of a process's start: `benchmarks.serve`, `serve_overhead`, `serve_soak` and `start`."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator

from benchmarks.records import Row


@dataclass(frozen=True)
class Quantiles:
    """Mean, percentiles and maximum of times in milliseconds."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


Times = Annotated[Quantiles | None, BeforeValidator(lambda raw: raw or None)]  # None, or {} in JSON: nothing was timed


@dataclass(frozen=True)
class ServeRow(Row):
    """A server on one GPU asked over HTTP at one rate. Percentiles of latency are of answered requests."""

    preset: str
    precision: str
    beam: int  # beams a request
    context: int  # items of history a request
    batch_sizes: str  # of the buckets, with commas
    max_queue_delay_ms: float
    n_items: int  # of the catalog
    first_ms: float  # the first answer after ready
    calm_p99_ms: float  # at a few requests a second
    calm_outside_device_ms: float  # median of latency less the batch's time, then
    offline_per_s: float  # requests/s of full batches on the device
    offline_host_per_s: float  # the same from the host to the host, by one thread
    url: str
    model: str
    catalog: str  # its fingerprint, shortened
    request_rate: float | None  # asked, requests/s; None: as fast as places became free
    max_concurrency: int | None  # requests on their way at once; None: no limit
    bound_ms: float  # within which an answer is good
    seconds: float
    requests: int
    answered: int
    errors: dict[str, int]  # by HTTP status or kind of failure
    requests_per_s: float
    goodput_per_s: float  # good answers a second
    within: bool  # whether 99 % of all requests were good
    e2el_ms: Times  # from when a request was due to its last byte
    queue_ms: Times  # waiting for a batch
    device_ms: Times  # the batch
    encode_ms: Times  # writing the answer
    outside_device_ms: Times  # e2el_ms less device_ms
    late_ms: Times  # by how much the load tool itself sent late
    answer_kb: float | None  # mean size, 10^3 bytes; None: no answer
    k: int  # items asked for
    share: float  # request_rate / offline_per_s
    cores: float  # processor seconds of the server a second
    captured_after: int  # CUDA graphs captured after ready
    compiled_after: int  # Triton kernels compiled after ready
    processes: int = 1  # of the load tool
    tool_busy: float | None = None  # of a core, its busiest process; None: not looked at
    nonfinite: int = 0  # requests refused for NaN or infinite scores; 0 also before they were counted


@dataclass(frozen=True)
class OverheadRow(Row):
    """What the server adds to the engine while nobody else asks."""

    checkpoint: str  # the folder's name
    device: str
    beam_width: int | tuple[int, ...]  # for all levels, or by level
    k: int
    pairs: int  # requests, each through HTTP and in process
    interval_ms: tuple[float, float]  # 95 %, of the median of added_ms
    server_ms: Quantiles  # through HTTP
    engine_ms: Quantiles  # in process
    added_ms: Quantiles  # the first less the second
    device_ms: Quantiles  # the batch, through HTTP
    search_ms: Quantiles  # the batch, in process
    outside_ms: Quantiles  # what is added outside of both batches
    system: str  # operating system
    cores: int
    threads: int  # that torch computes with
    python: str
    versions: dict[str, str]  # by package
    http_workers: int = 0  # of the server; 0 also before there were any


@dataclass(frozen=True)
class RayOverheadRow(Row):
    """What Ray Serve costs on top of one replica while nobody else asks."""

    checkpoint: str  # the folder's name
    device: str
    beam_width: int | tuple[int, ...]  # for all levels, or by level
    k: int
    entrance: str  # proxy: Ray's own; haproxy: Ray's with HAProxy
    pairs: int  # requests, each past Ray and through it
    interval_ms: tuple[float, float]  # 95 %, of the median of added_ms
    bare_ms: Quantiles  # of `octorec serve`
    ray_ms: Quantiles  # through Ray's entrance
    added_ms: Quantiles  # the second less the first, each without its batch on the device
    cores: int
    ray: str  # version
    empty_ms: Times = None  # of a replica that does nothing, through the same entrance; None: it was not asked
    load: float | None = None  # of the machine in the last minute; None: not looked at


@dataclass(frozen=True)
class SoakRow(Row):
    """Ten seconds of a server under load for half an hour."""

    checkpoint: str  # the folder's name
    device: str
    at_s: float  # since the load began
    rss_mb: float  # resident memory of all processes, 10^6 bytes
    rate: float  # asked, requests/s
    answered: int  # since the row before
    errors: dict[str, int]  # since the row before, by HTTP status or kind of failure
    e2el_ms: Times  # since the row before


@dataclass(frozen=True)
class OfflineRow(Row):
    """One run of `octorec recommend-all` over a table of users, beside the rate of the device alone."""

    device: str  # cpu or cuda
    model: str  # its size, in words
    users: int
    history: float  # items, mean
    n_items: int  # of the catalog
    k: int
    beam_width: int | tuple[int, ...] | str  # for all levels, or by level, or auto
    batch_size: int
    block_users: int
    kills: int  # times that the run was killed (-9) and gone on with
    same_rows: bool | None  # whether the files then held the rows of a run that was not killed; None: not killed
    seconds: float  # from the first block to the last file, without loading
    users_per_s: float
    device_per_s: float  # users_per_s / share
    share: float  # of the rate of full batches on a GPU; on a CPU of the time, in which it searched (fewer users)
    anonymous_mb: float | None  # most anonymous memory of the process, 10^6 bytes; None: it did other things too
    load: float  # of the machine in the last minute: what else ran beside it


@dataclass(frozen=True)
class Judged:
    """What one load tool found of a server. Latencies in milliseconds; None: the scenario has none."""

    requests: int
    per_s: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class LoadToolRow(Row):
    """`octorec bench serve` and MLPerf's LoadGen on one server, by turns: medians of the rounds."""

    scenario: str  # `server` (Poisson arrivals) or `offline` (a request whenever a place is free)
    asked_per_s: float | None  # None: offline
    places: int | None  # requests on their way at most; None: server
    batch_s: float  # of the server's device, whose batches all take as long
    rounds: int
    seconds: float  # of each round
    ours: Judged
    loadgen: Judged
    worst: float  # the largest difference of two figures that both have, over LoadGen's
    agree: bool  # whether it is at most 5 %
    tool_busy: float  # of a core, our busiest process
    load: float  # of the machine in the last minute: what else ran beside it


@dataclass(frozen=True)
class Bucket:
    """What capturing one bucket cost."""

    batch_size: int
    beam_width: int | tuple[int, ...]  # for all levels, or by level
    seconds: float
    megabytes: float  # of GPU memory


@dataclass(frozen=True)
class StartRow(Row):
    """How long a process takes from its start to its first answer."""

    preset: str
    precision: str
    seconds: float  # all phases
    phases: dict[str, float]  # seconds, in their order
    buckets: tuple[Bucket, ...]
    kernels_compiled: int  # new entries of Triton's cache on disk
    memory_gb: float  # most GPU memory that was reserved, 10^9 bytes
    n_items: int  # of the catalog


@dataclass(frozen=True)
class OverloadRow(Row):
    """What is left of a server in one overload, on a device whose batches all take as long."""

    side: str  # `before` or `after` the server's limits
    attack: str  # in words
    figure: str  # what `value` is
    value: float
    capacity_per_s: float  # of the server in the same process, asked by as many clients as a batch holds and more
    asked_per_s: float
    client_cores: float  # processor seconds of the load tool a second
    statuses: dict[str, int]  # answers by HTTP status, or `reset`
    cores: int
    load: float  # of the machine in the last minute: what else ran beside it
    checkpoint: str = ""  # whose batches take what they take; empty: a device whose batches all take as long


@dataclass(frozen=True)
class LimitsCostRow(Row):
    """One request after the other, to a server with its limits or without, by turns."""

    number: int  # of the round
    side: str  # `with` or `without` the limits
    p50_ms: float  # of a request
    processor_ms: float  # of the server, a request
    requests: int
    load: float  # of the machine in the last minute: what else ran beside it
