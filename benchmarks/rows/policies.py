"""Rows of what beam widths and policies cost on a GPU: `benchmarks.policies`, `rates`, `auto_cost` and `mixed`."""

from dataclasses import dataclass
from typing import Literal

from benchmarks.records import Row


@dataclass(frozen=True)
class PolicyRow(Row):
    """One batch of ours in a bucket of its own: how wide its beams are, and what that costs."""

    preset: str
    precision: str  # bf16 or fp8
    batch: int  # requests
    beam_width: int | tuple[int, ...]  # beams at each level, or by level
    k: int  # items a request
    context: int  # items of history a request
    requests_per_s: float  # batch / ms_per_batch
    ms_per_batch: float  # median on the device
    ms_p20: float  # 20th and 80th percentile on the device
    ms_p80: float
    p50_ms: float  # one batch from the host to the host, median and 99th percentile
    p99_ms: float
    host_requests_per_s: float  # of 16 batches in one call (rows before 03a2351: of 256 requests)
    tflops: float  # floating-point operations a second, in 10^12
    mfu: float  # tflops as a share of the peak in the card's data sheet
    capture_s: float  # seconds to compile and capture the bucket
    n_items: int  # of the catalog


@dataclass(frozen=True)
class RateRow(Row):
    """One batch whose requests ask for k items, by a policy of ours or by stock PyTorch."""

    run: str  # when the run began, ISO; all rows of one run carry it
    system: str  # octorec or stock graph
    preset: str
    precision: str  # bf16 or fp8
    batch: int  # requests
    beam_width: int | tuple[int, ...]  # beams at each level, or by level
    k: int  # items a request
    context: int  # items of history a request
    requests_per_s: float  # batch / ms_per_batch
    ms_per_batch: float  # median on the device
    ms_p20: float  # 20th and 80th percentile on the device
    ms_p80: float
    p50_ms: float  # one batch from the host to the host, median and 99th percentile
    p99_ms: float


@dataclass(frozen=True)
class AutoRow(Row):
    """The same requests with `auto` and with the widest beams, by turns, where narrow beams certify nothing."""

    preset: str
    precision: str  # bf16 or fp8
    table: dict[str, int]  # beam width that `auto` begins with, by k; empty: without a table, by 4 k
    k: int  # items a request
    beam_width: int  # the widest
    context: int  # items of history a request
    requests: int  # of a call of `Engine.recommend`
    batch: int  # requests of a batch, at most
    turns: int  # calls each way
    certified: float  # share of the answers of the widest beams that are exact
    repeated: float  # share of the requests of `auto` that were searched for more than once
    fixed_ms: float  # a call from the host to the host with the widest beams: median and 99th percentile
    fixed_p99_ms: float
    auto_ms: float  # the same with `auto`
    auto_p99_ms: float
    ratio: float  # median over turns of auto's time over that of the call before it


@dataclass(frozen=True)
class MixedRow(Row):
    """What live requests of several widths take that arrive together, in one version of the engine."""

    run: str  # when the run began, ISO; all rows of one run carry it
    side: Literal["before", "after"]
    tree: str  # commit of the engine that was measured
    preset: str
    precision: str  # bf16 or fp8
    traffic: str  # which mix of k and beams
    context: int  # items of history a request
    batch_sizes: tuple[int, ...]  # that the engine captures, its own default
    beam_widths: tuple[int, ...]
    requests: int  # that arrive together
    live_rows: float  # mean beams of these requests, all together
    draws: int  # sets of requests of this size
    batches: float  # mean number of batches of a set
    device_ms: float  # mean time of a set on the device
    p50_ms: float  # of a set from the host to the host, median


@dataclass(frozen=True)
class PrefillRow(Row):
    """The part of a search that a repeat with wider beams computes again, as it does not depend on beams."""

    preset: str
    precision: str  # bf16 or fp8
    batch: int  # requests
    beam_width: int  # beams at each level of the narrow search
    context: int  # items of history a request
    prefill_ms: float  # median on the device, from the inputs to the context's keys and values
    search_ms: float  # median on the device of the whole narrow search
    share: float  # prefill_ms / search_ms
    context_mb: float  # megabytes of keys and values that the model keeps of the batch
