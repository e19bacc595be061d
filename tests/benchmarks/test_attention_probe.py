"""Every way of an operation that runs on a CPU gives the reference's result, and becomes a row."""

from pathlib import Path

import pytest

from benchmarks import attention_probe, qwen_tilings, records
from benchmarks.qwen_cases import CASES
from benchmarks.rows.qwen_speed import ProbeFailure, ProbeRow
from octorec.kernels import reference
from octorec.kernels.products import HOPPER, Tiling

WAYS = {  # that there are on a CPU
    "prefill_attention": {"ours", "ours, cast", "SDPA, a request a call", "SDPA flash, padded"},
    "beam_attention": {"ours", "ours, cast", "stock, scores in memory", "flash over the context alone"},
    "log_norm": {"ours", "logits in memory", "the product alone"},
    "rope": {"ours", "stock"},
    "products": {"by the table"},
    "glue": {"ours", "ours, cast"},
}
PARTS = {"flash over the context alone", "the product alone"}


def test_layouts_fit_the_shared_memory_of_a_hopper() -> None:
    for operation in ("prefill_attention", "beam_attention", "log_norm", "product"):
        assert len({*qwen_tilings.layouts(operation)}) == len([*qwen_tilings.layouts(operation)]) >= 6
    assert [*qwen_tilings.layouts("rope")] == []
    assert qwen_tilings.called(Tiling(64, 32, 4, 2)) == "tried: rows 64 items 32 warps 4 stages 2"
    for layout in qwen_tilings.ATTENTION:
        assert 2 * 128 * (layout.rows + 2 * layout.items * layout.stages) <= HOPPER.shared


def test_layouts_are_ways_beside_the_others(tmp_path: Path) -> None:
    """The reference takes no layout: each is refused, and the other ways are not."""
    attention_probe.probe(["tiny"], ["log_norm"], reference, "cpu", 1, out := tmp_path / "rows", tilings=True)
    rows = records.read(out, ProbeRow, ProbeFailure)
    tried = [row for row in rows if row.by.startswith("tried")]
    assert len(tried) == 4 * len(qwen_tilings.VOCABULARY)
    assert all(isinstance(row, ProbeFailure) == (row in tried) for row in rows)


@pytest.mark.parametrize("operation", CASES)
def test_each_way_computes_the_operation(operation: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    attention_probe.probe(["tiny"], [operation], reference, "cpu", 1, out)
    rows = records.read(out, ProbeRow, ProbeFailure)
    found = [row for row in rows if isinstance(row, ProbeRow)]
    assert {row.by for row in found} == WAYS[operation]
    for row in found:
        assert (row.error is None) == (row.by in PARTS), row
        assert row.error is None or row.error < (0.01 if row.precision == "bf16" else 0.06), row
    assert {row.by for row in rows if isinstance(row, ProbeFailure)} <= {"flash, packed", "SDPA cuDNN, padded"}
    assert len(capsys.readouterr().out.splitlines()) > len(rows)
