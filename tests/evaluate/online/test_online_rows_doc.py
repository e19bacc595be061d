"""What the page about an experiment's rows says is what is read and written."""

import re
from pathlib import Path

import pytest
from logged import START, experiment

from octorec.data.table_format import TableFormat
from octorec.evaluate.online import attribute, join, outcomes
from octorec.evaluate.online.joined import LOST
from octorec.evaluate.online.log import FILE_BYTES, FILE_SECONDS, WAITING_BYTES
from octorec.evaluate.online.outcome_table import LARGEST
from octorec.evaluate.online.rows import ENDED, EXPOSURES, OUTCOMES

PAGE = (Path(__file__).parents[3] / "docs/online-rows.md").read_text()
FLAT = " ".join(PAGE.split())


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("title", "schema"), [("Exposures", EXPOSURES), ("Outcomes", OUTCOMES)])
def test_the_columns_of_both_logs_are_told_in_order(title: str, schema: object) -> None:
    rows = re.findall(r"^\| (`.*?`(?:, `.*?`)*) \|", section(title), re.M)
    assert re.findall(r"`(\w+)`", " ".join(rows)) == schema.names


def test_each_end_of_a_request_is_told() -> None:
    assert all(f"`{end}`" in section("Exposures") for end in ENDED)


def test_sizes_and_times_are_those_of_the_log() -> None:
    assert (FILE_BYTES, FILE_SECONDS, WAITING_BYTES, LARGEST) == (64 * 2**20, 600, 16 * 2**20, 1e15)
    assert "64 MB or ten minutes" in FLAT
    assert "16 MB of rows wait" in FLAT


def test_words_of_the_counts_are_told() -> None:
    words = [LOST, join.IN_TWO, join.BEFORE, join.LATE, attribute.NEVER, attribute.OF_HELD_OUT, outcomes.FOREIGN]
    words += [outcomes.DOUBLED, attribute.UNKNOWN, "exposures doubled", "metric without a row", "processes killed"]
    words += [one.partition(":")[0] for one in (join.AHEAD, attribute.AHEAD, outcomes.DIFFERENT)]
    assert [one for one in words if one not in FLAT] == []
    shared = [one.removeprefix("outcomes ") for one in (attribute.SHARED, attribute.OTHERS, attribute.OF_TWO)]
    assert [one for one in shared if one not in FLAT] == []


def test_the_example_of_a_file_with_other_names_is_read(tmp_path: Path) -> None:
    names = re.search(r"--columns (\S+)", PAGE)[1]
    columns = dict(pair.split("=") for pair in names.split(","))
    path = tmp_path / "orders.csv"
    path.write_text(f"customer,ordered_at,kind,total\n42,{START},click,19.9\n")
    table, counts = outcomes.read_outcomes(path, experiment(), TableFormat(columns=columns))
    assert (table["unit"].to_pylist(), table["value"].to_pylist(), counts) == (["42"], [19.9], {})
