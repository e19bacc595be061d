"""What a call costs over gRPC and HTTP, by how many requests it holds: a client's time, and the server's processor.

    python -m benchmarks.grpc_calls --out results/encodings.jsonl

`octorec serve` runs beside this process, which asks it one call after the other, both ways alternately. The requests
have empty histories, which popularity answers: there is no model in the figures, and no history is sent. The client
reads what it gets into arrays, or parses the JSON.
"""

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import grpc
import numpy as np
import orjson
import psutil
import pyarrow as pa
import torch

from benchmarks import records
from benchmarks.encodings import ANSWERS, read_answer
from benchmarks.program import run
from benchmarks.quantize import cpu_model
from benchmarks.random_model import random_items
from benchmarks.rows import CallRow
from benchmarks.serve_soak import serving
from octorec.catalog.catalog import Catalog
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.serve.oip_messages import SERVICE, ModelInferRequest

ROUNDS = 3
WARM_UP = 30  # calls
SIZES = (64, 64, 64)
Ask = Callable[[], Awaitable[object]]


def save_checkpoint(folder: Path, n_items: int) -> None:
    """A tiny model and a catalog whose items were met at random."""
    plain = random_items(SIZES, n_items)
    met = np.random.default_rng(0).integers(1, 1000, n_items)
    codes = pa.array(plain.codes.tolist(), pa.list_(pa.int32()))
    columns = {"item_id": plain.item_ids, "codes": codes, "interactions": pa.array(met)}
    catalog = Catalog.of_items(pa.table(columns), SIZES)
    shape = {"codebook_sizes": SIZES, "d_expert": 128, "codebook_fingerprint": catalog.fingerprint}
    model = OneRecV2(preset("tiny", **shape))
    initialize(model, seed=0)
    folder.mkdir()
    save(model, folder, torch.float32)
    catalog.save(folder / "catalog")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def over_http(session: aiohttp.ClientSession, port: int, rows: int, k: int) -> Ask:
    one = {"history": [], "k": k}
    body = orjson.dumps(one if rows == 1 else [one] * rows)

    async def ask() -> object:
        async with session.post(f"http://127.0.0.1:{port}/v1/recommend", data=body) as response:
            assert response.status == 200
            return orjson.loads(await response.read())

    return ask


def over_grpc(channel: grpc.aio.Channel, rows: int, k: int) -> Ask:
    message = ModelInferRequest(model_name="octorec", raw_input_contents=[b""])
    message.inputs.add(name="history", datatype="BYTES", shape=[rows, 0])
    message.parameters["k"].int64_param = k
    for name in ANSWERS["gRPC, indices"]:
        message.outputs.add(name=name)
    call = channel.unary_unary(f"/{SERVICE}/ModelInfer", ModelInferRequest.SerializeToString, read_answer)

    async def ask() -> object:
        return await call(message, timeout=30)

    return ask


async def measured(ports: tuple[int, int], pid: int, rows: int, k: int, calls: int) -> list[CallRow]:
    """A row of each side."""
    times: dict[str, list[float]] = {"HTTP": [], "gRPC": []}
    processor = dict.fromkeys(times, 0.0)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{ports[1]}"))
        sides = {"HTTP": over_http(session, ports[0], rows, k), "gRPC": over_grpc(channel, rows, k)}
        for _ in range(ROUNDS):
            for side, ask in sides.items():
                for _ in range(WARM_UP):
                    await ask()
                before = used(pid)
                for _ in range(calls):
                    start = time.perf_counter()
                    await ask()
                    times[side].append((time.perf_counter() - start) * 1e3)
                processor[side] += used(pid) - before
    return [
        CallRow(
            side=side,
            rows=rows,
            k=k,
            p50_ms=round(float(np.median(taken)), 2),
            p99_ms=round(float(np.percentile(taken, 99)), 2),
            processor_ms=round(processor[side] / len(taken) * 1e3, 2),
            calls=len(taken),
            cores=os.cpu_count() or 1,
            load=round(os.getloadavg()[0], 1),
            cpu_model=cpu_model(),
        )
        for side, taken in times.items()
    ]


def used(pid: int) -> float:
    """Processor seconds of a process."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "encodings.jsonl")
    parser.add_argument("--k", type=int, default=512)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    ports = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "model", options.items)
        command = [sys.executable, "-m", "octorec", "serve", f"{folder}/model", "--no-log-requests"]
        command += ["--port", str(ports[0]), "--grpc-port", str(ports[1]), "--batch-sizes", "1"]
        command += ["--beam-widths", str(options.k), "--default-beam-width", str(options.k)]
        with serving(command) as (_, pid):
            for rows in (1, 16):
                for row in asyncio.run(measured(ports, pid, rows, options.k, options.calls)):
                    records.append(options.out, row)
                    print(f"{row.side}, {rows} a call: p50 {row.p50_ms} ms, server {row.processor_ms} ms")


if __name__ == "__main__":
    run(main)
