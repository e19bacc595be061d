"""What an error shows of a value: little, in one line, without a control character, and quickly."""

import dataclasses
import string
import time
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from octorec.errors import SHOWN, InputError, check_keys, clean, shown


def doubling(levels: int) -> Any:
    """A YAML of 50 bytes a level in which each list holds the one before nine times."""
    lines = ["l0: &l0 [x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, levels)]
    return yaml.safe_load("\n".join(lines))


def nested(depth: int) -> Any:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def recursive() -> Any:
    value: dict[str, Any] = {}
    value["itself"] = [value]
    return value


@dataclasses.dataclass
class Settings:
    names: list[str]
    k: int = 1


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "value",
    [
        doubling(40), nested(10_000), recursive(), 10**100_000, "x" * 10**7, b"\0" * 10**7, [["x"] * 10**6] * 10**3,
        dict.fromkeys(range(10**6)), set(range(10**6)), tuple(range(10**6)), Settings(["x"] * 10**6),
        np.zeros((1000, 1000)), torch.zeros(1000, 1000), Broken(), ["\x1b[2J" * 10**5],
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_of_a_large_value_little_is_shown_at_once(value: Any) -> None:
    start = time.process_time()
    text = str(InputError("field", value, "allowed"))
    assert time.process_time() - start < 5  # minutes, where the whole value is looked at
    assert len(text) <= SHOWN + len("field: got ; allowed")


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -(10**50), 0.5, float("nan"), "text", "it's", "\x1b\n\u202e", b"\xff", [], [1, ["a"]], (),
        (1,), (1, 2), {}, {"a": [None], 3: {"b": ()}}, set(), {1}, range(5), np.float32(0.5), np.int64(3),
        torch.bfloat16, int, Settings(["a"], 2),
    ],
    ids=repr,
)  # fmt: skip
def test_a_small_value_is_shown_as_python_writes_it(value: Any) -> None:
    assert shown(value) == repr(value).replace(f"{__name__}.", "")


@given(st.text())
def test_clean_text_is_one_line_that_a_terminal_only_shows(text: str) -> None:
    cleaned = clean(text)
    assert cleaned == clean(cleaned)
    assert len(cleaned.splitlines()) <= 1
    cleaned.encode()
    assert not set(cleaned) & {*map(chr, range(32)), *map(chr, range(127, 160)), "\u202e", "\u2066", "\u200f"}


def test_clean_text_keeps_what_people_write() -> None:
    for text in (string.printable[:-5], "Amélie", "千と千尋の神隠し\u3000", "👩‍🚀", "می‌خواهم", "naïve\u00a0café"):
        assert clean(text) == text
    assert clean("\x1b[31mred\x07\r\x9b1m\u202e") == r"\x1b[31mred\x07\r\x9b1m\u202e"


def test_an_error_is_one_line_whatever_it_is_about() -> None:
    error = InputError("a\nb\x1b" + "c" * 10**6, "d\n\x1b", "e\x07\n" * 10**6)
    text = str(error)
    assert "\n" not in text
    assert clean(text) == text
    assert len(text) < 2500


def test_keys_that_are_no_text_are_named() -> None:
    for raw in ({3: 1}, {("a", 1): 1}, {None: 1}):
        with pytest.raises(InputError, match="unknown key"):
            check_keys("settings", raw, Settings, required=())
