"""Rows of `benchmarks.serve_refresh`."""

from dataclasses import dataclass

from benchmarks.records import Row


@dataclass(frozen=True)
class RefreshRow(Row):
    """One change of a server's weights under load, or the same load without one. Times are of answers that were due
    from its beginning until a second after its end."""

    change: str  # `none`, `in place`, `rollback`, or `beside`: another engine, which takes the place of the first
    checkpoint: str  # what its weights are of
    device: str
    weights_mb: float  # of the checkpoint's files, 10^6 bytes
    beam_width: int
    capacity_per_s: float  # of the server, without a change
    rate: float  # asked, requests/s (Poisson)
    seconds: float  # from the operator's call to its reply
    paused_s: float | None  # for which no batch could run; None: it is not told, or there was no change
    compared: int  # recent requests by which the weights were compared before
    overlap: float | None  # of their answers; None: nothing was compared
    mean_drift: float | None  # nats a level
    asked: int
    lost: int  # not answered 200
    mixed: int  # answers of a version that was not there between the request and its answer
    p50_ms: float
    p99_ms: float
    max_ms: float
    cores: int
    load: float  # of the machine in the last minute: what else ran beside it
