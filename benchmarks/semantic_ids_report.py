"""Semantic IDs: the recorded rows as tables."""

from itertools import groupby

from benchmarks.records import RESULTS, read
from benchmarks.tables import Row, newest, table

ROWS = RESULTS / "semantic_ids.jsonl"


def fits() -> str:
    """The newest fit of each method, vectors, number of items and codes."""
    rows = [row for row in read(ROWS) if "errors" in row]
    what = ("vectors", "items", "codebook_sizes", "seed", "method")
    found = newest(rows, lambda row: str([row[name] for name in what]))
    found.sort(key=lambda row: [row[name] for name in what])
    columns = ["vectors", "codes", "by", "seed", "threads", "seconds", "iterations", "left after each level", "sharing"]
    return table(columns, [_fit(row) for row in found])


def _fit(row: Row) -> list[str]:
    whole = row["errors"][0]
    return [
        f"{row['items']:,} of {row['vectors'].removesuffix('.npy')}, width {row['width']}",
        " x ".join(map(str, row["codebook_sizes"])),
        row["method"],
        str(row["seed"]),
        str(row["threads"]),
        f"{row['seconds']:,.1f}",
        ", ".join(map(str, row["iterations"])),
        ", ".join(f"{error / whole:.2%}" for error in row["errors"][1:]),
        f"{row['sharing'] / row['items']:.2%}",
    ]


def recall() -> str:
    """Recall of the demo's model over the catalogs of each method, seed by seed."""
    rows = newest([row for row in read(ROWS) if "demo_seed" in row], lambda row: (row["method"], row["demo_seed"]))
    if not rows:
        return "Not recorded yet: `python -m benchmarks.semantic_ids --recall --seeds 0,1,2`."
    rows.sort(key=lambda row: (row["demo_seed"], row["method"]))
    lines = [
        [str(row["demo_seed"]), row["method"], str(row["sharing"]), f"{row['recall@10']:.4f}", f"{row['ndcg@10']:.4f}"]
        for row in rows
    ]
    by_method = sorted(rows, key=lambda row: row["method"])
    for method, some in groupby(by_method, key=lambda row: row["method"]):
        group = list(some)
        means = [f"{sum(row[name] for row in group) / len(group):.4f}" for name in ("recall@10", "ndcg@10")]
        lines.append(["mean", method, "", *means])
    return table(["seed", "by", "films that share a tuple", "recall@10", "ndcg@10"], lines)
