"""Operations of a Qwen model at the shapes of its batches, each in the ways that there are to compute it.

A case makes its operands once; a way is a call on them, or several on different weights where these would stay in the
L2 cache. Letters as in `octorec.kernels.ops`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.qwen_model import RECIF, SHAPES, Shape
from octorec.kernels import reference, stock
from octorec.kernels.device import card_of
from octorec.kernels.fp8 import Granularity, Quantized, dequantize
from octorec.kernels.ops import Kept, Operand, Ops, Spans
from octorec.kernels.products import Tile

Call = Callable[[], Operand]
COLD_BYTES = 120e6  # of all weights that calls of a case read, more than the L2 cache holds


@dataclass(frozen=True)
class Way:
    """How an operation is computed.

    eager: not in a CUDA graph, as it waits for the host. part: it leaves some of the work out.
    """

    by: str
    calls: list[Call]
    precision: str = "bf16"
    eager: bool = False
    part: bool = False


@dataclass(frozen=True)
class Case:
    """One operation at one shape.

    expected: its result in float32. moved: the fewest bytes. tried: our kernel's calls in a layout, of `tried_in`.
    """

    operation: str
    model: str
    shape: str
    flop: float
    moved: float
    expected: Callable[[], Tensor]
    ways: list[Way]
    tried: Callable[[Any], list[Call]] | None = None
    tried_in: str = "bf16"


Make = Callable[[str, Ops, str], Iterator[Case]]  # of a model's name, our operations and a device


def normal(*shape: int, device: str, std: float = 1.0) -> Tensor:
    return (torch.randn(*shape, device=device) * std).bfloat16()


def spans_of(lengths: Sequence[int], device: str) -> Spans:
    """Prompts one after the other, none of whose tokens is cached."""
    count = torch.tensor(lengths, device=device, dtype=torch.int32)
    queries = F.pad(count.cumsum(0), (1, 0)).int()
    return Spans(queries, queries[:-1].contiguous(), count)


def prefill_attention(model: str, ops: Ops, device: str) -> Iterator[Case]:
    """Causal attention over prompts: ours, and torch's over prompts of one length, one after the other, or packed."""
    longest = 5000 if model != "tiny" else 40
    batches = {"8 x 1000": [1000] * 8, "1 x 1000": [1000], "8 x 5000": [5000] * 8, "8 as RecIF's": [*RECIF]}
    for shape, given in batches.items():
        lengths = [length * longest // 5000 for length in given]
        yield _prefill(model, shape, lengths, ops, device)


def _prefill(model: str, shape: str, lengths: list[int], ops: Ops, device: str) -> Case:
    size, tokens, longest = SHAPES[model], sum(lengths), max(lengths)
    heads, groups, width = size.num_attention_heads, size.num_key_value_heads, size.head_dim
    q = normal(tokens, heads, width, device=device)
    k, v = (normal(tokens, groups, width, device=device) for _ in range(2))
    spans = spans_of(lengths, device)
    ways = [
        Way("ours", [partial(ops.prefill_attention, q, k, v, spans, None)]),
        Way("ours, cast", [partial(ops.prefill_attention, q, k, v, spans, "token")], "rows"),
        Way("SDPA, a request a call", [partial(stock.prefill_attention, q, k, v, spans, None)], eager=True),
        Way("flash, packed", [partial(_flash_packed, q, k, v, spans, longest)]),
    ]
    if device == "cuda" and (card := card_of(torch.device(device))).warp_groups:
        together = partial(ops.prefill_attention, q, k, v, spans, None, tiling=card.attention)  # type: ignore[call-arg]
        ways.append(Way("ours, warps together", [together]))
    if len({*lengths}) == 1:
        padded = [t.unflatten(0, (len(lengths), -1)).transpose(1, 2).contiguous() for t in (q, k, v)]
        for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)):
            ways.append(Way(f"SDPA {name}, padded", [partial(_padded, backend, *padded)]))
    flop = 4.0 * heads * width * sum(length * (length + 1) / 2 for length in lengths)
    moved = 2.0 * tokens * width * (2 * heads + 2 * groups)
    exact = partial(reference.prefill_attention, q.float(), k.float(), v.float(), spans, None)
    tried = _in_a("tiling", ops.prefill_attention, q, k, v, spans, None)
    return Case("prefill_attention", model, shape, flop, moved, partial(_dense, exact), ways, tried)


