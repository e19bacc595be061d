"""The whole proof with a small model, on a made-up shop: every row that the pages are rendered from is there."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.records import read
from benchmarks.rows import FILES, PooledVerdict, SetVerdict
from studies.quality import plots, pool, render, run, settings
from studies.quality.data import read_shop

USERS, ITEMS = 400, 500


def write_shop(folder: Path, name: str) -> None:
    """Users who walk through a ring of items, a few steps at a time."""
    generator = np.random.default_rng(0)
    lines = []
    for user in range(1, USERS + 1):
        steps = generator.integers(1, 4, generator.integers(5, 12)).cumsum() + generator.integers(ITEMS)
        lines.append(" ".join(map(str, [user, *(step % ITEMS + 1 for step in steps)])))
    (folder / f"{name}.txt").write_text("\n".join(lines))
    attributes = {str(item): [item % 7 + 1, item % 11 + 20] for item in range(1, ITEMS + 1)}
    (folder / f"{name}.attributes.json").write_text(json.dumps(attributes))


def test_a_shop_holds_out_two_items_of_each_user(tmp_path: Path) -> None:
    write_shop(tmp_path, "beauty")
    shop = read_shop(tmp_path, "beauty")
    lines = [line.split()[1:] for line in (tmp_path / "beauty.txt").read_text().splitlines()]
    assert [example.target for example in shop.test] == [items[-1] for items in lines]
    assert [list(example.history) for example in shop.test] == [items[:-1] for items in lines]
    assert [example.target for example in shop.validation] == [items[-2] for items in lines]
    assert len(shop.train) == sum(len(items) - 2 for items in lines)
    assert [example.user_id for example in shop.examples[:4]] == ["1", "1", "2", "2"]
    assert shop.items["sets"].to_pylist()[0] == ["2", "21"]


@pytest.mark.slow
def test_rows_pool_and_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BATCH", 32)
    monkeypatch.setattr(run, "OTHER_BATCH", 8)
    monkeypatch.setattr(settings, "BEAM_WIDTH", 16)
    write_shop(tmp_path, "beauty")
    out = tmp_path / "out"
    call = ["run", "--data", str(tmp_path), "--set", "beauty", "--out", str(out), "--tiny", "--device", "cpu"]
    for more in (["--users", "60"], ["--users", "60", "--seed", "1", "--only-bf16"]):
        monkeypatch.setattr(sys, "argv", [*call, *more])
        run.main()
    for name in ("sports", "toys"):
        shutil.copytree(out / "beauty-moe-0", out / f"{name}-moe-0")
        rows = (out / f"{name}-moe-0" / "rows.jsonl").read_text()
        (out / f"{name}-moe-0" / "rows.jsonl").write_text(rows.replace('"scope": "beauty"', f'"scope": "{name}"'))
    results = tmp_path / "quality.jsonl"
    monkeypatch.setattr(sys, "argv", ["pool", str(out), "--out", str(results)])
    pool.main()
    recorded = read(results, *FILES["quality.jsonl"])
    pooled = render.find(recorded, PooledVerdict, "pooled", "fp8")
    assert pooled is not None
    assert (pooled.users, pooled.targets) == (180, 360)
    assert pooled.verdict in ("not_inferior", "inferior", "inconclusive")
    exact = render.find(recorded, SetVerdict, "beauty", "bf16, other batches")
    assert exact is not None
    assert exact.top10_overlap > 0.99
    assert all(row.invalid == 0 for row in recorded if isinstance(row, SetVerdict))
    for name in render.BREAKERS:
        if name != "fp8, float32 sums":  # kernels only
            row = render.find(recorded, SetVerdict, "toys", name)
            assert row is not None, name
            assert name == run.SHIFTED or 10 < (row.mean_sqnr_db or 0) < 45
    worst, best = (
        render.find(recorded, SetVerdict, "beauty", name) for name in ("e5m2-tensor-everywhere (simulated)", "fp8")
    )
    assert worst is not None
    assert best is not None
    assert worst.mean_sqnr_db < best.mean_sqnr_db - 4
    assert (out / "beauty-moe-0" / "fp8" / "quantization.json").exists()
    assert "e5m2 (simulated)" in (out / "beauty-moe-0" / "loss.svg").read_text()
    assert not (out / "beauty-moe-1" / "loss.svg").exists()
    monkeypatch.setattr(render, "rows", lambda: recorded)
    pages = [page() for page in (render.verdicts, render.models, render.noise, render.breakers)]
    assert all(page.count("\n") >= 5 for page in pages)
    assert "bf16, seed 1" in pages[2]
    assert "180 users" in render.line()
    assert plots.loss_by_sqnr(recorded).startswith("<svg")
