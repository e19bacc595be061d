"""A file or folder that a page names in backticks is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "docs/how-to").glob("*.md"))
ROOMS = {path.name for path in (ROOT / "src/octorec").iterdir() if path.is_dir()}
TOPS = {"src", "tests", "benchmarks", "studies", "results", "docs"} | ROOMS


def named(page: str) -> set[str]:
    """The paths that a page's own text names: below the root, or below the package."""
    own = re.sub(r"<!-- rows: .*?<!-- end -->|```.*?```", "", page, flags=re.S)
    paths = re.findall(r"`([\w-]+(?:/[\w.-]+)+?/?)(?:: \w+)?`", own)
    return {path for path in paths if path.split("/")[0] in TOPS and (path.endswith("/") or "." in path)}


def missing(page: str) -> list[str]:
    return sorted(
        path for path in named(page) if not any((ROOT / place / path).exists() for place in (".", "src/octorec"))
    )


def test_every_path_of_a_page_is_there() -> None:
    wrong = [f"{page.name}: {path}" for page in PAGES for path in missing(page.read_text())]
    assert not wrong
    assert len(named((ROOT / "docs/architecture.md").read_text())) > 20


def test_a_path_that_is_gone_is_found() -> None:
    page = "`models/ranker.py`, `models/model.py: Model`, `docs/log/`, `nowhere/x.py` and\n```\n`tests/none.py`\n```\n"
    assert missing(page) == ["models/ranker.py"]
    assert named(page) == {"models/ranker.py", "models/model.py", "docs/log/"}
