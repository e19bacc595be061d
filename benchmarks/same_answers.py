"""Whether two versions of the code give the same answers, to the bit: asked before and after a room is moved.

    python -m benchmarks.same_answers write before.jsonl runs/demo/bf16 runs/demo/fp8
    python -m benchmarks.same_answers write after.jsonl runs/demo/bf16 runs/demo/fp8     # with the other version
    python -m benchmarks.same_answers compare before.jsonl after.jsonl

It uses nothing but `octorec.load`, `octorec.Request` and a folder's files, so that it runs on either version. Both have
to run on one machine: bits differ between processors. It ends with 1 where an answer differs.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.progress import track

import octorec
from benchmarks.program import run
from octorec.errors import InputError

REQUESTS = 48  # a checkpoint
WIDTHS = (8, 32)


def requests_for(checkpoint: Path) -> list[octorec.Request]:
    """The same requests for the same catalog: short and long histories, two widths, with and without exclusions."""
    table = pq.read_table(checkpoint / "catalog" / "items.parquet", columns=["item_id"])
    items = sorted(str(item) for item in table["item_id"].to_pylist())
    draw = random.Random(0)
    made = []
    for number in range(REQUESTS):
        width = WIDTHS[number % len(WIDTHS)]
        history = draw.choices(items, k=draw.choice((1, 5, 40)))
        exclude = draw.sample(items, k=len(items) // 10) if number % 3 == 0 else ()
        made.append(octorec.Request(history, k=width // 2, beam_width=width, exclude=exclude))
    return made


def answers(checkpoint: Path) -> Iterator[dict[str, Any]]:
    """A row a request, asked together and alone: items, and scores as hexadecimal floats."""
    requests = requests_for(checkpoint)
    engine = octorec.load(checkpoint, batch_sizes=(8,), beam_widths=WIDTHS, default_beam_width=WIDTHS[-1])
    together = engine.recommend(requests)
    for number in track(range(len(requests)), str(checkpoint)):
        alone = engine.recommend([requests[number]])[0]
        for how, answer in (("together", together[number]), ("alone", alone)):
            scores = [float(score).hex() for score in answer.scores]
            name = f"{checkpoint}, request {number}, {how}"
            yield {"name": name, "items": list(answer.items), "scores": scores}


def write(file: Path, checkpoints: list[Path]) -> None:
    """Write the answers of all checkpoints to `file`, one JSON object a line."""
    rows = [row for checkpoint in checkpoints for row in answers(checkpoint)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"wrote {file}: {len(rows)} answers")


def read_answers(file: Path) -> list[dict[str, Any]]:
    """What `write` wrote; nothing where no file is."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def differences(first: Path, second: Path) -> list[str]:
    """What differs between two files of answers, a line each; InputError where they do not hold the same requests."""
    rows, others = ({row["name"]: row for row in read_answers(file)} for file in (first, second))
    if not rows or rows.keys() != others.keys():
        raise InputError(str(second), f"{len(others)} answers", f"must hold the requests of {first}: {len(rows)}")
    return [
        f"{name}: {part} differ"
        for name, row in rows.items()
        for part in ("items", "scores")
        if row[part] != others[name][part]
    ]


def compare(first: Path, second: Path) -> bool:
    """Print what differs; whether nothing does."""
    found = differences(first, second)
    print("\n".join([*found[:20], f"{len(found)} differences"]))
    return not found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing, comparing = verbs.add_parser("write"), verbs.add_parser("compare")
    writing.add_argument("file", type=Path)
    writing.add_argument("checkpoints", type=Path, nargs="+")
    comparing.add_argument("first", type=Path)
    comparing.add_argument("second", type=Path)
    options = parser.parse_args()
    if options.verb == "write":
        write(options.file, options.checkpoints)
    else:
        sys.exit(0 if compare(options.first, options.second) else 1)


if __name__ == "__main__":
    run(main)