def _in_a(layout: str, compute: Callable[..., Operand], *given: Any) -> Callable[[Any], list[Call]]:
    """Calls of a kernel in a layout, which it takes as the keyword `layout`."""
    return lambda value: [partial(compute, *given, **{layout: value})]


def _padded(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(backend):
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2).flatten(2).flatten(0, 1)


def _flash_packed(q: Tensor, k: Tensor, v: Tensor, spans: Spans, longest: int) -> Tensor:
    where = (spans.queries, spans.queries, longest, longest)
    found = torch.ops.aten._flash_attention_forward(q, k, v, *where, 0.0, True, False)
    return found[0].flatten(1)


def beam_attention(model: str, ops: Ops, device: str) -> Iterator[Case]:
    """Beams over their request's context, one earlier position and themselves."""
    tiny = model == "tiny"
    for batch, beams, length in ((8, 256, 1000), (8, 64, 1000), (8, 512, 1000), (1, 256, 1000), (8, 256, 5000)):
        yield _beams(model, batch, beams // 16 if tiny else beams, length // 50 if tiny else length, ops, device)


def _beams(model: str, batch: int, beams: int, length: int, ops: Ops, device: str) -> Case:
    size = SHAPES[model]
    heads, groups, width = size.num_attention_heads, size.num_key_value_heads, size.head_dim
    q = normal(batch, beams, heads, width, device=device)
    (k, v), earlier = ([normal(batch, beams, groups, width, device=device) for _ in range(2)] for _ in range(2))
    keys, values = (normal(batch * length, groups, width, device=device) for _ in range(2))
    ancestors = torch.randint(0, beams, (batch, beams), device=device).sort(1).values
    spans = spans_of([length] * batch, device)

    def call(
        compute: Callable[..., Operand], quantize_to: Granularity | None, *types: torch.dtype, **layout: Any
    ) -> Operand:
        cast = (lambda t: t.to(*types)) if types else (lambda t: t)
        past = [(cast(earlier[0]), cast(earlier[1]))]
        own, pool = [cast(t) for t in (q, k, v)], [cast(t) for t in (keys, values)]
        return compute(*own, past, [ancestors], *pool, spans.first, spans.lengths, quantize_to, **layout)

    ways = [
        Way("ours", [partial(call, ops.beam_attention, None)]),
        Way("ours, cast", [partial(call, ops.beam_attention, "token")], "rows"),
        Way("stock, scores in memory", [partial(call, stock.beam_attention, None)], eager=True),
        Way("flash over the context alone", [partial(_flash_beams, q, keys, values, batch)], part=True),
    ]
    rows = batch * beams
    flop = 4.0 * rows * heads * width * (length + 2)
    moved = 2.0 * width * (2 * rows * heads + groups * (2 * batch * length + 4 * rows))
    exact = partial(call, reference.beam_attention, None, torch.float32)
    shape = f"{batch} x {beams} over {length}"
    tried = _in_a("tiling", call, ops.beam_attention, None)
    return Case("beam_attention", model, shape, flop, moved, partial(_dense, exact), ways, tried)


def _flash_beams(q: Tensor, keys: Tensor, values: Tensor, batch: int) -> Tensor:
    """Heads of a group are rows; what beams wrote themselves is left out."""
    heads, (_, groups, width) = q.shape[2], keys.shape
    mine = q.unflatten(2, (groups, -1)).transpose(1, 2).flatten(2, 3)  # [B, G, W * H / G, D]
    k, v = (t.view(batch, -1, groups, width).transpose(1, 2) for t in (keys, values))
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        out = F.scaled_dot_product_attention(mine, k, v)
    return out.unflatten(2, (-1, heads // groups)).transpose(1, 2).flatten(2).flatten(0, 1)


def log_norm(model: str, ops: Ops, device: str) -> Iterator[Case]:
    """The log-sum-exp over a whole vocabulary."""
    size = SHAPES[model]
    weight = normal(size.vocab_size, size.hidden_size, device=device, std=0.02)
    for rows in (8, 256, 512, 2048):
        x = normal(rows, size.hidden_size, device=device)
        ways = [
            Way("ours", [partial(ops.log_norm, x, weight)]),
            Way("logits in memory", [partial(_whole_logits, x, weight)]),
            Way("the product alone", [partial(F.linear, x, weight)], part=True),
        ]
        flop, moved = 2.0 * rows * weight.numel(), 2.0 * weight.numel()
        exact = partial(reference.log_norm, x, weight)
        tried = _in_a("tile", ops.log_norm, x, weight)
        yield Case("log_norm", model, f"{rows} rows", flop, moved, exact, ways, tried)


def _whole_logits(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight).float().logsumexp(-1)


def rope(model: str, ops: Ops, device: str) -> Iterator[Case]:
    """Norms of heads, turns, and for prompts the write into a pool; of the result q counts."""
    size = SHAPES[model]
    heads, groups, width = size.num_attention_heads, size.num_key_value_heads, size.head_dim
    turns = torch.randn(4096, width, device=device)
    norms = (normal(width, device=device), normal(width, device=device))
    for count, keeps in ((8000, True), (2048, False), (512, False), (256, False)):
        rows = count // 32 if model == "tiny" else count
        qkv = normal(rows, (heads + 2 * groups) * width, device=device)
        positions = torch.arange(rows, device=device) % 4096
        pools = [normal(rows, groups, width, device=device) for _ in range(2)]
        kept = Kept(pools[0], pools[1], torch.arange(rows, device=device)) if keeps else None
        given = (turns, positions, heads, norms, 1e-6)
        ways = [
            Way(by, [partial(_first, compute, qkv, *given, kept)])
            for by, compute in (("ours", ops.rope), ("stock", stock.rope))
        ]
        exact = partial(_first, reference.rope, qkv.float(), *given)
        moved = 4.0 * qkv.numel()
        label = f"{rows} rows" + (", kept" if keeps else "")
        yield Case("rope", model, label, 10.0 * qkv.numel(), moved, exact, ways)


def _first(compute: Callable[..., tuple[Tensor, ...]], *given: Any) -> Tensor:
    return compute(*given)[0]


ROWS = (8192, 2048, 512, 1000, 256, 128, 64)


def products(model: str, ops: Ops, device: str) -> Iterator[Case]:
    """The products of a layer: BF16, and FP8 by the table, by ours and by torch's."""
    size = SHAPES[model]
    q, kv = size.num_attention_heads * size.head_dim, size.num_key_value_heads * size.head_dim
    shapes = {
        "qkv": (q + 2 * kv, size.hidden_size, False),
        "o + residual": (size.hidden_size, q, True),
        "gate, up": (2 * size.intermediate_size, size.hidden_size, False),
        "down + residual": (size.hidden_size, size.intermediate_size, True),
    }
    for name, (n, k, adds) in shapes.items():
        copies = min(12, max(2, int(COLD_BYTES / (n * k)) + 1)) if device == "cuda" else 1
        weights = [normal(n, k, device=device, std=0.03) for _ in range(copies)]
        for rows in ROWS if model != "tiny" else (64,):
            yield _product(model, f"{name}: {n} x {k}, {rows} rows", weights, rows, adds, ops, device)


def _product(model: str, shape: str, weights: list[Tensor], rows: int, adds: bool, ops: Ops, device: str) -> Case:
    (n, k), x = weights[0].shape, normal(rows, weights[0].shape[1], device=device)
    residual = normal(rows, n, device=device) if adds else None

    def calls(compute: Callable[..., Operand], one: Operand, others: Sequence[Operand]) -> list[Call]:
        into = None if residual is None else residual.clone()  # may be written over: right for the first call alone
        return [partial(compute, one, other, into) for other in others]

    ways = [Way("by the table", calls(ops.linear, x, weights))]
    kinds: tuple[tuple[str, Granularity, Granularity], ...] = (
        ("rows", "token", "channel"),
        ("groups", "group", "block"),
    )
    for precision, of_x, of_weight in kinds:
        one = ops.maybe_quantize(x, of_x)
        others = [reference.maybe_quantize(weight, of_weight) for weight in weights]
        for by, compute in _eight_bit(ops, precision, device):
            ways.append(Way(by, calls(compute, one, others), precision))
    exact = partial(_exact, x, weights[0], residual)
    one, eight = ops.maybe_quantize(x, "token"), [reference.maybe_quantize(weight, "channel") for weight in weights]
    tried = lambda tile: calls(partial(_tiled, tile), one, eight)  # noqa: E731
    moved = n * k + 1.0 * rows * k + 2.0 * rows * n
    return Case("product", model, shape, 2.0 * rows * n * k, moved, exact, ways, tried, "rows")


def _eight_bit(ops: Ops, precision: str, device: str) -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """FP8 products: by the table of shapes, and each way by name."""
    yield "by the table", ops.linear
    if device != "cuda":
        return
    from octorec.kernels.linear import linear

    if precision == "rows":
        yield "ours, fast sums", partial(linear, accumulate="fast", by="ours")
        yield "torch, fast sums", _torch_fast
    else:
        yield "ours", partial(linear, accumulate="float32", by="ours")


def _tiled(tile: Tile, x: Operand, weight: Operand, into: Tensor | None) -> Operand:
    from octorec.kernels.gemm import gemm

    return gemm(x, weight, None, "none" if into is None else "residual", "fast", into, tile)


def _torch_fast(x: Quantized, weight: Quantized, into: Tensor | None) -> Tensor:
    from octorec.kernels.linear import linear

    out = linear(x, weight, None, "fast", "torch")
    return out if into is None else out.add_(into)


def _exact(x: Tensor, weight: Tensor, residual: Tensor | None) -> Tensor:
    out = x.float() @ weight.float().T
    return out if residual is None else out + residual.float()


def glue(model: str, ops: Ops, device: str) -> Iterator[Case]:
    """The norm and SwiGLU, with the cast to FP8."""
    size = SHAPES[model]
    for rows in (8000, 2048, 512, 256) if model != "tiny" else (64,):
        yield _norm(model, size, rows, ops, device)
        yield _swiglu(model, size, rows, ops, device)


def _norm(model: str, size: Shape, rows: int, ops: Ops, device: str) -> Case:
    x, weight = normal(rows, size.hidden_size, device=device), normal(size.hidden_size, device=device)
    ways = [Way(by, [partial(ops.rms_norm, x, weight, 1e-6, to)], kind) for by, kind, to in GLUE]
    exact = partial(_dense, partial(reference.rms_norm, x.float(), weight, 1e-6, None))
    return Case("rms_norm", model, f"{rows} rows", 4.0 * x.numel(), 3.0 * x.numel(), exact, ways)


def _swiglu(model: str, size: Shape, rows: int, ops: Ops, device: str) -> Case:
    x = normal(rows, 2 * size.intermediate_size, device=device)
    ways = [Way(by, [partial(ops.swiglu, x, to)], kind) for by, kind, to in GLUE]
    exact = partial(_dense, partial(reference.swiglu, x.float(), None))
    return Case("swiglu", model, f"{rows} rows", 2.0 * x.numel(), 2.5 * x.numel(), exact, ways)


GLUE: tuple[tuple[str, Literal["bf16", "rows", "groups"], Granularity | None], ...] = (
    ("ours", "bf16", None), ("ours, cast", "rows", "token"), ("ours, cast", "groups", "group")
)  # fmt: skip
CASES: dict[str, Make] = {
    "prefill_attention": prefill_attention,
    "beam_attention": beam_attention,
    "log_norm": log_norm,
    "rope": rope,
    "products": products,
    "glue": glue,
}


def _dense(compute: Callable[[], Operand]) -> Tensor:
    found = compute()
    return dequantize(found) if isinstance(found, Quantized) else found
