"""README.md in two languages says what runs and what was measured; every page's command lines are octorec's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from octorec.cli.command import UsageError
from tests.pages.told import PAGES, ROOT, lines, taken, verb, whole_lines

README = (ROOT / "README.md").read_text()
CHINESE = (ROOT / "README.zh-CN.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
NUMBER = re.compile(r"\d[\d,.]*\d|\d")


def test_a_line_with_a_flag_that_there_is_not_or_without_one_that_is_needed_is_found() -> None:
    assert taken("octorec quantize a --out b")["out"] == "b"
    for line in ("octorec quantize a --out b --fast", "octorec quantize a", "octorec quantize --out b", "octorec q a"):
        with pytest.raises((AssertionError, KeyError, UsageError)):
            taken(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_of_a_page_is_one_that_octorec_takes(page: Path) -> None:
    for line in map(verb, whole_lines(page.read_text())):
        if line.startswith("octorec "):
            taken(line)


@pytest.mark.slow
def test_pages_say_what_the_rows_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.report", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_readme_is_one_screen_with_two_commands_and_one_picture() -> None:
    assert len(README.splitlines()) < 60
    assert len(lines(README)) == 2
    assert README.count("![") == 1
    assert lines(README)[0] == "make demo"


def rows_of(page: str, name: str) -> list[list[str]]:
    """The rendered rows of a page, without their words: the numbers of each line."""
    (found,) = re.findall(rf"<!-- rows: {name} -->\n(.*?)<!-- end -->", page, re.S)
    return [sorted(NUMBER.findall(line.partition(" | ")[2])) for line in found.splitlines()[2:]]


def test_the_chinese_page_has_the_same_commands_rows_picture_and_links() -> None:
    assert lines(CHINESE) == lines(README)
    assert rows_of(CHINESE, "promise-zh") == rows_of(README, "promise")
    assert len(rows_of(README, "promise")) == 4
    assert all(rows_of(README, "promise"))

    def links(page: str) -> list[str]:
        return sorted(re.findall(r"\]\((?!README)([^)]+)\)", page))

    assert links(CHINESE) == links(README)
    assert re.findall(r"^#+ ", CHINESE, re.M) == re.findall(r"^#+ ", README, re.M)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    pages = README + (ROOT / "CONTRIBUTING.md").read_text() + (ROOT / "docs/tutorial.md").read_text()
    targets = set(re.findall(r"^make ([a-z-]+)", pages, re.M)) | set(re.findall(r"`make ([a-z-]+)", pages))
    assert targets >= {"demo", "docs", "test", "check", "test-all"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_tree_is_the_tree() -> None:
    tree = next(block for block in re.findall(r"```\n(src/octorec/\n.*?)```", ARCHITECTURE, re.S))
    named = set(re.findall(r"[\w_]+(?:/|\.py)(?=[ ,])", "\n".join(re.findall(r"^  \S.*?(?:  |$)", tree, re.M)) + " "))
    package = ROOT / "src/octorec"
    there = {f"{path.name}/" for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert named == there | {path.name for path in package.glob("[!_]*.py")}
    outside = {line.split()[0] for line in tree.splitlines()[1:] if not line.startswith(" ")}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert outside == {f"{file.partition('/')[0]}/" for file in tracked if "/" in file} - {"src/", ".ci/", ".github/"}
