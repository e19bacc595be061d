"""`Shapes` is an `Ops` that computes nothing: it allocates what the kernels of `fused` allocate, and launches none.

On meta tensors it tells what a model's batch takes on a card, on any machine. What an operation returns, and what it
needs for a moment, must be allocated here as there: `tests/kernels/test_fused_shapes.py` compares the two.

Letters as in `kernels.ops`; P slots of experts' rows (`kernels.plan`).
"""

import math

import torch
from torch import Tensor
from triton import next_power_of_2

from octorec.kernels import reference
from octorec.kernels.beam_tiling import tiling_for
from octorec.kernels.cast import empty_quantized
from octorec.kernels.fp8 import GROUP, Granularity, values_of
from octorec.kernels.log_norm import tile_for
from octorec.kernels.ops import Beams, Kept, NodeFilter, Operand, Routing, Spans, TrieLevel, Variant
from octorec.kernels.plan import CHUNK, most_tiles
from octorec.kernels.products import Card


class Shapes(Variant):
    """Shapes has the sizes that the kernels' results and buffers have on `card`."""

    def __init__(self, card: Card):
        super().__init__(reference)
        self.card = card

    def linear(self, x: Operand, weight: Operand, into: Tensor | None = None) -> Tensor:
        """A 16-bit product is written over `into`."""
        if into is not None and isinstance(x, Tensor):
            return into
        values = values_of(x)
        return values.new_empty(len(values), len(values_of(weight)), dtype=x.dtype)

    def head(self, x: Tensor, weight: Tensor) -> Tensor:
        """Logits are float32."""
        return x.new_empty(len(x), len(weight), dtype=torch.float32)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, quantize_to: Granularity | None = None) -> Operand:
        """A norm is as large as its input."""
        return _result(x, x.shape, quantize_to)

    def swiglu(self, gate_up: Tensor, quantize_to: Granularity | None) -> Operand:
        """Half of the columns remain."""
        return _result(gate_up, (len(gate_up), gate_up.shape[1] // 2), quantize_to)

    def maybe_quantize(self, x: Tensor, granularity: Granularity | None) -> Operand:
        """A cast has buffers of its own."""
        return x if granularity is None else _result(x, x.shape, granularity)

    def cross_attention(
        self, q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, quantize_to: Granularity | None
    ) -> Operand:
        """Heads of 128 are quantized by group as they are written, others by a second launch."""
        return self._attended(q, quantize_to)

    def _attended(self, q: Tensor, quantize_to: Granularity | None) -> Operand:
        rows = q.flatten(-2).flatten(0, -2)
        if quantize_to is None or (quantize_to == "group" and q.shape[-1] == GROUP):
            return _result(q, rows.shape, quantize_to)
        return self.maybe_quantize(_empty(q, tuple(rows.shape)), quantize_to)

    def self_attention(
        self, qkv: Tensor, past: list[Tensor], ancestors: list[Tensor], quantize_to: Granularity | None
    ) -> Operand:
        """Earlier positions stay where they are."""
        batch, beams, _, heads, width = qkv.shape
        return _result(qkv, (batch * beams, heads * width), quantize_to)

    def rope(
        self,
        qkv: Tensor,
        turns: Tensor,
        positions: Tensor,
        heads: int,
        norms: tuple[Tensor, Tensor] | None,
        eps: float,
        kept: Kept | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is kept takes no room here."""
        rows, width = len(qkv), turns.shape[1]
        groups = (qkv.shape[1] // width - heads) // 2
        k, v = kept[:2] if kept is not None else (_empty(qkv, (rows, groups, width)) for _ in range(2))
        return _empty(qkv, (rows, heads, width)), k, v

    def prefill_attention(
        self, q: Tensor, keys: Tensor, values: Tensor, spans: Spans, quantize_to: Granularity | None
    ) -> Operand:
        """Its result is laid out as that of `cross_attention`."""
        return self._attended(q, quantize_to)

    def beam_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        past: list[tuple[Tensor, Tensor]],
        ancestors: list[Tensor],
        keys: Tensor,
        values: Tensor,
        first: Tensor,
        lengths: Tensor,
        quantize_to: Granularity | None,
    ) -> Operand:
        """Its result is laid out as that of `cross_attention`."""
        return self._attended(q, quantize_to)

    def log_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Each tile of the vocabulary has a number for each row."""
        parts = x.new_empty(-(-len(weight) // tile_for(self.card).columns), len(x), dtype=torch.float32)
        out = parts.new_empty(len(x))
        del parts  # they live until the result is there
        return out

    def route(self, x: Tensor, gate: Tensor, bias: Tensor, top_k: int, n_shared: int) -> Routing:
        """Two tables of a row's experts are made."""
        shape = len(x), top_k + n_shared
        return Routing(x.new_empty(shape, dtype=torch.int64), x.new_empty(shape, dtype=torch.float32))

    def moe(
        self,
        x: Tensor,
        routing: Routing,
        gate_up: Operand,
        down: Operand,
        quantize_to: Granularity | None,
        into: Tensor | None = None,
    ) -> Tensor:
        """Each row lies in the slots of its experts, between the products too."""
        experts, width = routing.experts, values_of(gate_up).shape[1] // 2
        plan = self._plan(experts, len(values_of(gate_up)))
        slots = len(plan[0]) * self.card.tile.rows
        hidden = self._hidden(_result(x, (slots, x.shape[1]), quantize_to), width, quantize_to)
        parts = _empty(x, (slots, x.shape[1]))
        out = _empty(x, x.shape)
        del hidden, parts, plan  # they live until the sum is there
        return out

    def _plan(self, experts: Tensor, n_expert: int) -> tuple[Tensor, ...]:
        rows, per_row = experts.shape
        tiles = most_tiles(rows, per_row, n_expert, self.card.tile.rows)
        shapes = (tiles,), (tiles,), (rows, per_row), (-(-rows * per_row // CHUNK), next_power_of_2(n_expert + 1))
        return tuple(experts.new_empty(shape, dtype=torch.int32) for shape in shapes)

    def _hidden(self, slots: Operand, width: int, quantize_to: Granularity | None) -> Operand:
        rows = values_of(slots)
        like = torch.empty(0, dtype=slots.dtype, device=rows.device)
        if quantize_to == "group" and width % GROUP == 0:
            return _result(like, (len(rows), width), "group")
        if quantize_to == "group":  # gate and up are written before they are quantized
            return self.swiglu(_empty(like, (len(rows), 2 * width)), "group")
        return self.maybe_quantize(_empty(like, (len(rows), width)), quantize_to)

    def beam_step(
        self,
        logits: Tensor,
        scores: Tensor,
        nodes: Tensor,
        level: TrieLevel,
        widths: Tensor,
        out_width: int,
        node_filter: NodeFilter | None = None,
        ranked: bool = False,
    ) -> Beams:
        """The largest buffers hold the best of each tile, and the candidates of the chosen tiles."""
        batch, beams, vocabulary = logits.shape
        tiling = tiling_for(beams, vocabulary, out_width)
        tiles, subtiles = -(-vocabulary // tiling.tile), tiling.tile // tiling.subtile
        chosen = out_width if tiling.parts == 1 else out_width * (1 + tiling.parts)
        read = (out_width * tiling.tile, out_width * subtiles)
        sizes = (4 * beams, beams * tiles, chosen, *read, 2 * out_width, tiling.lefts)
        buffers = [logits.new_empty(batch, size) for size in sizes]
        found = _beams(logits, out_width)
        result = _beams(logits, out_width) if ranked else found
        del buffers, found  # they live until the result is there
        return result


def _beams(logits: Tensor, width: int) -> Beams:
    nodes, parents, codes = (logits.new_empty(len(logits), width, dtype=torch.int64) for _ in range(3))
    return Beams(logits.new_empty(len(logits), width), nodes, parents, codes, logits.new_empty(len(logits)))


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return like.new_empty(shape)


def _result(like: Tensor, shape: tuple[int, ...], quantize_to: Granularity | None) -> Operand:
    """Return a result [..., C] in the type of `like`, or quantized."""
    if quantize_to is None:
        return like.new_empty(shape)
    return empty_quantized((math.prod(shape[:-1]), shape[-1]), quantize_to, like.dtype, like.device)
