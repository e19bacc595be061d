"""Safetensors files: their header, its length before it, values that are no numbers, files that are cut off."""

import json
import random
from pathlib import Path

import pytest
from checkpoints import choose, make_both, read_checkpoint
from harness import fuzz
from mutate import broken_json, nasty

DTYPES = ("F16", "I16", "U16", "BF16", "F8_E5M2", "F8_E4M3", "I8", "U8", "BOOL", "F4")


make = make_both


def broken(folder: Path, rng: random.Random) -> str:
    path = next(choose(folder, rng).glob("*.safetensors"))
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    action = rng.randrange(6)
    if action == 0:
        data = data[: rng.randrange(len(data))]
        about = json.dumps(header).encode()
    elif action == 1:  # a type or a shape of the same number of bytes, or none
        entry = header[rng.choice([name for name in header if name != "__metadata__"])]
        shape = entry["shape"]
        entry["shape"] = rng.choice(
            (shape[::-1], [*shape, 1], [1, *shape], [-1], [2**40], [], [0], shape + shape, nasty(rng))
        )
        entry["dtype"] = rng.choice(
            (entry["dtype"], "F16", "I16", "U16", "BF16", "F8_E5M2", "F8_E4M3", "I8", "U8", "BOOL", "F4")
        )
        about = json.dumps(header).encode()
    elif action == 2:  # values that are no numbers, or huge
        at = rng.randrange(len(data))
        wrong_values = rng.choice((b"\xff", b"\x7f", b"\x00", b"\x80")) * rng.choice((1, 4, 400))
        data = (data[:at] + wrong_values + data[at + len(wrong_values) :])[: len(data)]
        about = json.dumps(header).encode()
    else:
        about = broken_json(header, rng)
    wrong = (0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1, rng.randrange(2**64))
    size = rng.choice(wrong) if action == 3 else len(about)
    path.write_bytes(size.to_bytes(8, "little") + about + data)
    return f"{size} {about!r} and {len(data)} bytes"


def read(folder: Path) -> object:
    return read_checkpoint(folder / "input")


@pytest.mark.slow
def test_a_broken_safetensors_header_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_safetensors")
