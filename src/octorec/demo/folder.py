"""Write the demo's tables, for the reader's own commands, and its last words: what to open and what to type next."""

import importlib.util
import io
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from octorec.data.movielens import MovieLens
from octorec.demo.claim import EXAMPLES, FOUND, INTERACTIONS, TABLES
from octorec.files import json_text
from octorec.output.write import new_file

NEWEST = 20  # films of an example
HISTORY = "50,181,172"  # Star Wars, Return of the Jedi, The Empire Strikes Back


def write_tables(out: Path, movies: MovieLens) -> None:
    """Write MovieLens-100K as the CSV files that every verb reads. A table of that name that somebody changed is not
    replaced, but an InputError."""
    sets = pc.binary_join(movies.items["sets"], "|")
    items = movies.items.set_column(movies.items.column_names.index("sets"), "sets", sets)
    users = pa.Table.from_pylist([{"user_id": user, **fields} for user, fields in movies.users.items()])
    for name, table in zip(TABLES, (movies.interactions.table, items, users), strict=True):
        buffer = io.BytesIO()
        pyarrow.csv.write_csv(table, buffer)
        text = buffer.getvalue()
        with new_file(out / name, ours=partial(_holds, text)) as scratch:
            scratch.write_bytes(text)


def _holds(text: bytes, path: Path) -> bool:
    return path.read_bytes() == text


def write_found(out: Path, found: dict[str, Any]) -> None:
    with new_file(out / FOUND) as scratch:
        scratch.write_text(f"{json_text(found, indent=1)}\n")


def write_examples(out: Path, movies: MovieLens, people: Sequence[str]) -> None:
    """Write some people's newest films, and what is known of them, for the server's page to try."""
    histories = movies.interactions.histories()
    found = [
        {"name": f"user {person}", "history": list(histories[person][-NEWEST:]), "user": movies.users[person]}
        for person in people
    ]
    with new_file(out / EXAMPLES) as scratch:
        scratch.write_text(f"{json_text({'histories': found}, indent=1)}\n")


def last_words(out: Path) -> list[str]:
    """Return what to open, and commands that run as they are pasted into the shell that ran the demo."""
    folder = shlex.quote(str(out))
    commands = [
        *_on_the_path(),
        f"octorec recommend {folder}/fp8 --history {HISTORY} --k 5",
        f"octorec prove {folder}/bf16 --data {folder}/{INTERACTIONS} --limit 100",
    ]
    if importlib.util.find_spec("uvicorn"):
        commands.append(f"octorec serve {folder}/fp8 --port 8080")
    return [f"Open {out / 'report.html'}; the numbers are in {out / FOUND}. Then type, for example:", "", *commands]


def _on_the_path() -> list[str]:
    """Return the line that puts this installation's `octorec` on the path; none where it is there."""
    here = Path(sys.executable).parent
    found = shutil.which("octorec")
    if found and Path(found).parent == here:
        return []
    shown = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    if (here / "activate").is_file():
        return [f"source {shlex.quote(os.fspath(shown / 'activate'))}"]
    return [f"export PATH={shlex.quote(os.fspath(here))}:$PATH"]
