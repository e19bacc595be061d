"""Tables as text, separated, named and timed in ways that flags tell, rightly or wrongly, and checked."""

import ast
import random
from pathlib import Path

import pytest
from harness import fuzz
from mutate import WORDS, broken_bytes

from octorec.data.check import KINDS, check_table
from octorec.data.table_format import SEPARATORS, TableFormat, parse_format

KNOWN = ("user_id", "item_id", "timestamp", "title", "sets")
NAMES = (*KNOWN, "uid", "User ID", "rating", "0", "1", "items.title", "users.a", *WORDS[:9])
TIMES = ("1700000000", "1700000001.5", "2024-01-05", "2024-01-05T10:00Z", "05.01.2024", "31.02.2024", "soon", "")
FORMATS = (None, None, "%d.%m.%Y", "%", "%Y-%m-%d", "%H", "%z", "%s%s%s", "%Q", "%" + "9" * 30 + "d", "x%%")


def make(folder: Path) -> None:
    (folder / "log.csv").write_text("user_id,item_id,timestamp,rating\na,x,1,5\na,y,2,4\n")
    (folder / "flags").write_text("\n\n\n")


def broken(folder: Path, rng: random.Random) -> str:
    separator = rng.choice(SEPARATORS)
    header = rng.sample(NAMES, 4) if rng.random() < 0.5 else [*KNOWN[:3], rng.choice(NAMES)]
    time = rng.choice((TIMES[0], rng.choice(TIMES)))
    rows = [[f"u{n}", rng.choice((f"{n}", "x")), rng.choice((time, time, rng.choice(TIMES))), "5"] for n in range(5)]
    lines = [separator.join(row) for row in ([header, *rows] if rng.random() < 0.7 else rows)]
    content = "\n".join(lines).encode("utf-8", "replace")
    if rng.random() < 0.3:
        content = broken_bytes(content, rng)
    (folder / "log.csv").write_bytes(content)
    right = [f"{ours}={name}" for ours, name in zip(KNOWN, rng.choice((header, "0123")), strict=False)][:3]
    wrong = [f"{ours}={rng.choice((*header, *'0123'))}" for ours in rng.sample(KNOWN, rng.randrange(4))]
    pairs = rng.choice((right, right, wrong, []))
    sep = rng.choice((separator, separator, "", rng.choice(SEPARATORS)))
    flags = sep, ",".join(pairs), rng.choice(FORMATS) or "", rng.choice(("", *KINDS))
    (folder / "flags").write_text(repr(flags), encoding="utf-8", errors="backslashreplace")
    return f"{flags} {content[:1000]!r}"


def read(folder: Path) -> object:
    text = (folder / "flags").read_text()
    sep, columns, time_format, kind = ast.literal_eval(text) if text.strip() else ("", "", "", "")
    form = parse_format(sep or None, columns or None, time_format or None, KNOWN) if text.strip() else TableFormat()
    return check_table(folder / "log.csv", form, kind or None).to_dict()


@pytest.mark.slow
def test_a_table_and_flags_of_any_kind_are_read_or_refused() -> None:
    fuzz("test_fuzz_check")
