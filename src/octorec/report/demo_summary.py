"""Sum up the demo for its report's first screen, and say what it shows of larger models, all from the same numbers."""

from collections.abc import Mapping, Sequence

from octorec.evaluate.compare import Comparison
from octorec.evaluate.margin import percent
from octorec.evaluate.paired import Estimate
from octorec.evaluate.verdict import Outcome
from octorec.numerics.analysis import Analysis, values
from octorec.quant.convert import QuantizationReport
from octorec.report import judged_plots
from octorec.report.page import Figure, Section, Summary, Text, Tone
from octorec.report.verdict import FLOORS, said_ends, said_lead, said_value

BADGES: dict[Outcome, tuple[Tone, str]] = {
    "not_inferior": ("good", "FP8 is safe here: not inferior"),
    "inferior": ("bad", "FP8 costs quality here: inferior"),
    "inconclusive": ("unsure", "Not decided: more people are needed"),
}


def lead(analysis: Analysis, comparison: Comparison) -> str:
    """Return a sentence that says what was done."""
    return (
        f"A OneRec-V2 MoE of {values(analysis.weights) / 1e6:.1f} million parameters, trained on MovieLens-100K, "
        f"quantized to FP8, and judged against its 16-bit parent on {comparison.targets:,} interactions of "
        f"{comparison.users:,} people that neither had seen: each one's last ones, one at a time, films already rated "
        "excluded."
    )


def summed_up(
    comparison: Comparison,
    leads: Mapping[str, Mapping[str, Estimate]],
    quantized: QuantizationReport,
    analysis: Analysis,
    made: Sequence[tuple[str, str]],
) -> Summary:
    """Return the first screen: the verdict, its interval as a picture, bytes, speed, and how the page came about."""
    verdict = comparison.verdict
    tone, badge = BADGES[verdict.outcome]
    decisive = {name: comparison.differences[name] for name in verdict.metrics}
    before, after = quantized.total_bytes_before, quantized.total_bytes_after
    facts = [
        *((name, _sides(comparison, name)) for name in verdict.metrics),
        (
            "Lists of ten",
            f"{comparison.agreement.overlap:.1%} in both; {comparison.agreement.identical:.0%} of lists equal",
        ),
        ("Bytes", f"{before / 1e6:.2f} MB to {after / 1e6:.2f} MB ({after / before:.0%}), whole checkpoint"),
        ("Speed", _speed(analysis)),
        ("Beside floors", _floors(leads)),
    ]
    caption = "; ".join(
        f"{name} {said_value(one, '{:+.2%}')} ({said_ends(one, '{:+.2%}')})" for name, one in decisive.items()
    )
    figure = Figure(judged_plots.margin(decisive, verdict.margin), caption)
    return Summary(badge, tone, [reason(comparison)], facts, made, figure)


def reason(comparison: Comparison) -> str:
    """Say why the verdict is what it is, from the numbers of the picture beside it."""
    verdict = comparison.verdict
    margin = percent(verdict.margin)
    ends = " and ".join(f"{name} {said_ends(comparison.differences[name], '{:+.2%}')}" for name in verdict.metrics)
    if verdict.outcome == "not_inferior":
        return f"With 95 % confidence FP8 loses less than {margin} of the 16-bit model's hits: {ends}."
    if verdict.outcome == "inferior":
        return f"With 95 % confidence FP8 loses more than {margin}: {ends}."
    needed = verdict.users_needed
    decided = f"About {needed:,} people like these would decide it" if needed else "No number of people would decide it"
    return f"The loss may be more than {margin} or less: {ends}. {decided}."


def floor_words(leads: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Return a sentence for each floor and metric: whether the model lies above, level or below."""
    return [f"{said_lead('BF16', name, metric, one)}." for name, of in leads.items() for metric, one in of.items()]


def what_it_says(analysis: Analysis, comparison: Comparison) -> Section:
    """Say what a model this small shows about one of billions of parameters, and what it does not."""
    count = values(analysis.weights)
    widest = max((stats.width for stats in analysis.activations), default=None)
    width = f" Its products sum over at most {widest:,} values, those of a 4 B model over far more." if widest else ""
    says = (
        "It says that the whole way works: the code that trained, analyzed, quantized and judged these "
        f"{count / 1e6:.1f} million parameters is the one for 4 billion, and a verdict there is read as this one is: "
        "an interval beside a margin that was set beforehand."
    )
    not_says = (
        "It does not say that FP8 is safe at 4 B. The outliers that harm FP8 are found in larger and longer trained "
        f"models, and this one is about {4e9 / count:,.0f} times smaller.{width} Judge your own checkpoint: octorec "
        "analyze, then octorec prove."
    )
    speed = (
        "Nor does it say how fast FP8 is. This ran on a CPU, where FP8 saves bytes alone; the speed given above is a "
        "bound for one card from its peak rates, not a measurement."
    )
    quality = (
        f"Nor does it say how good recommendations can be: it learned from {comparison.users:,} people for minutes. "
        "The floors say how far that comes."
    )
    return Section("What this says about a 4 B model", [Text(says), Text(not_says), Text(speed), Text(quality)])


def _sides(comparison: Comparison, name: str) -> str:
    one = comparison.differences[name]
    sides = f"{comparison.baseline[name]:.4f} in 16 bit, {comparison.candidate[name]:.4f} in FP8"
    return f"{sides}: {said_value(one, '{:+.2%}')} ({said_ends(one, '{:+.2%}')})"


def _speed(analysis: Analysis) -> str:
    speed = analysis.speed
    return f"not measured here; at most {speed.gain:.2f} x on an {speed.gpu.name}, by its peak rates"


def _floors(leads: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Say of each floor by which metrics BF16 is above it, level or below."""
    words = {1: "above", 0: "level", -1: "below"}
    lines = []
    for name, of in leads.items():
        sides = (f"{words[(one.low > 0) - (one.high < 0)]} by {metric}" for metric, one in of.items())
        lines.append(f"{FLOORS[name]}: {', '.join(sides)}")
    return "; ".join(lines)


def shortfall(leads: Mapping[str, Mapping[str, Estimate]], examples: int) -> list[str]:
    """Say why the model lies below a floor by its mean, where it does; nothing where it lies above all."""
    below = [
        f"{metric} of the {FLOORS[name]} (by {-one.value:.4f})"
        for name, of in leads.items()
        for metric, one in of.items()
        if one.value < 0
    ]
    if not below:
        return []
    return [
        f"The model does not reach {' and '.join(below)}. A Markov chain looks up which films were rated right "
        f"after which. The model must find that order in {examples:,} examples, within the minutes of a "
        "demo, through codes that films share."
    ]
