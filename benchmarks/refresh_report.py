"""What changing a server's weights costs its requests, as a table."""

from benchmarks.rows import recorded
from benchmarks.rows.refresh import RefreshRow
from benchmarks.tables import newest, table

FILE = "serve_refresh.jsonl"
NAMES = {"none": "none", "in place": "in place", "rollback": "rollback of that", "beside": "another engine beside"}


def changes() -> str:
    """The newest row of each change and device."""
    rows = newest(recorded(FILE, RefreshRow), lambda row: (row.checkpoint, row.device, row.change))
    columns = ["checkpoint", "change", "seconds", "no batch, ms", "compared: overlap / drift", "asked/s, of capacity"]
    columns += ["asked", "lost / of no version", "p50 / p99 / most, ms"]
    lines = [
        [
            f"{row.checkpoint} ({row.weights_mb:,.0f} MB) on {row.device}",
            NAMES[row.change],
            f"{row.seconds:.1f}" if row.change != "none" else "",
            "" if row.paused_s is None else f"{row.paused_s * 1e3:,.0f}",
            "" if row.overlap is None else f"{row.compared}: {row.overlap:.1%} / {row.mean_drift:.3f}",
            f"{row.rate:.1f} of {row.capacity_per_s:.1f}",
            f"{row.asked:,}",
            f"{row.lost} / {row.mixed}",
            f"{row.p50_ms:.0f} / {row.p99_ms:.0f} / {row.max_ms:.0f}",
        ]
        for row in rows
    ]
    last = rows[-1]
    where = last.environment.card if last.device == "cuda" else f"{last.cores} cores"
    about = f"{last.environment.date}, {where}, torch {last.environment.torch}, commit {last.environment.commit}"
    return table(columns, lines) + f"\n\n{about}: `{last.environment.command}`."
