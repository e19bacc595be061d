"""What docs/online.md tells a product analyst to type, typed; and what it shows, compared."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from octorec.evaluate.online.experiment import read_experiment
from tests.evaluate.online.shop import make

PAGE = Path(__file__).parents[3] / "docs" / "online.md"
PAIR = re.compile(r"^```bash\n(.*?)^```\n\n(?:```text\n(.*?)^```\n\n)?", re.S | re.M)
CODES = {"2026-11-12": 4, "2026-11-16T12:00": 4, "2026-11-24": 0}


def told() -> Iterator[tuple[list[str], str]]:
    """Each command of the page and what stands below it."""
    for command, shown in PAIR.findall(PAGE.read_text()):
        yield shlex.split(command.replace("\\\n", " ")), shown


def the_file() -> str:
    (file,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    return str(file)


def run_all(folder: Path) -> Iterator[tuple[list[str], int, str]]:
    """Run the page's commands in a folder with the shop's files: each with its exit code and what it prints."""
    (folder / "experiment.yaml").write_text(the_file())
    make(folder, read_experiment(folder / "experiment.yaml"))
    for words, _ in told():
        command = [sys.executable, "-m", "octorec", *words[1:]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode != 2, done.stderr
        yield words, done.returncode, "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


@pytest.mark.slow
def test_the_example_shows_what_its_commands_print(tmp_path: Path) -> None:
    shown = [text for _, text in told()]
    assert len(shown) >= 7
    for (words, code, printed), text in zip(run_all(tmp_path), shown, strict=True):
        assert printed == text, words
        now = words[words.index("--now") + 1] if "--now" in words else ""
        assert code == CODES.get(now, 0), words
    assert (tmp_path / "power.svg").read_text().startswith("<?xml")
    assert "not inferior" in (tmp_path / "report.html").read_text()


if (
    __name__ == "__main__"
):  # writes the outputs into the page: python -m tests.evaluate.online.test_online_example FOLDER
    printed = [text for _, _, text in run_all(Path(sys.argv[1]))]
    blocks = iter(printed)
    PAGE.write_text(
        PAIR.sub(lambda found: f"```bash\n{found[1]}```\n\n```text\n{next(blocks)}```\n\n", PAGE.read_text())
    )
