"""What beam widths and `auto` cost, and where scores keep their bits, as tables for docs/exact.md."""

from benchmarks.rows import AutoRow, JudgingRow, PolicyRow, PrefillRow, ProductBits, SearchBits, recorded
from benchmarks.speed_report import commits, nothing, where
from benchmarks.tables import newest, table
from octorec.engine.widths import shown


def cost() -> str:
    """The newest row of each precision, batch and beam width, precisions side by side."""
    found = newest(recorded("policies.jsonl", PolicyRow), lambda row: (row.precision, row.batch, row.beam_width))
    by_shape: dict[tuple[int, int | tuple[int, ...]], dict[str, PolicyRow]] = {}
    for row in found:
        by_shape.setdefault((row.batch, row.beam_width), {})[row.precision] = row
    lines = []
    for (batch, width), rows in by_shape.items():
        k = next(iter(rows.values())).k
        lines.append([k, shown(width), batch, *(_times(rows.get(precision)) for precision in ("fp8", "bf16"))])
    here = found[-1].environment
    columns = ["k", "beams", "requests a batch", "FP8: device, host to host", "BF16"]
    said = f"{found[-1].preset}, context {found[-1].context}, {found[-1].n_items:,} items; {here.gpu}, {here.date}"
    return f"{table(columns, lines)}\n\n{said}, torch {here.torch}, `python -m benchmarks.policies`, {commits(found)}."


def _times(row: PolicyRow | None) -> str:
    if row is None:
        return ""
    rate = f"**{row.requests_per_s:,.0f}/s**, MFU {row.mfu:.2f}"
    return f"{row.ms_per_batch:.1f} ms, {rate}; {row.p50_ms:.1f} ms"


def auto_cost() -> str:
    """The newest row of each precision and table: the same requests with the widest beams and with `auto`."""
    found = newest(recorded("policies.jsonl", AutoRow), lambda row: (row.precision, not row.table))
    if not found:
        return nothing("auto_cost")
    lines = [
        [
            row.precision.upper(),
            f'"{row.table[str(row.k)]} beams"' if row.table else "none",
            f"{row.certified:.0%}",
            f"{row.repeated:.0%}",
            f"{row.fixed_ms:.0f} ({row.fixed_p99_ms:.0f})",
            f"{row.auto_ms:.0f} ({row.auto_p99_ms:.0f})",
            f"**{row.ratio:.3f}x**",
        ]
        for row in found
    ]
    first = found[0]
    heads = ["", f"the table says of k {first.k}", f"certified by {first.beam_width} beams", "repeated",
             f"{first.beam_width} beams, ms (p99)", "`auto`, ms (p99)", "ratio"]  # fmt: skip
    said = f"{first.requests} requests a call in batches of {first.batch}, from host to host, by turns."
    return f"{table(heads, lines)}\n\n{said} {where(found[-1])}"


def prefill() -> str:
    """The newest row of each batch: what a repeat computes again, and what keeping it would copy."""
    found = newest(recorded("policies.jsonl", PrefillRow), lambda row: (row.precision, row.batch, row.beam_width))
    lines = [
        [
            f"{row.batch} of {row.beam_width} beams",
            f"{row.prefill_ms:.2f} ms",
            f"{row.search_ms:.1f} ms",
            f"{row.share:.1%}",
            f"{row.context_mb:.0f} MB",
        ]
        for row in found
    ]
    last = found[-1]
    said = f"{last.preset}, {last.precision.upper()}, context {last.context}."
    heads = ["requests", "their contexts", "the whole search", "share", "keys and values"]
    return f"{table(heads, lines)}\n\n{said} {where(last)}"


def judging() -> str:
    """The newest two rows on a GPU: the seconds of a verdict, part by part."""
    found = [row for row in recorded("judging.jsonl", JudgingRow) if row.device == "cuda"][-2:]
    parts = list(found[-1].parts)
    lines = [
        [f"{row.targets:,}", row.beam_width, *(f"{row.parts[part]:.1f}" for part in parts), f"**{row.seconds:.1f}**"]
        for row in found
    ]
    return f"{table(['targets', 'beams', *parts, 'seconds in all'], lines)}\n\n{where(found[-1])}"


def bits() -> str:
    """The products that give a row other bits among few rows, and how searches of several widths agree."""
    products = newest(
        recorded("same_bits.jsonl", ProductBits), lambda row: (row.precision, row.kind, row.n, row.k, row.residual)
    )
    searches = newest(recorded("same_bits.jsonl", SearchBits), lambda row: row.precision)
    lines = [
        [row.precision, f"{row.differing:,} of {row.compared:,}", f"{row.most:.2g}", f"{row.wrong} of {row.exact:,}"]
        for row in searches
    ]
    columns = ["precision", "scores that differ", "at most, nats", "exact answers unlike the widest's"]
    uneven = [
        f"{row.n} x {row.k} in {row.precision}{' with a residual' if row.residual else ''} (up to "
        f"{max(row.differing_rows)} rows, by {row.most:.2g})"
        for row in products
        if row.differing_rows
    ]
    which = f"these give a row other bits among few rows: {'; '.join(uneven)}" if uneven else "none depends on the rows"
    said = f"Of {len(products)} products {which}."
    here = searches[-1].environment
    return f"{table(columns, lines)}\n\n{said} {here.gpu}, {here.date}, torch {here.torch}, commit {here.commit}."
