"""The rows of `benchmarks.serve_goodput` and `benchmarks.serve_processes` as tables of docs/serving.md."""

from benchmarks.rows import FloodRow, GoodputRow, OverheadRow, ProcessesRow, WorkersRateRow, recorded
from benchmarks.rows.serving import Times
from benchmarks.tables import newest, table
from octorec.engine.widths import shown

FILE, PROCESSES = "serve_goodput.jsonl", "serve_processes.jsonl"


def goodput() -> str:
    """The newest row of each part, bound, checkpoint and device, and what stands beside them."""
    rows = newest(recorded(FILE, GoodputRow), lambda row: (row.part, row.bound_ms, row.checkpoint, row.device))
    columns = ["checkpoint", "k, beams", "over", "p99 within", "requests/s", "of the engine's", "p50 / p99, ms"]
    columns += ["queue / device, p50 ms", "cores of the server"]
    last = rows[-1].environment
    where = last.card if rows[-1].device == "cuda" else f"{rows[-1].cores} cores, load {rows[-1].load:g}"
    said = f"{last.date}, {where}, torch {last.torch}, commit {last.commit}: `{last.command}`."
    return table([*columns], map(_cells, rows)) + "\n\n" + " ".join([*_overhead(), said])


def _cells(row: GoodputRow) -> list[object]:
    over = f"HTTP, workers: {row.http_workers}" if row.over == "http" else f"gRPC, {row.rows_per_call} a call"
    rate = f"{row.goodput_per_s:,.0f}" if row.within else "none" if row.refused is None else "the tool was too slow"
    inside = " / ".join("" if times is None else f"{times.p50:.1f}" for times in (row.queue_ms, row.device_ms))
    return [
        f"{row.checkpoint} on {row.device}",
        f"{row.k}, {shown(row.beam_width)}",
        over,
        f"{row.bound_ms:g} ms",
        rate,
        f"{row.share:.0%} of {row.offline_per_s:,.0f}" if row.within else f"of {row.offline_per_s:,.0f}",
        _latency(row.e2el_ms),
        inside if row.queue_ms else "",
        row.server_cores,
    ]


def _latency(times: Times) -> str:
    return "" if times is None else f"{times.p50:.0f} / {times.p99:.0f}"


def _overhead() -> list[str]:
    rows = newest(recorded(FILE, OverheadRow), lambda row: (row.checkpoint, row.device))
    return [
        f"At low load the server (workers: {row.http_workers}) adds {row.added_ms.p50:.2f} ms at p50 to "
        f"{row.checkpoint} on {row.device} (95 %: {row.interval_ms[0]:.2f} .. {row.interval_ms[1]:.2f})."
        for row in rows
    ]


def flood() -> str:
    """The newest flood of each number of workers and times."""
    rows = newest(recorded(FILE, FloodRow), lambda row: (row.times, row.http_workers, row.cores))
    columns = ["asked / can do, a second", "workers", "served/s", "of the capacity", "served: p50 / p99, ms"]
    columns += ["a refusal, us", "cores: server, clients"]
    cells = [
        [
            f"{row.asked_per_s:,.0f} / {row.capacity_per_s:,.0f}",
            row.http_workers,
            f"{row.served_per_s:,.0f}",
            f"{row.share:.0%}",
            _latency(row.e2el_ms),
            "" if row.refusal_us is None else f"{row.refusal_us:,.0f}",
            f"{row.server_cores}, {row.clients}",
        ]
        for row in rows
    ]
    here = rows[-1].environment
    return table(columns, cells) + f"\n\n{here.date}, load {rows[-1].load:g}, commit {here.commit}: `{here.command}`."


def memory() -> str:
    """The newest row of each number of workers and items."""
    rows = newest(recorded(PROCESSES, ProcessesRow), lambda row: (row.n_items, row.http_workers))
    columns = [
        "items",
        "workers",
        "all processes, MB",
        "the engine's",
        "a worker's",
        "of which its own",
        "catalog's files",
    ]
    cells = [
        [
            f"{row.n_items:,}",
            row.http_workers,
            f"{row.total_mb:,.0f}",
            f"{row.engine_mb:,.0f}",
            *("" if size is None else f"{size:,.0f}" for size in (row.worker_mb, row.worker_own_mb, row.catalog_mb)),
        ]
        for row in rows
    ]
    here = rows[-1].environment
    return table(columns, cells) + f"\n\n{here.date}, torch {here.torch}, commit {here.commit}: `{here.command}`."


def rates() -> str:
    """The newest row of each checkpoint and number of workers."""
    rows = newest(recorded(PROCESSES, WorkersRateRow), lambda row: (row.checkpoint, row.http_workers))
    columns = ["checkpoint", "workers", "requests/s", "lowest .. highest round", "over none, by turns"]
    cells = [
        [
            row.checkpoint,
            row.http_workers,
            row.per_s,
            f"{min(row.rounds):.1f} .. {max(row.rounds):.1f}",
            f"{row.over_none:.2f}x",
        ]
        for row in rows
    ]
    last, here = rows[-1], rows[-1].environment
    said = (
        f"{last.cores} cores, a load of {last.load:g} by other work, {len(last.rounds)} rounds of {last.seconds:g} s."
    )
    return table(columns, cells) + f"\n\n{said} {here.date}, commit {here.commit}: `{here.command}`."
