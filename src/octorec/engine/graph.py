"""All levels of a batch as one CUDA graph a (batch size, beam width) bucket.

A graph reads its inputs from fixed memory and never waits for the host: a batch is copied in, the graph replayed, the
beams copied out. Context length is no bucket axis: kernels read lengths from the device.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from octorec.engine.buckets import Bucket
from octorec.engine.search import SearchBatch, Searched
from octorec.engine.staging import Staging
from octorec.engine.widths import Width, as_width


@dataclass(frozen=True)
class BucketCost:
    """A BucketCost says what capturing one bucket cost: seconds with compilation, megabytes of GPU memory it keeps."""

    batch_size: int
    beam_width: Width
    seconds: float
    megabytes: float


class GraphedSearch:
    """A GraphedSearch is `run` on batches of one shape, captured once.

    staging: holds an example, and later the batches that are run. pool: the memory pool of an earlier graph to share,
    or None.
    """

    def __init__(
        self, run: Callable[[SearchBatch], Searched], bucket: Bucket, staging: Staging, device: torch.device, pool: Any
    ):
        self.staging, self._inputs = staging, staging.block.to(device)
        batch = staging.batch(self._inputs)
        start, before = time.perf_counter(), torch.cuda.memory_reserved()
        self.graph, self.searched = captured(lambda: run(batch), pool)
        megabytes = (torch.cuda.memory_reserved() - before) / 2**20
        self.cost = BucketCost(bucket.size, as_width(bucket.widths), time.perf_counter() - start, megabytes)

    def launch(self) -> Callable[[], Searched]:
        """Start the search of what `staging` holds; the result waits and gives what was found, on the host.

        `staging` is not to be written before that.
        """
        used = self.staging.used
        self._inputs[: len(used)].copy_(used, non_blocking=True)
        self.graph.replay()
        found = Searched(*map(on_host, self.searched))
        done = torch.cuda.Event()
        done.record()

        def wait() -> Searched:
            done.synchronize()
            return found

        return wait


def captured(run: Callable[[], Any], pool: Any) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Return `run` as a CUDA graph, and what it returned, which a replay writes over. pool: as in `GraphedSearch`."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()  # compiles every kernel and lets libraries allocate, outside of the capture
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        returned = run()
    torch.cuda.synchronize()
    return graph, returned


def on_host(tensor: Tensor) -> Tensor:
    """Return a copy in pinned memory; it is complete once the stream has come so far."""
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
