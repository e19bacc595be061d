"""Breaks valid files: as trees of values (JSON, YAML), as bytes, as columns of a table."""

import copy
import json
import random
from typing import Any

WORDS = (
    "", " ", "x", "0", "-1", "1e9", "nan", "null", "true", "../x", "/etc/passwd", ".", "*", "a" * 10_000, "\x1b[31m",
    "\u202e", "\ud800", "\x00", "é", "re:(a+)+$", "(", "{}", "[bold]", "1,2", "10.0.0.1", "fp8", "cuda:9", "2026-01-01",
    "<<", "=",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 3, 7, 64, 127, 128, 255, 1000, 2**16, 2**20, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63,
    10**9, 10**12, 10**30,    -(2**63) - 1, 0.5, 1.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
BYTES = (b"\0", b"\xff", b"\n", b"\r", b'"', b",", b"\xef\xbb\xbf", b"\x1b", b"{", b"}", b"[" * 9999)
OTHERS = (None, True, False, [], {}, [[]], [None], [0], [1, "a"], {"a": 1}, {"": None}, [{}])


def nasty(rng: random.Random) -> Any:
    kind = rng.randrange(8)
    if kind == 0:
        value: Any = rng.choice(WORDS)
        for _ in range(rng.choice((1, 30, 200))):
            value = [value] if rng.random() < 0.9 else {"a": value}
        return value
    return copy.deepcopy(rng.choice((WORDS, NUMBERS, OTHERS)[kind % 3]))


def mutated(tree: Any, rng: random.Random) -> Any:
    """A copy of a tree of dicts and lists with one to three of its nodes replaced, removed, renamed or doubled."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = _once(tree, rng)
    return tree


def _once(tree: Any, rng: random.Random) -> Any:
    places = list(_places(tree))
    if not places or rng.random() < 0.02:
        return nasty(rng)
    node, key = rng.choice(places)
    action = rng.randrange(8)
    if action == 0:
        del node[key]
    elif action == 1 and isinstance(node, dict):
        node[rng.choice([*map(str, node), *WORDS])] = node.pop(key)
    elif action == 2 and isinstance(node, dict):
        node[rng.choice(WORDS)] = nasty(rng)
    elif action == 2:
        node.insert(rng.randrange(len(node) + 1), copy.deepcopy(node[key]))
    elif action == 3:
        node[key] = copy.deepcopy(_value(rng.choice(places)))
    elif action == 4:
        node[key] = _near(node[key], rng)
    else:
        node[key] = nasty(rng)
    return tree


def _value(place: tuple[Any, Any]) -> Any:
    node, key = place
    return node[key]


def _near(value: Any, rng: random.Random) -> Any:
    """A value that is almost the same."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return rng.choice(
            (value + 1, value - 1, -value, value * 2, value / 2, value * 1.0, str(value), bool(value), [value])
        )
    if isinstance(value, str):
        return rng.choice(
            (
                value + " ",
                value.upper(),
                value[:-1],
                [value],
                value * 2,
                value.encode("utf-8", "surrogatepass").hex(),
                value + "\x1b",
            )
        )
    if isinstance(value, list):
        return rng.choice((value * 2, value[::-1], value[:-1], dict(enumerate(map(str, value))), tuple(value)))
    return [value]


def _places(tree: Any) -> Any:
    """Every (dict or list, key or index) in a tree, from the top."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            yield node, key
            waiting.append(node[key])


def broken_bytes(content: bytes, rng: random.Random) -> bytes:
    """The bytes with a few changed, removed, doubled or cut off."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(out) + 1)
        length = rng.choice((1, 1, 2, 8, 100))
        action = rng.randrange(5)
        if action == 0:
            out[at : at + length] = rng.randbytes(length)
        elif action == 1:
            del out[at : at + length]
        elif action == 2:
            out[at:at] = out[at : at + length] * rng.choice((1, 1, 1000))
        elif action == 3:
            out[at:at] = rng.choice(
                (b"\0", b"\xff", b"\n", b"\r", b'"', b",", b"\xef\xbb\xbf", b"\x1b", b"{", b"}", b"[" * 9999)
            )
        else:
            del out[at:]
    return bytes(out)


def broken_json(tree: Any, rng: random.Random) -> bytes:
    """JSON of a changed tree, or changed bytes of its JSON."""
    if rng.random() < 0.25:
        return broken_bytes(json.dumps(tree).encode(), rng)
    return json.dumps(mutated(tree, rng)).encode()
