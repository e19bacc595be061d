"""The server on one GPU: the real application and uvicorn on this machine, the load tool in a process of its own.

    python -m benchmarks.serve --out results/serve.jsonl

Random weights, made on the device, and a catalog of a million items. Measures what the engine does offline at its
largest batch, then asks for shares of that over HTTP. A row a rate: goodput with 99 % of the requests within 150 ms,
latencies and where they come from, how many cores the server took, the first answer after ready against the p99 of
calm requests, and what was captured or compiled after ready (nothing).
"""

import argparse
import asyncio
import functools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import uvloop

from benchmarks import records
from benchmarks.program import run
from benchmarks.random_model import random_catalog, random_model, random_requests
from benchmarks.rows import ServeRow
from benchmarks.start import N_ITEMS, cached_kernels
from benchmarks.timer import time_gpu
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.kernels import fused
from octorec.models.presets import PRESETS, preset
from octorec.serve.app import create_app
from octorec.serve.config import BatchOptions, ServeConfig
from octorec.serve.run import server_on
from octorec.serve.service import Service
from octorec.serve.versions import prepare

DISTINCT = 1024  # requests, taken in turn
WARM_UP_S = 1.0  # at each rate
CALM = ("--request-rate", "5", "--duration-s", "4")
ONE = ("--request-rate", "inf", "--max-concurrency", "1", "--duration-s", "0.02", "--warm-up-s", "0")  # at least one


def make_engine(options: argparse.Namespace) -> Engine:
    config = preset(options.preset)
    sizes = tuple(int(size) for size in options.batch_sizes.split(","))
    limits = EngineConfig(
        options.context, batch_sizes=sizes, beam_widths=(options.beam,), default_beam_width=options.beam
    )
    catalog = random_catalog(config, N_ITEMS)
    prepare(catalog)
    return Engine(random_model(config, options.precision), catalog, limits, "cuda", fused)


@torch.inference_mode()
def offline(engine: Engine, requests: list[Request]) -> dict[str, float]:
    """Requests a second of full batches: of the device alone, and from the host to the host, many in one call."""
    bucket = engine.buckets()[0]
    engine.recommend(requests[: bucket.size])
    start = time.perf_counter()
    engine.recommend(requests)
    host = time.perf_counter() - start
    device_ms = time_gpu(engine.captured(bucket).graph.replay, 60).median  # seconds, as a server runs: clocks settle
    return {
        "offline_per_s": round(bucket.size / device_ms * 1e3, 1),
        "offline_host_per_s": round(len(requests) / host, 1),
    }


def captures(engine: Engine) -> int:
    """How many buckets are captured."""
    return sum(engine.cost(bucket) is not None for bucket in engine.buckets())


async def ask(url: str, bodies: Path, *flags: str) -> list[dict[str, Any]]:
    """Rows of the load tool."""
    command = [sys.executable, "-m", "octorec", "bench", "serve", url, "--requests", str(bodies), "--json", *flags]
    tool = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await tool.communicate()
    assert tool.returncode == 0, "the load tool failed"
    return json.loads(said)["rows"]


def write_bodies(folder: Path, requests: list[Request], k: int) -> Path:
    path = folder / f"k{k}.jsonl"
    lines = (json.dumps({"history": r.history, "k": k, "beam_width": r.beam_width}) for r in requests)
    path.write_text("\n".join(lines))
    return path


async def measure(service: Service, requests: list[Request], options: argparse.Namespace, about: dict) -> None:
    """Serve, ask, append a row a rate."""
    config = service.config
    server = server_on(create_app(service), config.http.host, 0, config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    await service.loaded
    if service.error is not None:
        raise service.error
    url = f"http://{config.http.host}:{server.servers[0].sockets[0].getsockname()[1]}"
    engine = service.serving.engine
    captured, compiled = captures(engine), cached_kernels()
    with tempfile.TemporaryDirectory() as folder:
        asked = {k: write_bodies(Path(folder), requests, k) for k in options.k}
        (first,) = await ask(url, asked[options.k[-1]], *ONE)
        (calm,) = await ask(url, asked[options.k[-1]], *CALM)
        about |= {"first_ms": first["e2el_ms"]["max"], "calm_p99_ms": calm["e2el_ms"]["p99"]}
        about |= {"calm_outside_device_ms": calm["outside_device_ms"]["p50"]}
        about |= await service.batcher.between_batches(functools.partial(offline, engine, requests))
        for k in options.k:
            for share in options.shares:
                rate, before = share * about["offline_per_s"], time.process_time()
                load = f"--request-rate {rate:.1f} --duration-s {options.seconds} --warm-up-s {WARM_UP_S}"
                (row,) = await ask(url, asked[k], *load.split(), "--goodput", f"e2el:{options.bound_ms}")
                cores = (time.process_time() - before) / (WARM_UP_S + row["seconds"])
                row |= {"k": k, "share": share, "cores": round(cores, 2)}
                row |= {"captured_after": captures(engine) - captured, "compiled_after": cached_kernels() - compiled}
                done = records.typed("the load tool's row", {**about, **row}, ServeRow)
                records.append(options.out, done)
                print(line(done), flush=True)
    server.should_exit = True
    await serving


def line(row: ServeRow) -> str:
    """What was measured, for a terminal."""
    queue, device, encode, latency = (
        None if times is None else times.p50 for times in (row.queue_ms, row.device_ms, row.encode_ms, row.e2el_ms)
    )
    p99 = None if row.e2el_ms is None else row.e2el_ms.p99
    return (
        f"k {row.k}: asked {row.request_rate}/s ({row.share:.0%} of {row.offline_per_s}), good "
        f"{row.goodput_per_s}/s, within {row.within}; p50 {latency} p99 {p99} ms; "
        f"queue {queue}, device {device}, encode {encode}; {row.cores} cores; errors {row.errors}; first "
        f"{row.first_ms} ms, calm p99 {row.calm_p99_ms} ms; captured {row.captured_after}, compiled "
        f"{row.compiled_after} after ready"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="moe-4b-a0.5b", choices=list(PRESETS))
    parser.add_argument("--precision", default="fp8")
    parser.add_argument("--beam", type=int, default=512)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--batch-sizes", default="1,8,16,24,32")
    parser.add_argument("--k", type=int, nargs="+", default=[10, 512], help="items to ask for, one after the other")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.6, 0.8, 0.9], help="of the offline requests/s")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured at each rate")
    parser.add_argument("--bound-ms", type=float, default=150.0)
    parser.add_argument("--max-queue-delay-ms", type=float, default=BatchOptions.max_queue_delay_ms)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "serve.jsonl")
    options = parser.parse_args()
    start = time.perf_counter()
    config = ServeConfig.of(log_requests=False, device="cuda", max_queue_delay_ms=options.max_queue_delay_ms)
    service = Service(lambda: make_engine(options), options.preset, config)
    about = {name: getattr(options, name) for name in ("preset", "precision", "beam", "context", "batch_sizes")}
    about |= {"max_queue_delay_ms": options.max_queue_delay_ms, "n_items": N_ITEMS}
    uvloop.run(measure(service, random_requests(DISTINCT, N_ITEMS, options.context, options.beam), options, about))
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    run(main, "cuda")
