"""What a page tells a reader to type: lines of shells, files of Python and YAML, and whether octorec takes them."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import typer

from octorec.cli import app as cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "docs/how-to").glob("*.md"))
BLOCK = re.compile(r"^```(bash|python|yaml)(?: title=\"([\w.]+)\")?\n(.*?)^```$", re.S | re.M)


def whole_lines(text: str) -> list[str]:
    """Lines to paste, those that go on behind a backslash as one."""
    return re.sub(r"\\\n\s*", "", text).strip().splitlines()


def lines(page: str) -> list[str]:
    """Every line for a shell of a page's text."""
    return [line for kind, _, text in BLOCK.findall(page) if kind == "bash" for line in whole_lines(text)]


def files(page: str) -> dict[str, str]:
    """The files that a page shows whole, by name."""
    return {name: text for _, name, text in BLOCK.findall(page) if name}


def scripts(page: str) -> list[str]:
    """The blocks of Python of a page that are no files."""
    return [text for kind, name, text in BLOCK.findall(page) if kind == "python" and not name]


def verb(line: str) -> str:
    """A line of octorec without what the shell does: `&`, and `> FILE`."""
    return re.sub(r" > \S+$", "", line.strip().removesuffix(" &").removeprefix(".venv/bin/"))


@cache
def root() -> Any:
    """The command line, which takes a tenth of a second to make."""
    return typer.main.get_command(cli.app)


def taken(line: str) -> dict[str, Any]:
    """Let the command line take a line apart, whose files need not be there: its options and arguments by name."""
    words = shlex.split(line, comments=True)[1:]
    command = root()
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    found, left, _ = command.make_parser(command.context_class(command)).parse_args(words)
    assert not left, f"{line}: {left}"
    missing = [p.name for p in command.params if p.required and found.get(p.name) is None]
    assert not missing, f"{line}: {missing}"
    return found
