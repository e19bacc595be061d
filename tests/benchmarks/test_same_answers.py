"""Answers are compared to the bit, and one score or item that moved is named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import same_answers
from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook
from octorec.errors import InputError


@pytest.fixture
def checkpoint(make_checkpoint: Callable[..., Path]) -> Path:
    sizes = (7, 5, 6)
    codes = [[number % 7, number % 5, number % 6] for number in range(60)]
    items = {"item_id": [f"i{number}" for number in range(60)], "codes": pa.array(codes, pa.list_(pa.int32()))}
    centroids = tuple(np.zeros((size, 2), np.float32) for size in sizes)
    catalog = Catalog.of_items(pa.table(items), sizes, Codebook(centroids))
    folder = make_checkpoint("tiny", codebook_fingerprint=catalog.fingerprint)
    catalog.save(folder / "catalog")
    return folder


@pytest.mark.slow
def test_the_same_code_gives_the_same_answers_and_a_moved_score_is_named(checkpoint: Path, tmp_path: Path) -> None:
    files = [tmp_path / "before.jsonl", tmp_path / "after.jsonl"]
    for file in files:
        same_answers.write(file, [checkpoint])
    assert same_answers.differences(*files) == []
    rows = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert len(rows) == 2 * same_answers.REQUESTS
    assert all(row["items"] for row in rows)
    rows[3]["scores"][0] = (float.fromhex(rows[3]["scores"][0]) * (1 + 2**-50)).hex()
    rows[4]["items"].reverse()
    files[1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = same_answers.differences(*files)
    assert [line.rsplit(", ", 1)[1] for line in found] == ["alone: scores differ", "together: items differ"]
    assert not same_answers.compare(*files)


def test_other_requests_are_no_agreement(tmp_path: Path) -> None:
    for name, row in (("a", "r1"), ("b", "r2")):
        (tmp_path / name).write_text(json.dumps({"name": row, "items": [], "scores": []}))
    with pytest.raises(InputError, match="must hold the requests"):
        same_answers.differences(tmp_path / "a", tmp_path / "b")
