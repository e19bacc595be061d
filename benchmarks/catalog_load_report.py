"""Files of semantic IDs: how long they take to read, as a table."""

from benchmarks.rows import CatalogLoadRow, recorded
from benchmarks.tables import newest, table

FILE = "catalog_load.jsonl"


def loads() -> str:
    """The newest reading of each form."""
    rows = newest(recorded(FILE, CatalogLoadRow), lambda row: row.form)
    columns = [
        "file",
        "MB",
        "SIDs",
        "items",
        "seconds",
        "of a core",
        "look-ups of a server",
        "most memory",
        "load before",
    ]
    lines = [
        [
            row.form,
            f"{row.megabytes:,.0f}",
            f"{row.sids:,}",
            f"{row.items:,}",
            f"{row.seconds:.1f}",
            f"{row.cpu_seconds:.1f}",
            f"{row.look_up_seconds:.1f}",
            f"{row.peak_rss_mb:,} MB",
            f"{row.load_before:.1f} on {row.cores} cores",
        ]
        for row in sorted(rows, key=lambda row: row.form)
    ]
    return table(columns, lines)
