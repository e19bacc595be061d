"""On a CPU a row's bits are the row's alone, whatever the number of rows and of threads, under any instruction set."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from octorec.kernels import reference, steady
from octorec.kernels.fp8 import quantize
from octorec.kernels.ops import Routing, Spans

MOST = 203  # rows
PARTS = (slice(0, 1), slice(202, 203), slice(7, 40), slice(73, 203))
HERE = {}  # as the processor has it
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
AVX512 = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_ENABLE_INSTRUCTIONS": "AVX512"}
Given = Callable[[slice], Tensor]  # an operation on some of its rows -> their results [rows, ...]


def rows(width: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(MOST, width).to(dtype)


def linear(width: int, out: int, dtype: torch.dtype, with_residual: bool = False) -> Given:
    x, weight, residual = rows(width, dtype), torch.randn(out, width).to(dtype), rows(out, dtype)
    return lambda at: reference.linear(x[at], weight, residual[at] if with_residual else None)


def fp8_linear(width: int, out: int) -> Given:
    x, weight = rows(width, torch.bfloat16), quantize(torch.randn(out, width), "block")
    return lambda at: reference.linear(quantize(x[at], "group"), weight)


def head(width: int, out: int) -> Given:
    x, weight = rows(width, torch.bfloat16), torch.randn(out, width).to(torch.bfloat16)
    return lambda at: reference.head(x[at], weight)


def route(width: int, experts: int) -> Given:
    x, gate, bias = rows(width, torch.bfloat16), torch.randn(experts, width) * 0.1, torch.zeros(experts)
    return lambda at: reference.route(x[at], gate, bias, 2, 1).weights


def swiglu(width: int) -> Given:
    x = rows(2 * width, torch.float32) * 3
    return lambda at: reference.swiglu(x[at], None)


def cross_attention(heads: int, width: int, context: int) -> Given:
    """Rows are beams."""
    q = torch.randn(1, MOST, heads, width).bfloat16()
    keys, values = torch.randn(2, 1, context, heads, width).bfloat16()
    lengths = torch.tensor([context - 1])
    return lambda at: reference.cross_attention(q[:, at], keys, values, lengths, None)


def cross_attention_of_requests(heads: int, width: int, context: int) -> Given:
    q = torch.randn(MOST, 1, heads, width)
    keys, values = torch.randn(2, MOST, context, heads, width)
    lengths = torch.randint(1, context + 1, (MOST,))
    return lambda at: reference.cross_attention(q[at], keys[at], values[at], lengths[at], None)


def self_attention(heads: int, width: int) -> Given:
    qkv, first, second = torch.randn(3, MOST, 1, 3, heads, width).bfloat16()
    zero = torch.zeros(MOST, 1, dtype=torch.long)
    return lambda at: reference.self_attention(qkv[at], [first[at], second[at]], [zero[at], zero[at]], None)


def rope(heads: int, width: int, dtype: torch.dtype) -> Given:
    qkv, positions, norms = rows(3 * heads * width, dtype), torch.arange(MOST), torch.rand(2, width)
    turns = torch.randn(MOST, width)
    return lambda at: reference.rope(qkv[at], turns, positions[at], heads, (norms[0], norms[1]), 1e-6)[0]


def log_norm(width: int, vocabulary: int) -> Given:
    x, weight = rows(width, torch.float32), torch.randn(vocabulary, width)
    return lambda at: reference.log_norm(x[at], weight)


def prefill_attention(heads: int, width: int, longest: int) -> Given:
    """Rows are requests, whose last tokens are told; a third of a context is not new."""
    lengths = torch.randint(1, longest + 1, (MOST,))
    q, keys, values = torch.randn(3, int(lengths.sum()), heads, width)
    first, new = F.pad(lengths.cumsum(0), (1, 0)), lengths - lengths // 3

    def run(at: slice) -> Tensor:
        queries = F.pad(new[at].cumsum(0), (1, 0))
        asked = torch.cat([q[end - count : end] for end, count in zip(first[1:][at], new[at], strict=True)])
        found = reference.prefill_attention(asked, keys, values, Spans(queries, first[:-1][at], lengths[at]), None)
        assert isinstance(found, Tensor)
        return found[queries[1:] - 1]

    return run


def beam_attention(heads: int, width: int, context: int) -> Given:
    """Rows are beams."""
    q, k, v, first, second = torch.randn(5, 1, MOST, heads, width)
    keys, values = torch.randn(2, context, heads, width)
    own, first_row, length = torch.arange(MOST)[None], torch.tensor([1]), torch.tensor([context - 1])
    past = [(first, second), (second, first)]
    return lambda at: reference.beam_attention(
        q[:, at], k[:, at], v[:, at], past, [own[:, at], own[:, at]], keys, values, first_row, length, None
    )


def beam_attention_of_requests(heads: int, width: int, context: int) -> Given:
    q, k, v = torch.randn(3, MOST, 2, heads, width)
    lengths = torch.randint(1, context + 1, (MOST,))
    keys, values = torch.randn(2, int(lengths.sum()), heads, width)
    first = lengths.cumsum(0) - lengths

    def run(at: slice) -> Tensor:
        found = reference.beam_attention(q[at], k[at], v[at], [], [], keys, values, first[at], lengths[at], None)
        assert isinstance(found, Tensor)
        return found.view(len(lengths[at]), -1)

    return run


def moe(width: int, hidden: int, fp8: bool) -> Given:
    """Rows are those of one expert: the first stays there, whatever rows come with it."""
    x = rows(width, torch.bfloat16)
    gate_up, down = torch.randn(2, 2 * hidden, width) * 0.1, torch.randn(2, width, hidden) * 0.1
    weights = [quantize(w, "block") if fp8 else w.bfloat16() for w in (gate_up, down)]

    def run(at: slice) -> Tensor:
        routing = Routing(torch.zeros(len(x[at]), 1, dtype=torch.long), torch.ones(len(x[at]), 1))
        return reference.moe(x[at], routing, *weights, "group" if fp8 else None)

    return run


CASES: dict[str, Callable[[], Given]] = {
    **{
        f"linear {width} -> {out} {str(dtype)[6:]}": lambda width=width, out=out, dtype=dtype: linear(width, out, dtype)
        for width, out in ((128, 53), (1408, 5), (33, 1))
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    },
    "linear, many columns": lambda: linear(352, 128, torch.float32),
    "linear, 16 bit and many columns": lambda: linear(1408, 300, torch.bfloat16),
    "linear with a residual": lambda: linear(352, 53, torch.bfloat16, True),
    "linear with a residual, float32": lambda: linear(352, 53, torch.float32, True),
    "linear in FP8": lambda: fp8_linear(1408, 130),
    "linear in FP8, odd widths": lambda: fp8_linear(77, 53),
    "head": lambda: head(128, 257),
    "route": lambda: route(1408, 53),
    "route to few": lambda: route(33, 5),
    "swiglu": lambda: swiglu(128),
    "swiglu, odd width": lambda: swiglu(3),
    "cross-attention": lambda: cross_attention(3, 33, 53),
    "cross-attention, one head": lambda: cross_attention(1, 128, 257),
    "cross-attention of requests": lambda: cross_attention_of_requests(2, 64, 20),
    "self-attention": lambda: self_attention(3, 33),
    "rope": lambda: rope(3, 34, torch.float32),
    "rope, 16 bit": lambda: rope(2, 128, torch.bfloat16),
    "log-norm": lambda: log_norm(128, 2**14 + 37),
    "attention over prompts": lambda: prefill_attention(3, 34, 40),
    "attention of beams": lambda: beam_attention(3, 33, 53),
    "attention of beams, wide": lambda: beam_attention(2, 128, 300),
    "attention of requests' beams": lambda: beam_attention_of_requests(3, 34, 40),
    "moe": lambda: moe(1408, 16, fp8=False),
    "moe in FP8": lambda: moe(1408, 16, fp8=True),
    "moe, odd widths": lambda: moe(33, 29, fp8=False),
}


def unsteady(name: str) -> list[str]:
    """What differs from all rows at once: a row of its own, a part, an end, under one thread or two."""
    torch.manual_seed(0)
    run = CASES[name]()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        together = run(slice(0, MOST))
        parts = [at for at in PARTS if not run(at).equal(together[at])]
        found += [f"{name}: rows {at.start} to {at.stop}, threads {threads}" for at in parts]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("environment", [HERE, AVX2, AVX512], ids=["as it is", "AVX2", "AVX512"])
def test_a_row_does_not_depend_on_its_neighbours_under(environment: dict[str, str]) -> None:
    has = torch.backends.cpu.get_cpu_capability()
    if environment is not HERE and not (has == "AVX512" or (has == "AVX2" and environment is AVX2)):
        pytest.skip(f"this processor's best instruction set is {has}")
    inherited = {name: value for name, value in os.environ.items() if name not in AVX2}  # read when torch is imported
    out = subprocess.run(
        [sys.executable, __file__], env={**inherited, **environment}, capture_output=True, text=True, timeout=120
    )
    assert out.returncode == 0, out.stdout + out.stderr


def test_a_product_is_the_plain_one_with_its_gradient() -> None:
    x, weight, residual = torch.randn(40, 19), torch.randn(7, 19), torch.randn(40, 7)
    torch.testing.assert_close(steady.product(x, weight, residual), residual + x @ weight.T)
    narrow = [t.bfloat16() for t in (x, weight, residual)]
    torch.testing.assert_close(steady.product(*narrow), torch.addmm(narrow[2], narrow[0], narrow[1].T))
    many = torch.randn(3, 2, 40, 19), torch.randn(3, 2, 7, 19)
    torch.testing.assert_close(steady.product(*many), many[0] @ many[1].mT)
    assert steady.product(x[:0], weight).shape == (0, 7)
    weight.requires_grad_()
    steady.product(x, weight, residual).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(7, -1))


@pytest.mark.parametrize("most", [1, 2, 12, 16, 17])
def test_a_norm_of_a_product_does_not_depend_on_the_number_of_rows(most: int) -> None:
    x, weight = rows(24, torch.float32), torch.randn(32, 24)

    def normed(some: Tensor) -> Tensor:
        out = reference.rms_norm(reference.linear(some, weight), torch.ones(32), 1e-6)
        assert isinstance(out, Tensor)
        return out

    assert torch.equal(normed(x[:most]), normed(x)[:most])
    assert steady.product(x[:most], weight).is_contiguous()


def test_a_sigmoid_is_the_plain_one() -> None:
    x = torch.cat([torch.linspace(-120, 120, 1001), torch.tensor([float("nan"), float("inf")])])
    torch.testing.assert_close(steady.sigmoid(x), x.sigmoid(), equal_nan=True)
    torch.testing.assert_close(steady.silu(x), torch.nn.functional.silu(x), equal_nan=True)


def test_a_sigmoid_does_not_depend_on_its_place() -> None:
    x = torch.randn(999) * 3
    for function in (steady.sigmoid, steady.silu):
        assert torch.cat([function(value) for value in x.split(1)]).equal(function(x))


if __name__ == "__main__":
    with torch.inference_mode():
        problems = [line for name in CASES for line in unsteady(name)]
    print("\n".join(problems))
    sys.exit(1 if problems else 0)
