"""What the Qwen engine is to reach on one H200, and recorded rows beside that."""

from collections.abc import Iterable
from typing import Any

from benchmarks.rows.qwen_speed import QwenSpeedRow, QwenWanted

FP8, BF16 = QwenWanted("octorec", "1.7b", "fp8", 8, 256, 1000), QwenWanted("octorec", "1.7b", "bf16", 8, 256, 1000)
GOALS = {  # ms a batch: at least, aim
    FP8: (52, 40),
    BF16: (74, 65),
    QwenWanted("octorec", "1.7b", "fp8", 8, 64, 1000): (42, 34),
    QwenWanted("octorec", "1.7b", "fp8", 1, 256, 1000): (10, 7),
    QwenWanted("octorec", "1.7b", "fp8", 8, 256, 5000): (190, 155),
    QwenWanted("octorec", "1.7b", "fp8", 1, 128, 1000, prefix="hit"): (6, 4),
    QwenWanted("octorec", "8b", "fp8", 8, 256, 1000): (175, 145),
}
GAIN = (1.35, 1.5)  # FP8 over our BF16: at least, aim
HEADS = ("batch", "ms", "requests/s", "MFU", "at least", "aim")


def wanted_of(row: QwenSpeedRow) -> QwenWanted:
    """What a row measured."""
    return QwenWanted(**{name: getattr(row, name) for name in QwenWanted.__dataclass_fields__})


def called(row: QwenWanted) -> str:
    """A batch in words."""
    tokens = f"{row.context:,} tokens" + (", as RecIF's" if row.lengths == "recif" else "")
    requests = "1 request" if row.batch == 1 else f"{row.batch} requests"
    prefix = "" if row.prefix == "off" else f", prefix {row.prefix}"
    return f"{row.model.upper()} {row.precision.upper()}, {requests} of {tokens}, {row.beam} beams{prefix}"


def goal_lines(rows: Iterable[QwenSpeedRow]) -> list[list[Any]]:
    """A line of HEADS for each goal whose batch was measured, then that of FP8 over BF16."""
    found = {wanted_of(row): row for row in rows}
    lines: list[list[Any]] = []
    for wanted, (least, aim) in GOALS.items():
        if (row := found.get(wanted)) is not None:
            met = "" if row.ms_per_batch <= least else " (missed)"
            rates = f"{row.ms_per_batch:.1f}{met}", f"{row.requests_per_s:.0f}", f"{row.mfu:.0%}"
            lines.append([called(wanted), *rates, least, aim])
    if FP8 in found and BF16 in found:
        gain = found[BF16].ms_per_batch / found[FP8].ms_per_batch
        met = "" if gain >= GAIN[0] else " (missed)"
        lines.append(["FP8 over BF16, the first row", f"{gain:.2f}x{met}", "", "", f"{GAIN[0]}x", f"{GAIN[1]}x"])
    return lines
