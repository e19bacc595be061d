"""The settings of the server, and the rows of the `serve` programs, as tables of docs/serving.md."""

from benchmarks.rows import CallRow, EncodingRow, OverheadRow, RayOverheadRow, ServeRow, SoakRow, recorded
from benchmarks.serve_memory import FLAT_MB, failed, gained_mb
from benchmarks.speed_report import nothing, where
from benchmarks.tables import newest, table
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


def serve_rows() -> list[ServeRow]:
    """The newest row of each model, k and share of the offline rate."""
    return newest(recorded("serve.jsonl", ServeRow), lambda row: (row.preset, row.precision, row.k, row.share))


def serve() -> str:
    """A line for each of `serve_rows`."""
    rows = serve_rows()
    if not rows:
        return nothing("serve")
    columns = ["model", "k", "asked/s", "of offline", "good/s", "99 % within", "p50 / p90 / p99 ms"]
    stages = ["queue / device / encode / else, p50 ms", "cores", "$ a million", "GPU"]
    last = rows[-1]
    said = [
        f"Offline: {last.offline_per_s} requests/s of full batches on the device, {last.offline_host_per_s} from "
        "the host to the host by one thread.",
        f"First answer after ready: {last.first_ms:.1f} ms; p99 of calm requests: {last.calm_p99_ms:.1f} ms. "
        f"Captured after ready: {last.captured_after}; kernels compiled: {last.compiled_after}.",
        f"A GPU is taken to cost ${ProveConfig.dollars_per_hour:.2f} an hour. {where(last)}",
    ]
    return table([*columns, *stages], map(cells_of, rows)) + "\n\n" + " ".join(said)


def best_within() -> ServeRow | None:
    """The newest row with the most answers a second within its bound; None where none was measured."""
    return max((row for row in serve_rows() if row.within), key=lambda row: row.goodput_per_s, default=None)


def line() -> str:
    """What one server answers within the bound, of the newest rows."""
    best = best_within()
    if best is None:
        return nothing("serve")
    rate, latency = best.goodput_per_s, best.e2el_ms
    assert latency is not None, "a rate within the bound has answers"
    return (
        f"`octorec serve` on the same model, over HTTP: **{rate:.0f} requests/s**, 99 % of them within "
        f"{latency.p99:.0f} ms (bound {best.bound_ms:g} ms), {rate / best.offline_per_s:.0%} of what "
        f"the device does offline; ${dollars(rate)} a million requests; see [serving](serving.md)."
    )


def cells_of(row: ServeRow) -> list[object]:
    latency = row.e2el_ms
    queue, device, encode, outside = (
        0.0 if times is None else times.p50
        for times in (row.queue_ms, row.device_ms, row.encode_ms, row.outside_device_ms)
    )
    return [
        f"{row.preset}, {row.precision}",
        row.k,
        f"{row.request_rate:.0f}",
        f"{row.share:.0%}",
        f"{row.goodput_per_s:.0f}",
        f"{'yes' if row.within else 'no'} ({row.bound_ms:g} ms)",
        "" if latency is None else f"{latency.p50:.0f} / {latency.p90:.0f} / {latency.p99:.0f}",
        f"{queue:.1f} / {device:.1f} / {encode:.1f} / {outside - queue - encode:.1f}",
        row.cores,
        dollars(row.goodput_per_s),
        row.environment.card,
    ]


def dollars(per_s: float) -> str:
    """What a million requests cost on one GPU that answers `per_s` requests a second."""
    return f"{ProveConfig.dollars_per_hour / 3600 / per_s * MILLION:.2f}" if per_s else ""


def overhead() -> str:
    """The newest row of each checkpoint and device."""
    rows = newest(
        recorded("serve_overhead.jsonl", OverheadRow), lambda row: (row.checkpoint, row.device, row.http_workers)
    )
    if not rows:
        return nothing("serve_overhead")
    cells = [
        [
            f"{row.checkpoint} on {row.environment.gpu or row.device}, {row.cores} cores",
            row.pairs,
            *(f"{times.p50:.1f} / {times.p99:.1f}" for times in (row.engine_ms, row.server_ms)),
            f"{row.added_ms.p50:.2f} ({row.interval_ms[0]:.2f} .. {row.interval_ms[1]:.2f})",
            f"{row.outside_ms.p50:.2f}",
        ]
        for row in rows
    ]
    sides = ["engine p50 / p99, ms", "through HTTP", "the server adds, p50 (95 % interval)", "outside the device"]
    last, here = rows[-1], rows[-1].environment
    versions = f"torch {here.torch}, uvicorn {last.versions['uvicorn']}, commit {here.commit}"
    return table(["checkpoint", "requests", *sides], cells) + f"\n\n{here.date}, {versions}: `{here.command}`."


