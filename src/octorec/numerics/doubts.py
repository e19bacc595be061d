"""The doubts of an advice are its products that are not plainly safe in FP8, few enough for people to read."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from octorec.numerics.advice import LayerAdvice
from octorec.numerics.analysis import DECISIONS, natural, pattern, spans
from octorec.numerics.roles import MATRIX_ROLES

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Doubt:
    """A Doubt is products whose names differ in numbers alone, with one decision for one kind of reason.

    name: with the numbers of their blocks, or `*` for all of that name. matrices: how many. decision: in words.
    reason: with the least and the largest of each number in it. flops: a row, what is left at 16-bit speed.
    """

    name: str
    matrices: int
    decision: str
    reason: str
    flops: float


def doubts(layers: Sequence[LayerAdvice]) -> list[Doubt]:
    """Return all products for which a scale a channel is not enough: those kept in 16 bit first, by what they cost."""
    groups: dict[tuple[str, str, str], list[LayerAdvice]] = defaultdict(list)
    for layer in sorted(layers, key=lambda layer: natural(layer.module)):
        if layer.role in MATRIX_ROLES and layer.decision != "channel":
            groups[pattern(layer.module), layer.decision, NUMBER.sub("#", _reason(layer))].append(layer)
    named = Counter(pattern(layer.module) for layer in layers)
    found = [_doubt(group, len(group) == named[name]) for (name, _, _), group in groups.items()]
    return sorted(found, key=lambda doubt: -doubt.flops)


def _doubt(group: list[LayerAdvice], whole: bool) -> Doubt:
    name = pattern(group[0].module) if whole else spans([layer.module for layer in group])
    reason, flops = _merged([_reason(layer) for layer in group]), sum(layer.extra_flops for layer in group)
    return Doubt(name if len(group) > 1 else group[0].module, len(group), DECISIONS[group[0].decision], reason, flops)


def _reason(layer: LayerAdvice) -> str:
    """Return the reason, in which the layer itself has no name and others are of any block."""
    said = layer.reason
    for part in ("weights", "input", "output"):
        said = said.replace(f"the {part} of {layer.module}", f"its {part}")
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", said.replace(layer.module, "it"))


def _merged(reasons: Sequence[str]) -> str:
    """Merge reasons that differ in nothing but numbers."""
    ends = []
    for numbers in zip(*map(NUMBER.findall, reasons), strict=True):
        low, *_, high = sorted([*numbers, numbers[0]], key=lambda text: float(text.replace(",", "")))
        ends.append(low if low == high else f"{low} to {high}")
    place = iter(ends)
    return NUMBER.sub(lambda _: next(place), reasons[0])
