"""This is the table of the operations on a GPU: each is a Triton kernel of its own file, or one call of a library.

This module is an `Ops`, and imports triton; `ops_for` in `kernels.device` imports it where there is a GPU. What a
kernel cannot do is an InputError that says what to do: nothing falls back to the references by itself.
"""

from octorec.kernels import reference, stock
from octorec.kernels.attend import check_head_width
from octorec.kernels.beam_attention import beam_attention as beam_attention
from octorec.kernels.beam_step import beam_step as beam_step
from octorec.kernels.beam_tiling import check_beams as check_beams
from octorec.kernels.cross_attention import cross_attention as cross_attention
from octorec.kernels.device import check_device as check_device
from octorec.kernels.linear import linear as linear
from octorec.kernels.log_norm import log_norm as log_norm
from octorec.kernels.maybe_quantize import maybe_quantize as maybe_quantize
from octorec.kernels.moe import moe as moe
from octorec.kernels.ops import Sizes
from octorec.kernels.prefill_attention import prefill_attention as prefill_attention
from octorec.kernels.rms_norm import rms_norm as rms_norm
from octorec.kernels.rope import rope as rope
from octorec.kernels.route import check_experts
from octorec.kernels.route import route as route
from octorec.kernels.rows import row_groups
from octorec.kernels.self_attention import self_attention as self_attention
from octorec.kernels.swiglu import swiglu as swiglu

causal_attention = reference.causal_attention  # torch's own fused kernel, and for training only
head = stock.head


def check_sizes(sizes: Sizes) -> None:
    """Check each kernel's own limits."""
    for width in sorted(sizes.heads):
        check_head_width(width)
    for width in sorted(sizes.rows):
        row_groups(width)
    for experts, top_k in sorted(sizes.experts):
        check_experts(experts, top_k)
