"""The memory that an engine takes is known before its weights are read.

For a GPU the model and its search run on meta tensors, which have sizes and no memory, with operations that allocate
what the kernels do. So this is right for every family whose prefill and decode read no value on the host, which a CUDA
graph asks for anyway.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from octorec.catalog.catalog import Catalog
from octorec.engine.buckets import Bucket
from octorec.engine.config import EngineConfig
from octorec.engine.device_catalog import DeviceCatalog
from octorec.engine.limits import MOST_SEEN
from octorec.engine.live_bytes import LiveBytes
from octorec.engine.reader import CHUNK, memory_of, memory_rows
from octorec.engine.search import search, searched
from octorec.engine.staging import Staging
from octorec.errors import InputError
from octorec.kernels.ops import Ops
from octorec.models.model import Model, TokenModel, token_model

META = torch.device("meta")
MEASURED = 3  # largest buckets to measure: one of them takes the most memory, and one the second most
REMEDIES = {
    "weights": "take the FP8 checkpoint or a smaller model",
    "context": "lower max_context, batch_tokens or batch_sizes",
    "graphs": "lower beam_widths or batch_sizes",
    "catalog": "lower max_items",
    "prefixes": "lower prefix_cache_bytes",
}


@dataclass(frozen=True)
class Needs:
    """Needs are the bytes that an engine takes on its device.

    weights: parameters, FP8 values and scales. catalog: both sets of the trie, with room for `max_items`. context: what
    the model keeps of a batch's requests, such as keys and values. graphs: all else that a batch takes, inputs too.
    prefixes: the beginnings of prompts that are kept.
    The batch is the largest bucket's: CUDA graphs keep its memory, with the inputs of every bucket, and the second
    largest is computed beside it once. Both are 0 where they are not known: on a CPU, which keeps nothing between
    batches, and with code of the user's that does not run on meta tensors. Of a model that is read in parts context is
    the pool of all its prompts' tokens, and what reading a chunk of them takes counts as well.
    """

    weights: int
    catalog: int
    context: int = 0
    graphs: int = 0
    prefixes: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Return the bytes of each part by name, without parts of 0."""
        return {name: size for name in REMEDIES if (size := getattr(self, name))}

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    def words(self) -> str:
        """Write the parts as `weights 4.2 GB, context KV 1.9 GB, graphs 0.8 GB, catalog 0.3 GB`."""
        names = {"context": "context KV", "prefixes": "prefix cache"}
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
    prefixes = 0 if token_model(model) is None else config.prefix_cache_bytes
    if device.type != "cuda":
        return Needs(weights, table, prefixes=prefixes)
    try:
        first, *next_ones = [_Search(model, trie, config, ops, bucket) for bucket in buckets[:MEASURED]]
    except Exception:  # a kernel of the user's raises what it likes
        return Needs(weights, table, prefixes=prefixes)
    inputs = first.inputs * sum(bucket.size for bucket in buckets) // buckets[0].size
    beside = max(first.chunk, *(other.eager for other in next_ones), 0)
    return Needs(weights, table, first.context, first.graph + inputs + beside, prefixes)


class _Search:
    """A _Search is one search of a bucket, measured.

    inputs: bytes of what requests write. context: of what is kept of their histories or prompts. graph: of all else
    that lives at once in a graph. eager: of all that does without one. chunk: of reading a part of the prompts.
    """

    def __init__(self, model: Model, trie: DeviceCatalog, config: EngineConfig, ops: Ops, bucket: Bucket):
        banned, read = bucket.size * (config.max_exclude + MOST_SEEN), token_model(model)
        how = {"pinned": False, "prompts": read is not None}
        staging = Staging(model, config.longest(model), bucket.size, banned, trie.set_words, **how)
        batch, self.inputs, self.chunk = staging.batch(staging.block.to(META)), staging.block.nbytes, 0
        rest = trie.levels, batch, bucket.widths, ops
        with torch.no_grad():
            if read is not None:
                self._in_parts(read, config, bucket.size, lambda state: searched(model, state, *rest))
                return
            with LiveBytes() as live:
                state = model.prefill(batch.inputs)
                self.context = live.now
            del state
            with LiveBytes() as live:
                search(model, *rest)
            self.graph, self.eager = live.most - self.context, live.most

    def _in_parts(self, model: TokenModel, config: EngineConfig, size: int, search: Callable[[Any], Any]) -> None:
        """Measure with a pool for the prompts of all batches."""
        most = memory_rows(config.most_tokens(model))
        memory = memory_of(model, META, config.batch_sizes[-1], most)
        self.context = memory.nbytes
        with LiveBytes() as live:
            model.read(memory.packed(min(CHUNK, most)), memory.pool, memory.hidden)
        self.chunk = live.most
        with LiveBytes() as live:
            search(memory.state(model, size))
        self.graph = self.eager = live.most
