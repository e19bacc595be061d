# mypy: allow-untyped-defs
"""A kernel's programs start while the last ones of the kernel before it still run (programmatic dependent launch).

A search is some 700 short launches one after another, and between two of them a card stands idle for about a
microsecond. With `launch_pdl=overlaps(device, rows)` a kernel's programs are placed as soon as there is room for them,
and wait inside for all that the kernels before have written. So it must call `wait_for_inputs` before it reads or
writes any memory; results are the same to the bit.
"""

import torch
import triton
import triton.language as tl

from octorec.kernels.device import card_of

FEW_ROWS = 4096  # from so many on, programs that wait take room from those that work: an H200 loses 1 to 2 %


def overlaps(device: torch.device, rows: int) -> bool:
    """Tell whether a kernel over so many rows starts before the last one ends: few rows, on a card that can."""
    return rows < FEW_ROWS and card_of(device).overlaps


@triton.jit
def wait_for_inputs():
    """Wait until the kernels before this one have ended, and let the next one's programs be placed, to wait in turn.

    The wait comes first, so that a kernel's end means the end of all before it.
    """
    if tl.target_info.cuda_capability_geq(9, 0):
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
