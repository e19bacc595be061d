"""Patterns of recipes and of `quantization_config` are regular expressions that a stranger may have written.

They are matched by RE2 (pyarrow's), which never goes back in a name: its time is the pattern's length times the name's.
So look-around and back-references do not exist, but for one form, which compressed-tensors needs for groups without an
order: `(?!X)` at the very beginning, that is, of names that do not begin as X says. `\\w` and `\\d` mean ASCII.
"""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.errors import InputError

LONGEST = 2000  # characters of a pattern
MOST = 20_000  # characters of a list's patterns, plain names not counted
SECONDS = 0.7  # most processor time for all patterns of a recipe on all names of a checkpoint
SLICE = 2**15  # characters of names between two looks at the clock
ALLOWED = "literals, ., classes, groups, |, ?, *, +; no {n}, no look-around, no back-reference"
PLAIN = re.compile(r"(?:[^\\.^$*+?{}\[\]|()]|\\\W)*")  # a name, its points escaped
TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.S)  # an escape, a class, or a character


def check_patterns(field: str, patterns: Iterable[Any]) -> None:
    """Raise InputError for what is no text, too long, or no regular expression of this language."""
    size = 0
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InputError(field, pattern, "must be a text")
        if plain_name(pattern) is not None:
            continue
        size += len(pattern)
        if len(pattern) > LONGEST or size > MOST:
            allowed = f"a regular expression has at most {LONGEST:,} characters, and all of a list {MOST:,}"
            raise InputError(field, f"{pattern[:40]}...", allowed)
        _check(field, pattern)


def matching(patterns: Sequence[str], names: Sequence[str], started: float | None = None) -> set[str]:
    """Return those of `names` that one of `patterns` matches as a whole. `patterns` must have passed `check_patterns`.

    started: `time.thread_time()` when the work began that may take SECONDS in all; more is an InputError.
    """
    found = {name for pattern in patterns if (name := plain_name(pattern)) is not None}.intersection(names)
    regexes = [pattern for pattern in patterns if plain_name(pattern) is None]
    if regexes:
        started = time.thread_time() if started is None else started
        for some in _slices(names):
            found.update(_matched(regexes, some, started))
    return found


def from_beginning(expression: str) -> str:
    """Return the pattern for a whole name, of an expression that need only match a name's beginning."""
    refused, body = parts(expression)
    return "".join(f"(?!{each})" for each in refused) + f"(?:{body}).*"


def named(names: Iterable[str], modules: Iterable[str]) -> list[str]:
    """Return those of `modules` that one of `names` stands for, as lists of what is not quantized have them: a module's
    name, or a part of it between points, such as its end (`lm_head`, `mlp.down_proj`) or its beginning
    (`model.layers.0`).
    """
    known = {name.strip(".") for name in names}
    return [module for module in modules if known and not known.isdisjoint(_stretches(module.split(".")))]


def _stretches(words: Sequence[str]) -> Iterator[str]:
    for first in range(len(words)):
        yield from (".".join(words[first:last]) for last in range(first + 1, len(words) + 1))


def plain_name(pattern: str) -> str | None:
    """Return the one name that `pattern` matches, where it is a name and nothing else."""
    return re.sub(r"\\(\W)", r"\1", pattern) if PLAIN.fullmatch(pattern) else None


def parts(pattern: str) -> tuple[list[str], str]:
    """Return what the leading `(?!X)` parts of a pattern refuse, and the rest of it."""
    refused = []
    while pattern.startswith("(?!") and (end := _closing(pattern)) is not None:
        refused.append(pattern[3 : end - 1])
        pattern = pattern[end:]
    return refused, pattern


def _matched(regexes: Sequence[str], names: list[str], started: float) -> list[str]:
    """Return those of `names` that one of `regexes` matches."""
    texts = pa.array(names, pa.string())
    hits = np.zeros(len(names), bool)
    for pattern in regexes:
        refused, body = parts(pattern)
        found = _search(texts, rf"\A(?:{body})\z")
        for each in refused:
            found &= ~_search(texts, rf"\A(?:{each})")
        hits |= found
        if time.thread_time() - started > SECONDS:
            allowed = f"takes more than {SECONDS} s on the names of this checkpoint: give fewer or simpler patterns"
            raise InputError("pattern", pattern, allowed)
    return [name for name, hit in zip(names, hits, strict=True) if hit]


def _slices(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield `names` in lists of about SLICE characters."""
    some: list[str] = []
    size = 0
    for name in names:
        some.append(name)
        size += len(name)
        if size > SLICE:
            yield some
            some, size = [], 0
    if some:
        yield some


def _search(texts: Any, expression: str) -> np.ndarray:
    return pc.match_substring_regex(texts, expression).to_numpy(zero_copy_only=False)


def _check(field: str, pattern: str) -> None:
    refused, body = parts(pattern)
    if any(token == "{" for _, token, _ in _depths(pattern)):
        raise InputError(field, pattern, f"has a counted repeat; allowed: {ALLOWED}")
    if refused and _alternatives(body):
        raise InputError(field, pattern, "alternatives behind (?!...) must stand in a group: (?!a)(?:b|c)")
    for part in (*refused, body):
        try:
            _search(pa.array([""]), part)
        except (pa.ArrowException, UnicodeError) as error:
            raise InputError(field, pattern, f"is no regular expression ({error}); allowed: {ALLOWED}") from None


def _closing(pattern: str) -> int | None:
    """Return where the group ends that `pattern` begins with; None where nothing closes it."""
    return next((end for end, _, depth in _depths(pattern) if depth == 0), None)


def _alternatives(pattern: str) -> bool:
    """Tell whether `pattern` has a | outside of every group."""
    return any(token == "|" and depth == 0 for _, token, depth in _depths(pattern))


def _depths(pattern: str) -> Iterator[tuple[int, str, int]]:
    """Yield each token's end, its text, and how many groups are open behind it."""
    depth = 0
    for token in TOKEN.finditer(pattern):
        depth += (token[0] == "(") - (token[0] == ")")
        yield token.end(), token[0], depth
