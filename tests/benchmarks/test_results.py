"""What `results/README.md` says of the recorded rows is so, and every row is of a kind."""

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmarks import records, report
from benchmarks.records import RESULTS
from benchmarks.rows import FILES

ROOT = RESULTS.parent
# whose first rows come with the next run on a GPU
AWAITED = {f"qwen{name}.jsonl" for name in ("_ablation", "_overlap", "_speed")}
LINE = re.compile(r"^\| `(\w+\.jsonl)` \| (.*) \| (.*) \| (.*) \|$", re.M)
LISTED = {name: said for name, *said in LINE.findall((RESULTS / "README.md").read_text())}


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_the_page_lists_every_file_with_its_kinds() -> None:
    there = {path.name for path in RESULTS.glob("*.jsonl")}
    assert sorted(LISTED) == sorted(FILES) == sorted(there | AWAITED)
    for name, (kinds, _, _) in LISTED.items():
        assert quoted(kinds) == [kind.__name__ for kind in FILES[name]], name


def test_the_programs_that_are_named_write_the_file() -> None:
    for name, (_, programs, _) in LISTED.items():
        if "has replaced" in programs:
            continue
        for program in quoted(programs):
            text = (ROOT / f"{program.replace('.', '/')}.py").read_text()
            assert f'"{name}"' in text, f"{program} does not name {name}"
            assert '__name__ == "__main__"' in text, program


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_row_is_of_a_kind_of_its_file(name: str) -> None:
    rows = records.read(RESULTS / name, *FILES[name])
    assert rows or name in AWAITED
    for row in rows:
        again = records.typed(name, records.as_json(row), type(row))
        assert again == row  # what is written is what is read


def test_the_pages_that_are_named_show_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, set[str]] = {name: set() for name in FILES}
    opened: list[str] = []
    read = records.read

    def noted(path: Path, *kinds: Any) -> Any:
        opened.append(path.name)
        return read(path, *kinds)

    monkeypatch.setattr(records, "read", noted)
    for page in report.PAGES:
        opened.clear()
        report.rendered(page.read_text())
        for name in opened:
            shown[name].add(str(page.relative_to(ROOT)))
    assert {name: set(quoted(pages)) for name, (_, _, pages) in LISTED.items()} == shown


def test_mypy_checks_every_field_of_a_row_that_is_made() -> None:
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert {"benchmarks", "studies"} <= set(mypy["packages"])
    unchecked = {module for override in mypy["overrides"] for module in override["module"]}
    assert not unchecked & {"benchmarks.*", "studies.*", "benchmarks.records", "benchmarks.rows.*"}
    assert not [module for module in unchecked if module.endswith("report")]


def test_a_field_that_older_rows_lack_says_what_its_default_means() -> None:
    text = "".join(path.read_text() for path in (ROOT / "benchmarks" / "rows").glob("*.py"))
    for kinds in FILES.values():
        for kind in kinds:
            for part in dataclasses.fields(kind):
                if part.default is not dataclasses.MISSING:
                    lines = re.findall(rf"^    {part.name}: .*$", text, re.M)
                    assert lines, part.name
                    assert any("#" in line or part.name in COMMENTED_ABOVE for line in lines), f"{kind}: {part.name}"


# Fields with a comment that several share.
COMMENTED_ABOVE = {
    "p99_ms", "bound_before", "stock", "stock_us", "times_stock", "noise_at_max_drift", "power", "mean_sqnr_db",
    "lowest_sqnr_db", "read",
}  # fmt: skip
