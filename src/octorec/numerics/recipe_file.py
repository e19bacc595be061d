"""An advice is written as a recipe that `octorec quantize --recipe FILE` takes."""

import re
from collections import defaultdict
from collections.abc import Sequence

import yaml

from octorec.numerics.advice import Advice
from octorec.quant.patterns import LONGEST, MOST
from octorec.quant.products import ACTIVATIONS

HEAD = """\
# Written by `octorec analyze`: {outcome}.
# {reason}
# A pattern is a regular expression that must match a module's whole name; what none matches stays in 16 bit.
"""


def recipe_text(advice: Advice) -> str | None:
    """Return the recipe as YAML; None when every layer stays in 16 bit, for a recipe has to quantize something."""
    modules = [layer.module for layer in advice.layers]
    groups = []
    for decision in ("channel", "block"):
        chosen = [layer.module for layer in advice.layers if layer.decision == decision]
        if chosen:
            targets = patterns(chosen, sorted(set(modules) - set(chosen)))
            groups.append({"targets": targets, "weights": decision, "activations": ACTIVATIONS[decision]})
    if not groups:
        return None
    head = HEAD.format(outcome=advice.outcome, reason=advice.reason)
    return head + yaml.safe_dump({"name": "analyzed", "groups": groups}, sort_keys=False, width=1000)


def patterns(chosen: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return few regular expressions that match every name of `chosen` as a whole and none of `others`.

    Numbers become `\\d+` where no other name has the same template; else the first number (a block's) becomes a choice
    of those that are chosen; else names are written out.
    """
    foreign: dict[str, list[str]] = defaultdict(list)
    for other in others:
        foreign[_template(other)].append(other)
    alike: dict[str, list[str]] = defaultdict(list)
    for module in chosen:
        alike[_template(module)].append(module)
    out = []
    for template, members in alike.items():
        if not foreign[template] and len(template) <= LONGEST:
            out.append(template)
            continue
        first = sorted({found[0] for member in members if (found := re.search("[0-9]+", member))}, key=_by_size)
        narrowed = template.replace(r"\d+", f"({'|'.join(first)})", 1) if first else template
        if len(narrowed) > LONGEST or any(re.fullmatch(narrowed, other) for other in foreign[template]):
            out += [re.escape(member) for member in members]
        else:
            out.append(narrowed)
    return out if sum(map(len, out)) <= MOST else [re.escape(module) for module in chosen]


def _template(module: str) -> str:
    return re.sub("[0-9]+", r"\\d+", re.escape(module))


def _by_size(number: str) -> tuple[int, str]:
    return len(number), number
