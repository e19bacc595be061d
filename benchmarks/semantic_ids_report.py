"""Semantic IDs: the recorded rows as tables."""

from itertools import groupby

from benchmarks.rows import CodebookRecall, CodebookRow, recorded
from benchmarks.tables import newest, table

FILE = "semantic_ids.jsonl"


def fits() -> str:
    """The newest fit of each method, vectors, number of items and codes."""

    def what(row: CodebookRow) -> tuple[str, int, tuple[int, ...], int, str]:
        return row.vectors, row.items, row.codebook_sizes, row.seed, row.method

    found = sorted(newest(recorded(FILE, CodebookRow), what), key=what)
    columns = ["vectors", "codes", "by", "seed", "threads", "seconds", "iterations", "left after each level", "sharing"]
    return table(columns, [_fit(row) for row in found])


def _fit(row: CodebookRow) -> list[str]:
    whole, *left = row.errors
    return [
        f"{row.items:,} of {row.vectors.removesuffix('.npy')}, width {row.width}",
        " x ".join(map(str, row.codebook_sizes)),
        row.method,
        str(row.seed),
        str(row.threads),
        f"{row.seconds:,.1f}",
        ", ".join(map(str, row.iterations)),
        ", ".join(f"{error / whole:.2%}" for error in left),
        f"{row.sharing / row.items:.2%}",
    ]


def recall() -> str:
    """Recall of the demo's model over the catalogs of each method, seed by seed."""
    rows = newest(recorded(FILE, CodebookRecall), lambda row: (row.method, row.demo_seed))
    if not rows:
        return "Not recorded yet: `python -m benchmarks.semantic_ids --recall --seeds 0,1,2`."
    rows.sort(key=lambda row: (row.demo_seed, row.method))
    lines = [
        [str(row.demo_seed), row.method, str(row.sharing), f"{row.recall_10:.4f}", f"{row.ndcg_10:.4f}"] for row in rows
    ]
    by_method = sorted(rows, key=lambda row: row.method)
    for method, some in groupby(by_method, key=lambda row: row.method):
        group = list(some)
        recall_10 = sum(row.recall_10 for row in group) / len(group)
        ndcg_10 = sum(row.ndcg_10 for row in group) / len(group)
        lines.append(["mean", method, "", f"{recall_10:.4f}", f"{ndcg_10:.4f}"])
    return table(["seed", "by", "films that share a tuple", "recall@10", "ndcg@10"], lines)
