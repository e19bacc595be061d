"""All levels of a batch as one CUDA graph a (batch size, beam width) bucket.

A graph reads its inputs from fixed memory and never waits for the host: a batch is copied in, the graph replayed, the
beams read out. Context length is no bucket axis: kernels read lengths from the device.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from octorec.engine.search import SearchBatch
from octorec.kernels.reference import Beams, LeafFilter
from octorec.models.context import ContextBatch


@dataclass(frozen=True)
class BucketCost:
    """What capturing one bucket cost: seconds with compilation, and megabytes of GPU memory that it keeps."""

    batch_size: int
    beam_width: int
    seconds: float
    megabytes: float


class GraphedSearch:
    """`run` on batches of one shape, captured once. `example`, a batch on the host, fixes every tensor's shape.

    pool: the memory pool of an earlier graph to share, or None.
    """

    def __init__(self, run: Callable[[SearchBatch], Beams], example: SearchBatch, device: torch.device, pool: Any):
        self.batch = moved(example, device)
        start, before = time.perf_counter(), torch.cuda.memory_reserved()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run(self.batch)  # compiles every kernel and lets libraries allocate, outside of the capture
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            self.beams = run(self.batch)
        torch.cuda.synchronize()
        megabytes = (torch.cuda.memory_reserved() - before) / 2**20
        size, width = self.beams.scores.shape
        self.cost = BucketCost(size, width, time.perf_counter() - start, megabytes)

    def __call__(self, batch: SearchBatch) -> Beams:
        """The beams of `batch`, which is on the host, in memory that the next call overwrites."""
        for target, source in zip(tensors(self.batch), tensors(batch), strict=True):
            target.copy_(source, non_blocking=True)
        self.graph.replay()
        return self.beams


def moved(batch: SearchBatch, device: torch.device) -> SearchBatch:
    """The batch on `device`."""

    def on_device(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device)

    context = ContextBatch(*(on_device(getattr(batch.context, field.name)) for field in fields(batch.context)))  # type: ignore[arg-type]
    roots, widths = batch.roots.to(device), batch.widths.to(device)
    return SearchBatch(context, roots, widths, LeafFilter(*(t.to(device) for t in batch.leaf_filter)))


def tensors(batch: SearchBatch) -> list[Tensor]:
    """Every tensor of a batch, in a fixed order."""
    context = [getattr(batch.context, field.name) for field in fields(batch.context)]
    return [tensor for tensor in (*context, batch.roots, batch.widths, *batch.leaf_filter) if tensor is not None]
