"""The memory that an engine takes is known before its weights are read.

For a GPU the model and its search run on meta tensors, which have sizes and no memory, with operations that allocate
what the kernels do. So this is right for every family whose prefill and decode read no value on the host, which a CUDA
graph asks for anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from octorec.catalog.catalog import Catalog
from octorec.engine.buckets import Bucket
from octorec.engine.config import EngineConfig
from octorec.engine.device_catalog import DeviceCatalog
from octorec.engine.limits import MOST_SEEN
from octorec.engine.live_bytes import LiveBytes
from octorec.engine.search import search
from octorec.engine.staging import Staging
from octorec.errors import InputError
from octorec.kernels.ops import Ops
from octorec.models.model import Model

META = torch.device("meta")
MEASURED = 3  # largest buckets to measure: one of them takes the most memory, and one the second most
REMEDIES = {
    "weights": "take the FP8 checkpoint or a smaller model",
    "context": "lower max_context, max_tokens or batch_sizes",
    "graphs": "lower beam_widths or batch_sizes",
    "catalog": "lower max_items",
}


@dataclass(frozen=True)
class Needs:
    """Needs are the bytes that an engine takes on its device.

    weights: parameters, FP8 values and scales. catalog: both sets of the trie, with room for `max_items`. context: what
    the model keeps of a batch's requests, such as keys and values. graphs: all else that a batch takes, inputs too.
    The batch is the largest bucket's: CUDA graphs keep its memory, with the inputs of every bucket, and the second
    largest is computed beside it once. Both are 0 where they are not known: on a CPU, which keeps nothing between
    batches, and with code of the user's that does not run on meta tensors.
    """

    weights: int
    catalog: int
    context: int = 0
    graphs: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Return the bytes of each part by name, without parts of 0."""
        return {name: size for name in REMEDIES if (size := getattr(self, name))}

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    def words(self) -> str:
        """Write the parts as `weights 4.2 GB, context KV 1.9 GB, graphs 0.8 GB, catalog 0.3 GB`."""
        names = {"context": "context KV"}
        return ", ".join(f"{names.get(name, name)} {readable(size)}" for name, size in self.sizes.items())

    def check(self, free: int) -> None:
        """Raise InputError where `free` bytes are too few; it names every part, and what to change of the largest."""
        if self.total <= free:
            return
        first, *others = sorted(self.sizes, key=self.sizes.__getitem__, reverse=True)
        advice = "; or ".join(REMEDIES[name] for name in (first, *others))
        allowed = f"only {readable(free)} are free, and most is for {first}: {advice}"
        raise InputError("memory", f"{readable(self.total)} for {self.words()}", allowed)


def readable(size: int) -> str:
    """Write bytes as `4.2 GB`, or as `0.3 MB` where they are few."""
    return f"{size / 1e9:,.1f} GB" if size >= 10**8 else f"{size / 1e6:,.1f} MB"


def needs_of(
    model: Model, catalog: Catalog, config: EngineConfig, ops: Ops, device: torch.device, others: Sequence[Catalog] = ()
) -> Needs:
    """Measure what an engine on `device` takes. model: on the meta device, made with `ops`, `shapes_for(device)`'s.

    others: the catalogs of further domains.
    """
    assert isinstance(model, nn.Module)
    trie, *more = [DeviceCatalog(catalog, config.room(catalog), META) for catalog in (catalog, *others)]
    tables = [tensor for one in (trie, *more) for level in one.levels for tensor in level if tensor is not None]
    buckets = config.buckets(len(model.codebook_sizes)).all()
    weights, table = (sum(one.nbytes for one in each) for each in ([*model.parameters(), *model.buffers()], tables))
    if device.type != "cuda":
        return Needs(weights, table)
    try:
        first, *next_ones = [_Search(model, trie, config, ops, bucket) for bucket in buckets[:MEASURED]]
    except Exception:  # a kernel of the user's raises what it likes
        return Needs(weights, table)
    inputs = first.inputs * sum(bucket.size for bucket in buckets) // buckets[0].size
    beside = max((other.most for other in next_ones), default=0)
    return Needs(weights, table, first.context, first.most - first.context + inputs + beside)


class _Search:
    """A _Search is one search of a bucket, measured.

    context: bytes of the model's state after prefill; most: of all that lived at once.
    """

    def __init__(self, model: Model, trie: DeviceCatalog, config: EngineConfig, ops: Ops, bucket: Bucket):
        banned = bucket.size * (config.max_exclude + MOST_SEEN)
        staging = Staging(model, config.longest(model), bucket.size, banned, trie.set_words, pinned=False)
        batch = staging.batch(staging.block.to(META))
        self.inputs = staging.block.nbytes
        with torch.no_grad():
            with LiveBytes() as live:
                state = model.prefill(batch.inputs)
                self.context = live.now
            del state
            with LiveBytes() as live:
                search(model, trie.levels, batch, bucket.widths, ops)
            self.most = live.most
