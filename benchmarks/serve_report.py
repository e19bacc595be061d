"""The settings of the server, and the rows of the `serve` programs, as tables of docs/serving.md."""

from benchmarks.records import RESULTS, read
from benchmarks.serve_memory import FLAT_MB, failed, gained_mb
from benchmarks.speed_report import gpu, nothing, where
from benchmarks.tables import Row, newest, table
from octorec.prove.config import ProveConfig
from octorec.serve.config import ServeConfig
from octorec.settings import settings_of

MILLION = 1e6


def settings() -> str:
    """Every setting of `octorec serve`."""
    cells = [
        [f"`{field.name}`", "" if field.default is None else f"`{field.default}`", field.metadata["help"]]
        for field in settings_of(ServeConfig).values()
    ]
    return table(["setting", "default", "what it does"], cells)


def serve() -> str:
    """The newest row of each model, k and share of the offline rate."""
    rows = newest(read(RESULTS / "serve.jsonl"), lambda row: (row["preset"], row["precision"], row["k"], row["share"]))
    if not rows:
        return nothing("serve")
    columns = ["model", "k", "asked/s", "of offline", "good/s", "99 % within", "p50 / p90 / p99 ms"]
    stages = ["queue / device / encode / else, p50 ms", "cores", "$ a million", "GPU"]
    last = rows[-1]
    said = [
        f"Offline: {last['offline_per_s']} requests/s of full batches on the device, {last['offline_host_per_s']} from "
        "the host to the host by one thread.",
        f"First answer after ready: {last['first_ms']:.1f} ms; p99 of calm requests: {last['calm_p99_ms']:.1f} ms. "
        f"Captured after ready: {last['captured_after']}; kernels compiled: {last['compiled_after']}.",
        f"A GPU is taken to cost ${ProveConfig.dollars_per_hour:.2f} an hour. {where(last)}",
    ]
    return table([*columns, *stages], map(cells_of, rows)) + "\n\n" + " ".join(said)


def line() -> str:
    """What one server answers within the bound, of the newest rows; for the README."""
    rows = newest(read(RESULTS / "serve.jsonl"), lambda row: (row["preset"], row["precision"], row["k"], row["share"]))
    within = [row for row in rows if row["within"]]
    if not within:
        return nothing("serve")
    best = max(within, key=lambda row: row["goodput_per_s"])
    rate = best["goodput_per_s"]
    return (
        f"`octorec serve` on the same model, over HTTP: **{rate:.0f} requests/s**, 99 % of them within "
        f"{best['e2el_ms']['p99']:.0f} ms (bound {best['bound_ms']:g} ms), {rate / best['offline_per_s']:.0%} of what "
        f"the device does offline; ${dollars(rate)} a million requests; see [docs/serving.md](docs/serving.md)."
    )


def cells_of(row: Row) -> list[object]:
    latency, stages = row["e2el_ms"], [row[f"{name}_ms"].get("p50", 0.0) for name in ("queue", "device", "encode")]
    stages.append(row["outside_device_ms"].get("p50", 0.0) - stages[0] - stages[2])
    return [
        f"{row['preset']}, {row['precision']}",
        row["k"],
        f"{row['request_rate']:.0f}",
        f"{row['share']:.0%}",
        f"{row['goodput_per_s']:.0f}",
        f"{'yes' if row['within'] else 'no'} ({row['bound_ms']:g} ms)",
        " / ".join(f"{latency[name]:.0f}" for name in ("p50", "p90", "p99")) if latency else "",
        " / ".join(f"{value:.1f}" for value in stages),
        row["cores"],
        dollars(row["goodput_per_s"]),
        gpu(row),
    ]


def dollars(per_s: float) -> str:
    """Of a million requests at so many a second on one GPU."""
    return f"{ProveConfig.dollars_per_hour / 3600 / per_s * MILLION:.2f}" if per_s else ""


def overhead() -> str:
    """The newest row of each checkpoint and device."""
    rows = newest(read(RESULTS / "serve_overhead.jsonl"), lambda row: (row["checkpoint"], row["device"]))
    if not rows:
        return nothing("serve_overhead")
    cells = [
        [
            f"{row['checkpoint']} on {row['gpu'] or row['device']}, {row['cores']} cores",
            row["pairs"],
            *(f"{row[f'{name}_ms']['p50']:.1f} / {row[f'{name}_ms']['p99']:.1f}" for name in ("engine", "server")),
            f"{row['added_ms']['p50']:.2f} ({row['interval_ms'][0]:.2f} .. {row['interval_ms'][1]:.2f})",
            f"{row['outside_ms']['p50']:.2f}",
        ]
        for row in rows
    ]
    sides = ["engine p50 / p99, ms", "through HTTP", "the server adds, p50 (95 % interval)", "outside the device"]
    last = rows[-1]
    about = f"{last['date']}, torch {last['torch']}, uvicorn {last['versions']['uvicorn']}, commit {last['commit']}: "
    return table(["checkpoint", "requests", *sides], cells) + f"\n\n{about}`{last['command']}`."


def soak() -> str:
    """The newest run over time, in brief."""
    rows = read(RESULTS / "serve_soak.jsonl")
    if not rows:
        return nothing("serve_soak")
    starts = [number for number, row in enumerate(rows) if number == 0 or row["at_s"] < rows[number - 1]["at_s"]]
    run = rows[starts[-1] :]
    p99 = [row["e2el_ms"]["p99"] for row in run if row["e2el_ms"]]
    cells = [
        [
            f"{run[-1]['at_s'] / 60:.0f}",
            f"{run[-1]['rate']:.1f}",
            f"{sum(row['answered'] for row in run):,}",
            f"{failed(run)} / {failed(run, shed=True)}",
            f"{gained_mb(run):+.0f} (at most {FLAT_MB:.0f})",
            f"{run[-1]['rss_mb']:.0f}",
            f"{sorted(p99)[len(p99) // 2]:.0f} / {max(p99):.0f}",
        ]
    ]
    columns = [
        "minutes",
        "asked/s",
        "answered",
        "failed / shed",
        "MB gained",
        "MB at last",
        "p99 of 10 s, ms: median / worst",
    ]
    about = f"{run[-1]['checkpoint']} on {run[-1]['device']}, torch {run[-1]['torch']}, commit {run[-1]['commit']}."
    return table(columns, cells) + "\n\n" + about
