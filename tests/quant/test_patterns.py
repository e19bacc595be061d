"""Patterns from files match as regular expressions do, and no pattern of a stranger holds anybody up."""

import contextlib
import re
import time
from collections.abc import Sequence

import pytest

from octorec.errors import InputError
from octorec.quant.patterns import LONGEST, MOST, check_patterns, from_beginning, matching
from octorec.quant.recipe import Group, Recipe, load_recipe

NAMES = [
    *(f"blocks.{b}.self_attn.{p}_proj" for b in range(12) for p in "qkvo"),
    *(f"blocks.{b}.ffn.experts.{e}.{p}_proj" for b in range(3) for e in range(11) for p in ("up", "gate", "down")),
    *("head.0", "lm_head", "context.proj", "context.code_embed.1", "blocks.0.ffn.router", "a-b c", "a+b", "norm.norm"),
]
EXPRESSIONS = [
    r".*",
    r".*mlp.*|.*_proj",
    r"blocks\.\d+\.((cross|self)_attn\.[qkvo]|ffn\.((shared_)?experts\.\d+\.)?(gate|up|down))_proj",
    r"blocks\.(0|3|11)\..*",
    r"blocks\.[0-2]\..+?proj",
    r"head\.\d+|blocks\.\d+\.ffn\.router",
    r"[a-z_]+\.\w+",
    r"[^.]*",
    r"a\-b\ c|a\+b",
    r"context\.\w+_embed.*$",
    r"^lm_head$",
    r"(?:norm\.?)+",
    r"a[{]?b?|.*[\]{]",
    r"(?!blocks\.0\.)(?!.*\.v_proj$)blocks\..*_proj",
    r"(?!(?:a[)(]|head\)?)\.)(?:head|context)\..*",
    r"(([a-z._0-9])+)+$!",
    "head.0",
    "",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_pattern_matches_what_it_matches_in_python(expression: str) -> None:
    check_patterns("targets", [expression])
    if expression == r"(([a-z._0-9])+)+$!":
        assert matching([expression], NAMES) == set()  # Python would try 2^24 ways for a name of 24 letters
        return
    assert matching([expression], NAMES) == {name for name in NAMES if re.fullmatch(expression, name)}
    begun = from_beginning(expression)
    assert matching([begun], NAMES) == {name for name in NAMES if re.match(expression, name)}


def test_several_patterns_match_what_any_does() -> None:
    some = [r"head\.0", r".*\.router", "lm_head", r"a\-b\ c"]
    assert matching(some, NAMES) == {"head.0", "blocks.0.ffn.router", "lm_head", "a-b c"}
    assert matching([], NAMES) == matching(some, []) == set()


@pytest.mark.parametrize(
    "bad",
    [
        *("(", "[", "*", "a(?!b)", "(?=a)a", "(?<!a)b", r"(a)\1", "(?P<n>a)(?P=n)", "a**", "(?!a", "(?!(a)b"),
        *("(?!a)b|c", "((a{100}){100}){100}", "a{2}", "\\", "(?!(?!a)b)c", "(?!a)(?=b)c", "a" * 3000 + "+", "\ud800+"),
    ],
)
def test_what_is_no_pattern_is_refused_with_what_is(bad: str) -> None:
    with pytest.raises(InputError, match=r"^targets: got .*(allowed: literals|in a group|at most 2,000)"):
        check_patterns("targets", [bad])


def test_a_list_has_a_length_but_for_plain_names() -> None:
    check_patterns("ignore", [rf"blocks\.{n}" for n in range(MOST)])
    with pytest.raises(InputError, match=r"ignore: got 'aaaa.*at most 2,000 characters, and all of a list 20,000"):
        check_patterns("ignore", ["a" * 1000 + "+"] * 20)
    with pytest.raises(InputError, match="must be a text"):
        check_patterns("ignore", [["a"]])


def long_names(count: int = 3000, length: int = 90) -> list[str]:
    return [f"{n:x}".rjust(length, "ab._"[n % 4]) for n in range(count)]


HOSTILE = [
    [r"(([a-z._0-9])+)+$!"],
    [r"(?:\w+)+!"],
    [".*a" * 60 + "!"],
    ["(.*a|.*b|.*_)" * 100 + "!"],
    ["(a|a)*" * 200 + "!"],
    [".*a" + "." * (LONGEST - 10)] * 10,
    ["(?:.*a............|.*b.............)*c"] * 500,
    ["(?!(?:.*a" + "." * 900 + ")$)" + "(?:.*b" + "." * 900 + ")"] * 10,
]


@pytest.mark.parametrize(
    "patterns",
    [*HOSTILE[:5], *(pytest.param(each, marks=pytest.mark.slow) for each in HOSTILE[5:])],
    ids=range(len(HOSTILE)),
)
def test_a_hostile_pattern_ends_soon(patterns: Sequence[str]) -> None:
    names = long_names()
    start = time.thread_time()
    with contextlib.suppress(InputError):
        Recipe("r", (Group(tuple(patterns), "channel", "token"),), ignore=tuple(patterns)).assign(names)
    assert time.thread_time() - start < 15  # for ever, where a name is tried against every way to match
    start = time.thread_time()
    with contextlib.suppress(InputError):
        recipe = Recipe("r", (Group(("a.*", *patterns), "channel", "token"),), ignore=tuple(patterns))
        recipe.check_matches({f"{name}.weight": (16, 16) for name in names})
    assert time.thread_time() - start < 15  # for ever, where a name is tried against every way to match


def test_thousands_of_names_under_a_shipped_recipe_take_a_moment() -> None:
    names = [f"blocks.{b}.ffn.experts.{e}.{p}_proj" for b in range(60) for e in range(128) for p in ("up", "down")]
    start = time.thread_time()
    assert len(load_recipe("fp8").assign(names)) == len(names)
    assert time.thread_time() - start < 10
