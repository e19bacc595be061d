"""A log of rows that never waits for the disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

EXPOSURES_FOLDER, OUTCOMES_FOLDER = "exposures", "outcomes"  # below an experiment's folder


class RowLog:
    def __init__(
        self, folder: str | Path, schema: pa.Schema, on_lost: Callable[[int], None] | None = None, flush_s: float = 1.0
    ):
        self.folder, self.schema, self.on_lost, self.lost = Path(folder), schema, on_lost, 0
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)

    def close(self, timeout_s: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [{**row, "time": round(row["time"] * 1e6)} for row in self._rows]
        pq.write_table(pa.Table.from_pylist(rows, self.schema), self.folder / "rows.parquet")
