"""Every kernel, as each card's record lays it out, compiles within the shared memory that a block has on that card."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sm90
import test_beam_attention
import test_beam_step
import test_cross_attention
import test_gemm
import test_log_norm
import test_maybe_quantize
import test_moe
import test_plan
import test_prefill_attention
import test_rms_norm
import test_rope
import test_route
import test_self_attention
import test_swiglu

from octorec import kernels
from octorec.kernels.products import HOPPER

Launch = tuple[Callable[..., Any], tuple[Any, ...]]
LAUNCHES: dict[str, Launch] = {
    **{name: (test_gemm.launch, (name,)) for name in test_gemm.LAUNCHES},
    **{
        f"cross-attention {shape} {granularity}": (test_cross_attention.launch, (*shape, granularity))
        for shape in ((512, 11, 128, True), *test_cross_attention.OTHERS)
        for granularity in (None, "group")
    },
    "self-attention": (test_self_attention.launch, (32, 512, 11, 128, (1, 512), "group")),
    "beams over contexts": (test_beam_attention.launch, (test_beam_attention.LARGE["1.7B"], None, None)),
    "prompts": (test_prefill_attention.launch, ("1.7B", "group", None)),
    "rope": (test_rope.launch, (16, 8, 128)),
    "log-norm": (test_log_norm.launch, (2048, 151_939, 2048, None)),
    "beam step": (test_beam_step.launch, (32, 512, 16384, True)),
    "beam step, wide": (test_beam_step.launch, (4, 1024, 8192, True)),
    "route": (test_route.launch, (16384,)),
    "experts in 16 bit": (test_moe.launch, (None, 16384)),
    "experts by groups": (test_moe.launch, ("group", 16384)),
    "experts by rows": (test_moe.launch, ("token", 16384)),
    "plan": (test_plan.launch, (16384,)),
    "norm": (test_rms_norm.launch, (16384, 1408, "token")),
    "SwiGLU": (test_swiglu.launch, (16384, 5632, "token")),
    "cast": (test_maybe_quantize.launch, ((54, 2816, 1408), "block")),
}
HOPPERS: dict[str, Launch] = {  # which serve this card where a tiling is asked for
    "prompts, warps together": (test_prefill_attention.launch, ("1.7B", "group", HOPPER.attention))
}
FAST = [(120, "cross-attention (512, 11, 128, False) group")]
SLOW = [(c, name) for c in sm90.MAX_SHARED for name in LAUNCHES if (c, name) not in FAST]
SLOW += [(90, name) for name in HOPPERS]


@pytest.mark.parametrize(
    ("capability", "name"), [*FAST, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)]
)
def test_fits(capability: int, name: str) -> None:
    call, given = {**LAUNCHES, **HOPPERS}[name]
    for code in sm90.compile_launches(call, *given, capability=capability):
        assert code.shared <= sm90.MAX_SHARED[capability], code.name


def launched(source: str) -> Iterator[str]:
    """The kernels that a module's text launches, `kernel[grid](...)`, once a place."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
            yield ast.unparse(node.func.value)


def test_every_kernel_of_the_package_is_launched_by_an_entry() -> None:
    assert [*launched("_norm[(rows,)](x, WIDTH=2)\nplan(x)[0]\n")] == ["_norm"]
    files = Path(*kernels.__path__).glob("*.py")
    names = sorted(name for file in files for name in {*launched(file.read_text())})
    assert len(names) == len({*names}), "two kernels of one name cannot be told from each other here"
    asked = [(c, *entry) for c in sm90.MAX_SHARED for entry in LAUNCHES.values()]
    asked += [(90, *entry) for entry in HOPPERS.values()]
    found = {one.name for c, call, given in asked for one in sm90.launches(call, *given, capability=c)}
    assert {*names} - found == set(), "add an entry to LAUNCHES"
    assert len(names) > 15
