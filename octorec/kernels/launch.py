# mypy: allow-untyped-defs
"""Dependent launch: a kernel starts while the one before it in the stream ends (compute capability 9.0 and later).

What that hides is the launch and the start of each program. Nothing else may run early: memory that a kernel reads was
written, and memory that it writes was read, by kernels before it. So every kernel launched with `launch` calls `begin`
before it touches global memory. As all of them do, a kernel's end means that all before it have ended too. Kernels
that are launched otherwise (torch's, cuBLAS's) wait for a whole kernel on their own.
"""

import functools

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from octorec.kernels.device import capability

DEPENDENT_LAUNCH = True  # False: each kernel starts when the one before it has ended


def launch(device: torch.device) -> dict[str, bool]:
    """Options for a launch there of a kernel that takes `PDL` (programmatic dependent launch) and begins with `begin`.

    Neither the interpreter nor a GPU before Hopper has what `begin` asks for.
    """
    return _options(device) if device.index is None else _numbered(device)


def _options(device: torch.device) -> dict[str, bool]:
    possible = device.type in ("cuda", "meta") and not triton.knobs.runtime.interpret
    if DEPENDENT_LAUNCH and possible and capability(device) >= (9, 0):
        return {"PDL": True, "launch_pdl": True}
    return {"PDL": False}


_numbered = functools.cache(_options)  # GPUs; meta tensors have no number, and their GPU may change


@triton.jit
def begin(PDL: tl.constexpr):
    """Wait until the kernel before this one has ended and its writes can be seen, and let the next one start.

    The next one waits in turn for all of this one, so the earlier it is let go, the better.
    """
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
