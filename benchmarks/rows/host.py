"""Rows of what the host does: `benchmarks.host`, `judging`, `encodings` and `grpc_calls`."""

from dataclasses import dataclass

from benchmarks.records import Row


@dataclass(frozen=True)
class HostRow(Row):
    """What one thread of Python takes for one batch of requests, without the device's search."""

    batch: int  # requests
    context: int  # items of history a request
    beam_width: int
    k: int  # items a request
    n_items: int  # of the catalog
    parse_ms: float  # CPU time of a batch, the best of several: item ids become codes
    stage_ms: float  # they are written where the device takes them from
    rank_ms: float  # beams become items
    answer_ms: float  # items become answers
    ms: float  # the sum
    runs: int
    cpu_model: str


@dataclass(frozen=True)
class JudgingRow(Row):
    """One evaluation of two checkpoints on the same targets, as `octorec evaluate` does it."""

    device: str  # cpu or cuda
    data: str  # the file's name
    baseline: str  # the checkpoint's name
    candidate: str
    targets: int
    items: int  # of the catalog
    k: int  # items a list
    beam_width: int
    seconds: float  # from reading the data to the verdict, kernels compiled on the way
    parts: dict[str, float]  # seconds of each part
    verdict: str
    cpu_model: str


@dataclass(frozen=True)
class EncodingRow(Row):
    """What one answer, or one request, costs in one encoding, without the network."""

    what: str  # `answer`, or `request`: a history, checked as it is read
    encoding: str  # and of gRPC, which outputs
    bytes: int  # of the body or message
    write_us: float  # CPU time, the best of several runs: by the server for an answer, by a client for a request
    read_us: float
    k: int  # items of the answer
    context: int  # items of the request's history
    n_items: int  # of the catalog
    runs: int
    cpu_model: str


@dataclass(frozen=True)
class CallRow(Row):
    """One call after the other to a server, over HTTP or gRPC, answered by popularity."""

    side: str  # `HTTP` or `gRPC`
    rows: int  # requests a call
    k: int  # items a request
    p50_ms: float  # of a call, until the client has read it
    p99_ms: float
    processor_ms: float  # of the server, a call
    calls: int
    cores: int
    load: float  # of the machine in the last minute: what else ran beside it
    cpu_model: str