def ray_overhead() -> str:
    """The newest row of each checkpoint, device and entrance."""
    rows = recorded("ray_overhead.jsonl", RayOverheadRow)
    kinds = newest(rows, lambda row: (row.checkpoint, row.device, row.entrance))
    if not kinds:
        return nothing("ray_overhead")
    cells = [
        [
            f"{row.checkpoint} on {row.environment.gpu or row.device}, {row.cores} cores",
            row.entrance,
            row.pairs,
            *(f"{times.p50:.1f} / {times.p99:.1f}" for times in (row.bare_ms, row.ray_ms)),
            f"{row.added_ms.p50:.2f} ({row.interval_ms[0]:.2f} .. {row.interval_ms[1]:.2f})",
            "" if row.empty_ms is None else f"{row.empty_ms.p50:.2f}",
            "" if row.load is None else row.load,
        ]
        for row in kinds
    ]
    sides = ["`octorec serve` p50 / p99, ms", "through Ray", "Ray adds, p50 (95 % interval)"]
    sides += ["an empty replica, p50", "load"]
    last, here = kinds[-1], kinds[-1].environment
    said = f"{here.date}, Ray {last.ray}, torch {here.torch}, commit {here.commit}: `{here.command}`."
    return table(["checkpoint", "entrance", "requests", *sides], cells) + f"\n\n{said}"


def soak() -> str:
    """The newest run over time, in brief."""
    rows = recorded("serve_soak.jsonl", SoakRow)
    if not rows:
        return nothing("serve_soak")
    starts = [number for number, row in enumerate(rows) if number == 0 or row.at_s < rows[number - 1].at_s]
    run = rows[starts[-1] :]
    p99 = [row.e2el_ms.p99 for row in run if row.e2el_ms is not None]
    last, here = run[-1], run[-1].environment
    cells = [
        [
            f"{last.at_s / 60:.0f}",
            f"{last.rate:.1f}",
            f"{sum(row.answered for row in run):,}",
            f"{failed(run)} / {failed(run, shed=True)}",
            f"{gained_mb(run):+.0f} (at most {FLAT_MB:.0f})",
            f"{last.rss_mb:.0f}",
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
    about = f"{last.checkpoint} on {last.device}, torch {here.torch}, commit {here.commit}."
    return table(columns, cells) + "\n\n" + about


def encodings() -> str:
    """The newest row of each encoding of an answer, and of a request."""
    rows = newest(recorded("encodings.jsonl", EncodingRow), lambda row: (row.what, row.encoding))
    if not rows:
        return nothing("encodings")
    cells = [
        [row.what, row.encoding, f"{row.bytes:,}", f"{row.write_us:.0f}", f"{row.read_us:.0f}"]
        for row in sorted(rows, key=lambda row: row.what)
    ]
    last, here = rows[-1], rows[-1].environment
    about = f"k {last.k}, a history of {last.context}, {last.n_items:,} items; {last.cpu_model}, {here.date}, commit"
    said = f"{about} {here.commit}: `{here.command}`."
    return table(["what", "encoding", "bytes", "us to write", "us to read"], cells) + "\n\n" + said


def grpc_calls() -> str:
    """The newest row of each side and size of a call."""
    rows = newest(recorded("encodings.jsonl", CallRow), lambda row: (row.rows, row.side))
    if not rows:
        return nothing("grpc_calls")
    cells = [
        [row.rows, row.side, f"{row.p50_ms:.2f} / {row.p99_ms:.2f}", f"{row.processor_ms:.2f}"]
        for row in sorted(rows, key=lambda row: row.rows)
    ]
    last, here = rows[-1], rows[-1].environment
    about = (
        f"k {last.k}, {last.calls} calls, {last.cores} cores under a load of up to {max(row.load for row in rows):.0f}"
    )
    said = f"{about}; {last.cpu_model}, {here.date}, commit {here.commit}: `{here.command}`."
    return table(["requests a call", "over", "p50 / p99, ms", "server's processor, ms"], cells) + "\n\n" + said
