"""What a kernel becomes on a GPU that is not here: compile its launches to machine code and read that.

`compile_launches` runs a call on meta tensors in a process of its own, where Triton is not interpreting and believes in
a GPU of the wanted compute capability. Each launch is specialised exactly as on that GPU, compiled and not run.
"""

import functools
import math
import multiprocessing
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

# bytes of shared memory a block: CUDA's programming guide, technical specifications by compute capability
MAX_SHARED = {89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
CAPABILITIES = [90, pytest.param(89, marks=pytest.mark.slow)]


@dataclass(frozen=True)
class MachineCode:
    """One compiled launch.

    instructions: opcodes with their counts, as `cuobjdump -sass` prints them up to the first dot.
    registers a thread, warps a program, shared bytes a program.
    """

    name: str
    instructions: dict[str, int]
    registers: int
    warps: int
    shared: int

    @property
    def spills(self) -> int:
        """Loads from and stores to local memory."""
        return self.instructions.get("LDL", 0) + self.instructions.get("STL", 0)

    def uses(self, opcode: str) -> bool:
        """QGMMA is the FP8 tensor core of sm_90, HGMMA its 16-bit one; QMMA and HMMA are the older ones' names."""
        return opcode in self.instructions


def compile_launches(call: Callable[..., Any], *args: Any, capability: int = 90) -> list[MachineCode]:
    """The machine code of every Triton launch that `call(*args)` makes, in order; `call` is a module's function."""
    return _worker().submit(_compile_launches, call, args, capability).result()


@dataclass(frozen=True)
class Launch:
    """A launch that was not made: the kernel, how many programs, and what is compiled in (names in capitals)."""

    name: str
    programs: int
    constants: dict[str, Any]


def launches(call: Callable[..., Any], *args: Any, capability: int = 90) -> list[Launch]:
    """Every Triton launch, and every FP8 product of torch, that `call(*args)` would make, in order; none is made."""
    return _worker().submit(_launches, call, args, capability).result()


@functools.cache
def _worker() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_compile_for_real)


def _compile_for_real() -> None:
    os.environ.pop("TRITON_INTERPRET", None)


class _PretendedGPU:
    """A Triton driver of which only the target is ever asked; the device's number is its compute capability."""

    def __init__(self, capability: int):
        self.capability = capability

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)


def _compile_launches(call: Callable[..., Any], args: tuple[Any, ...], capability: int) -> list[MachineCode]:
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    run, found = JITFunction.run, []

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        found.append(_read(kernel))
        return kernel

    driver.set_active(_PretendedGPU(capability))
    JITFunction.run = compile_only
    try:
        call(*args)
    finally:
        JITFunction.run = run
    return found


def _launches(call: Callable[..., Any], args: tuple[Any, ...], capability: int) -> list[Launch]:
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    run, product, found = JITFunction.run, torch._scaled_mm, []

    def note(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        constants = {name: value for name, value in kwargs.items() if name.isupper() or name.startswith("num_")}
        found.append(Launch(self.__name__, math.prod(grid), constants))

    def note_torch(x: torch.Tensor, weight: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        found.append(Launch("torch", 0, {"FAST": kwargs["use_fast_accum"]}))
        return torch.empty(len(x), weight.shape[1], dtype=kwargs["out_dtype"], device=x.device)

    driver.set_active(_PretendedGPU(capability))
    JITFunction.run, torch._scaled_mm = note, note_torch
    try:
        call(*args)
    finally:
        JITFunction.run, torch._scaled_mm = run, product
    return found


def _read(kernel: Any) -> MachineCode:
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        text = subprocess.run([tool, "-sass", "-res-usage", file.name], check=True, capture_output=True, text=True)
    opcodes = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+ )?([A-Z][A-Z0-9]*)", text.stdout, re.MULTILINE)
    counts = dict(Counter(opcodes))
    registers = int(re.search(r"REG:(\d+)", text.stdout + text.stderr)[1])
    return MachineCode(kernel.name, counts, registers, kernel.metadata.num_warps, kernel.metadata.shared)


def check_specialised(code: MachineCode, name: str, product: str) -> None:
    """Check kernel `name`, whose warps divide the work: tensor cores by `product`, memory accelerator, no spills."""
    assert code.name == name
    for opcode in (product, "UTMALDG", "UTMASTG", "USETMAXREG"):
        assert code.uses(opcode), f"{name} has no {opcode}"
    assert code.spills == 0
    assert code.shared <= MAX_SHARED[90]
