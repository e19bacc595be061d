"""What Ray Serve costs on top of a replica when nobody else asks: each request past it and through it.

    python -m benchmarks.ray_overhead runs/demo/fp8 --out results/ray_overhead.jsonl

`octorec serve` and `serve run`, with a file that `octorec ray config` wrote, run beside this process, each with one
engine set up alike, and behind Ray a replica that does nothing. Each request is sent to all three, after a pause each,
in an order that is drawn. What Ray adds is the difference of the first two's times without the batch's on the device.
"""

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import aiohttp
import httpx
import numpy as np
import yaml

from benchmarks import program, records
from benchmarks.rows import RayOverheadRow
from benchmarks.rows.serving import Quantiles
from benchmarks.serve_overhead import PAUSE_S, WARM_UP, through_http
from benchmarks.serve_soak import serving
from octorec.bench.config import BenchConfig
from octorec.bench.over_http import connections
from octorec.bench.requests import bodies
from octorec.bench.result import quantiles
from octorec.kernels.device import open_device

OCTOREC = [sys.executable, "-m", "octorec"]
READY_S = 600.0
EMPTY = {
    "name": "empty", "route_prefix": "/empty", "import_path": "benchmarks.empty_replica:app",
    "deployments": [{"name": "Empty", "ray_actor_options": {"num_cpus": 0}}],
}  # fmt: skip
ENTRANCES = {"proxy": {}, "haproxy": {"RAY_SERVE_ENABLE_HA_PROXY": "1"}}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def behind_ray(checkpoint: Path, device: str, entrance: str) -> Iterator[str]:
    """The address of one replica behind Ray's entrance."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:  # short: Ray's sockets lie below it
        port, file = free_port(), Path(folder, "serve.yaml")
        flags = ["--device", device, "--port", str(port), "--out", str(file)]
        subprocess.run([*OCTOREC, "ray", "config", str(checkpoint), *flags], check=True)
        config = yaml.safe_load(file.read_text())
        config["applications"].append(EMPTY)
        file.write_text(yaml.safe_dump(config))
        environment = {**os.environ, "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", **ENTRANCES[entrance]}
        command = [sys.executable, "-m", "ray.serve.scripts", "run", str(file)]
        with open(f"{folder}/log", "w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/v2/health/ready").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"{url} is not ready")


async def pairs(urls: dict[str, str], asked: list[bytes], config: BenchConfig) -> list[dict[str, tuple[float, float]]]:
    """Ask for each body at all addresses: ms of the request, and of its batch on the device."""
    chance = random.Random(config.seed)
    found = []
    async with connections(config) as session:
        for body in asked:
            found.append(
                {side: await _one(session, urls[side], body, chance) for side in chance.sample([*urls], len(urls))}
            )
    return found[WARM_UP:]


async def _one(session: aiohttp.ClientSession, url: str, body: bytes, chance: random.Random) -> tuple[float, float]:
    await asyncio.sleep(chance.expovariate(1 / PAUSE_S))
    return await through_http(session, url, body)


def run(checkpoint: Path, device: str, n: int, beam_width: int, entrance: str) -> RayOverheadRow:
    config = BenchConfig(catalog=str(checkpoint / "catalog"), beam_width=beam_width)
    with (
        serving([*OCTOREC, "serve", str(checkpoint), "--device", device, "--port", "0"]) as (bare, _),
        behind_ray(checkpoint, device, entrance) as url,
    ):
        found = asyncio.run(
            pairs({"bare": bare, "ray": url, "empty": f"{url}/empty"}, bodies(config)[: WARM_UP + n], config)
        )
    times = {side: np.array([one[side] for one in found]) for side in ("bare", "ray", "empty")}
    outside = {side: both[:, 0] - both[:, 1] for side, both in times.items()}
    added = np.sort(outside["ray"] - outside["bare"])
    away = 0.98 * len(added) ** 0.5  # by the ranks of a sign test
    low, high = (round(float(added[int(len(added) / 2 + side)]), 3) for side in (-away, away))
    return RayOverheadRow(
        checkpoint=checkpoint.name,
        device=device,
        beam_width=beam_width,
        k=config.k,
        entrance=entrance,
        pairs=len(found),
        interval_ms=(low, high),
        bare_ms=Quantiles(**quantiles(times["bare"][:, 0])),
        ray_ms=Quantiles(**quantiles(times["ray"][:, 0])),
        added_ms=Quantiles(**quantiles(added)),
        cores=len(os.sched_getaffinity(0)),
        ray=version("ray"),
        empty_ms=Quantiles(**quantiles(times["empty"][:, 0])),
        load=round(os.getloadavg()[0], 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--beam-width", type=int, default=32)
    parser.add_argument("--entrance", choices=[*ENTRANCES], default="proxy")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "ray_overhead.jsonl")
    options = parser.parse_args()
    open_device(options.device)
    row = run(options.checkpoint, options.device, options.pairs, options.beam_width, options.entrance)
    records.append(options.out, row)
    print(f"Ray adds {row.added_ms.p50} ms at p50, 95 % {row.interval_ms}; {row.bare_ms.p50} and {row.ray_ms.p50}")
    assert row.empty_ms is not None
    print(f"an empty replica: {row.empty_ms.p50} ms; load {row.load}")


if __name__ == "__main__":
    program.run(main)
