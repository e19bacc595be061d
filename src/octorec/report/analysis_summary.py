"""Sum up an analysis for its report's first screen, from the same numbers as the sections below it."""

from collections.abc import Sequence

from octorec.numerics.advice import MAX_OUTPUT_ERROR, ModelDecision
from octorec.numerics.analysis import Analysis, values
from octorec.report.page import Summary, Tone

BADGES: dict[ModelDecision, tuple[Tone, str]] = {
    "quantize": ("good", "FP8 fits these weights"),
    "quantize in part": ("unsure", "FP8 fits a part of these weights"),
    "keep in 16 bit": ("bad", "Leave these weights in 16 bit"),
}
NEXT = "Whether recommendations stay as good must be measured: octorec prove compares both on your interactions."


def summed_up(analysis: Analysis, made: Sequence[tuple[str, str]]) -> Summary:
    """Return the first screen: what is advised and why, bytes, the bound on speed, and how the page came about."""
    advice, speed = analysis.advice, analysis.speed
    tone, badge = BADGES[advice.outcome]
    facts = [
        ("Advice", advice.outcome),
        ("Tensors", f"{len(analysis.weights):,}, {values(analysis.weights):,} values"),
        ("Family", analysis.family),
        ("Products in FP8", f"{advice.flops_share:.1%} of their FLOPs"),
        ("Matrices", f"{advice.bytes_16 / 1e6:,.1f} MB in 16 bit, {advice.bytes_after / 1e6:,.1f} MB as advised"),
        ("Speed", f"at most {speed.gain:.2f} x on an {speed.gpu.name}, by its peak rates; not measured"),
        ("Error of outputs", _error(analysis)),
    ]
    return Summary(badge, tone, [advice.reason, NEXT], facts, made)


def _error(analysis: Analysis) -> str:
    measured = [layer for layer in analysis.advice.layers if layer.output_error is not None]
    if not measured:
        return "not measured: give interactions with --data"
    worst = max(measured, key=lambda layer: layer.output_error or 0.0)
    return f"at most {worst.output_error:.1%} (limit {MAX_OUTPUT_ERROR:.1%}), {worst.module}"
