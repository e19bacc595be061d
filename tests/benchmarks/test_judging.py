"""The programs that measure the host run as they stand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks import host, judging, records
from benchmarks.rows import HostRow, JudgingRow
from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook


def test_each_part_of_a_batch_is_timed(tmp_path: Path) -> None:
    row = host.measure(host.engine_of(500, 4, 8, 16), 4, 8, 16, k=3, runs=1)
    assert (row.batch, row.context, row.beam_width, row.k, row.n_items) == (4, 8, 16, 3, 500)
    assert row.ms == pytest.approx(row.parse_ms + row.stage_ms + row.rank_ms + row.answer_ms, abs=0.03)
    records.append(tmp_path / "host.jsonl", row)
    assert records.read(tmp_path / "host.jsonl", HostRow) == [row]


def test_a_verdict_is_timed_part_by_part(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    sizes = (7, 5, 6)
    codes = [[number % 7, number % 5, number % 6] for number in range(60)]
    items = {"item_id": [f"i{number}" for number in range(60)], "codes": pa.array(codes, pa.list_(pa.int32()))}
    catalog = Catalog.of_items(
        pa.table(items), sizes, Codebook(tuple(np.zeros((size, 2), np.float32) for size in sizes))
    )
    folders = [make_checkpoint("tiny", torch.bfloat16, codebook_fingerprint=catalog.fingerprint) for _ in range(2)]
    for folder in folders:
        catalog.save(folder / "catalog")
    data = tmp_path / "interactions.csv"
    rows = [f"u{user},i{(user * 7 + at * 3) % 60},{at}" for user in range(12) for at in range(6)]
    data.write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    row = judging.measure(*folders, data, "cpu", targets=20, k=5, beam_width=8, hold_out=2)
    assert (row.targets, row.items, row.k, row.verdict) == (20, 60, 5, "inconclusive")
    assert list(row.parts) == ["read", "load", "baseline", "candidate", "floors", "verdict"]
    assert sum(row.parts.values()) <= row.seconds + 0.1
    records.append(tmp_path / "judging.jsonl", row)
    assert records.read(tmp_path / "judging.jsonl", JudgingRow) == [row]
