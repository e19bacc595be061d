"""A name map says which tensors of another program's checkpoint become which of ours, and what is done to them.

It is a YAML file:

    rules:
      - from: layers.{i}.attn.wqkv                   # {i} stands for an integer
        to:                                          # several: it is divided along its first dimension, in this order
          - blocks.{i}.self_attn.q_proj.weight
          - blocks.{i}.self_attn.k_proj.weight
          - blocks.{i}.self_attn.v_proj.weight
        transpose: true                              # a matrix [K, N] becomes [N, K], before it is divided
      - from: layers.{i}.moe.w2
        to: blocks.{i}.ffn.experts.{e}.down_proj.weight
        stack: e                                     # its first dimension counts {e}
    drop: ['*.rotary.inv_freq']                      # what is left out; as in a shell, * stands for any text

A letter's value is the same at every place of a rule. `docs/import.md` says it for users.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from octorec.errors import InputError, check_known
from octorec.reading import read_yaml

KEYS = ("from", "to", "transpose", "stack")
VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
INTEGER = "(?P<{name}>0|[1-9][0-9]{{0,8}})"  # bounded, so that a name is matched in bounded time
MOST_RULES, MOST_TARGETS, LONGEST = 1000, 4096, 500  # of a map, of a rule, characters of a template
TEMPLATE = f"must be a tensor's name of at most {LONGEST} characters, {{i}} in the place of an integer"


@dataclass(frozen=True)
class Rule:
    """A Rule turns each foreign tensor that `source` matches into tensors of ours.

    where: the file and number of the rule, for errors. source, targets: templates of names. stack: variables that the
    leading dimensions count. transpose: whether what remains is a matrix to be transposed.
    """

    where: str
    source: str
    targets: tuple[str, ...]
    transpose: bool = False
    stack: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_source = _variables(f"{self.where}: from", self.source)
        for name in self.stack:
            if name in of_source or self.stack.count(name) > 1:
                raise InputError(f"{self.where}: stack", name, "must be a variable that stands nowhere else")
        known = [*of_source, *self.stack]
        for target in self.targets:
            for name in _variables(f"{self.where}: to", target):
                if name not in known:
                    allowed = f"has {{{name}}}, whose value is not known: neither from nor stack has it"
                    raise InputError(f"{self.where}: to", target, allowed)
            if lost := [name for name in known if f"{{{name}}}" not in target]:
                allowed = f"lacks {{{lost[0]}}}: tensors that differ in it would become one"
                raise InputError(f"{self.where}: to", target, allowed)

    def match(self, name: str) -> dict[str, int] | None:
        """Return the variables' values where `source` matches the whole of a foreign name; else None."""
        found = self._pattern.fullmatch(name)
        return {key: int(value) for key, value in found.groupdict().items()} if found else None

    def names(self, values: dict[str, int]) -> tuple[str, ...]:
        """Return the names of ours for the variables' values."""
        return tuple(VARIABLE.sub(lambda found: str(values[found[1]]), target) for target in self.targets)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pattern, seen = "", set[str]()
        for place, part in enumerate(VARIABLE.split(self.source)):  # text and variables alternate
            if place % 2 == 0:
                pattern += re.escape(part)
            else:
                pattern += f"(?P={part})" if part in seen else INTEGER.format(name=part)
                seen.add(part)
        return re.compile(pattern)


@dataclass(frozen=True)
class NameMap:
    """A NameMap holds the rules of a file, and the patterns of what is knowingly left out."""

    path: str
    rules: tuple[Rule, ...]
    drop: tuple[str, ...]


def read_map(path: str | Path) -> NameMap:
    """Read a name map. Raises InputError for what is no YAML, an unknown key, and a value that is none of its kind."""
    raw = read_yaml(path, "map")
    check_known(f"{path}", raw, ("rules", "drop"))
    rules = raw.get("rules")
    if not isinstance(rules, list) or not 1 <= len(rules) <= MOST_RULES:
        raise InputError(f"{path}: rules", rules, f"must be a list of 1 to {MOST_RULES:,} rules")
    read = tuple(_rule(f"{path}: rule {number}", rule) for number, rule in enumerate(rules, 1))
    return NameMap(str(path), read, _texts(f"{path}: drop", raw.get("drop", []), MOST_RULES, "must be patterns"))


def _rule(where: str, raw: Any) -> Rule:
    check_known(where, raw, KEYS)
    for key in ("from", "to"):
        if key not in raw:
            raise InputError(f"{where}: {key}", None, "is required")
    targets = _texts(f"{where}: to", raw["to"], MOST_TARGETS, TEMPLATE)
    if not targets:
        raise InputError(f"{where}: to", raw["to"], "names no tensor: what is left out stands under `drop`")
    stack = _texts(f"{where}: stack", raw.get("stack", []), 4, "must be variables, such as e")
    transpose = raw.get("transpose", False)
    if not isinstance(transpose, bool):
        raise InputError(f"{where}: transpose", transpose, "allowed: true, false")
    for name in stack:
        if not VARIABLE.fullmatch(f"{{{name}}}"):
            raise InputError(f"{where}: stack", name, "must be a variable, such as e")
    (source,) = _texts(f"{where}: from", [raw["from"]], 1, TEMPLATE)
    return Rule(where, source, targets, transpose, stack)


def _texts(field: str, value: Any, most: int, allowed: str) -> tuple[str, ...]:
    """Return a text or a list of texts, as a tuple."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > most:
        raise InputError(field, value, f"must be a text or a list of at most {most:,} texts")
    for text in texts:
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST:
            raise InputError(field, text, allowed)
    return tuple(texts)


def _variables(field: str, template: str) -> list[str]:
    """Return the variables of a template.

    Raises InputError for other braces, and for two variables with nothing between.
    """
    if set("{}") & set(VARIABLE.sub("", template)):
        raise InputError(field, template, "braces hold a variable: a small letter, then letters, digits and _")
    if "}{" in template:
        raise InputError(field, template, "between two variables there must be a text")
    return VARIABLE.findall(template)
