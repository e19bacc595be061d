"""A model on a CPU is asked for many times what it can do, by processes that have cores of their own."""

import asyncio
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import psutil

from benchmarks.overload_load import capacity, requests
from benchmarks.overload_model import save_demo_size
from benchmarks.rows import FloodRow
from benchmarks.rows.serving import Quantiles
from benchmarks.serve_soak import serving
from benchmarks.wire import Answer, Wire
from octorec.bench.result import quantiles

Came = tuple[Counter[str], list[float], float]  # answers by status, milliseconds of what was served, processor seconds
CONNECTIONS = 20_000
PLACES, SPARE = 1500, 100  # requests on their way from one process; descriptors that are left for all else
REFUSED, UNSENT = "503", "not sent"
AT_ONCE = 64  # requests on their way, where the capacity is found


def flood(folder: Path, times: float, http_workers: int, seconds: float, ready_s: float) -> FloodRow:
    """Start a server with the demo's size of model, find its capacity, and ask for `times` as much."""
    items = save_demo_size(folder)
    every = sorted(os.sched_getaffinity(0))
    clients = max(1, len(every) // 3)
    ours = every[: max(1, len(every) - clients)]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    command = [sys.executable, "-m", "octorec", "serve", str(folder), "--port", "0", "--no-log-requests"]
    command += ["--beam-widths", "32", "--default-beam-width", "32", "--http-workers", str(http_workers)]
    command += ["--max-connections", str(CONNECTIONS)]
    with pinned(ours, max(1, len(ours) - http_workers - 1)):
        server = serving(command, ready_s)
        url, pid = server.__enter__()
    try:
        with pinned(every[len(ours) :] or every, 1):
            return asyncio.run(_asked(int(url.rpartition(":")[2]), pid, items, times, http_workers, seconds, clients))
    finally:
        server.__exit__(None, None, None)


@contextmanager
def pinned(cores: Sequence[int], threads: int) -> Iterator[None]:
    """Run the block, and what it starts, on these cores; a server that it starts computes with so many threads."""
    before, name = os.sched_getaffinity(0), "OMP_NUM_THREADS"
    count = os.environ.get(name)
    os.sched_setaffinity(0, cores)
    os.environ[name] = str(threads)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        if count is None:
            del os.environ[name]
        else:
            os.environ[name] = count


async def _asked(
    port: int, pid: int, items: Sequence[str], times: float, http_workers: int, seconds: float, clients: int
) -> FloodRow:
    most = await capacity(port, requests(items), seconds / 2, AT_ONCE)
    loop, rate = asyncio.get_running_loop(), times * most / clients
    with ProcessPoolExecutor(clients, get_context("spawn")) as others:
        await asyncio.gather(*(loop.run_in_executor(others, _ready, 0.5) for _ in range(clients)))
        before = used(workers_of(pid))
        given = [(port, items, rate, seconds, seed) for seed in range(clients)]
        came = await asyncio.gather(*(loop.run_in_executor(others, ask, *one) for one in given))
        worked = used(workers_of(pid)) - before
    statuses = sum((one[0] for one in came), Counter[str]())
    served = [ms for one in came for ms in one[1]]
    refused = statuses[REFUSED]
    return FloodRow(
        times=times,
        http_workers=http_workers,
        capacity_per_s=round(most, 1),
        asked_per_s=round((statuses.total() - statuses[UNSENT]) / seconds, 1),
        served_per_s=round(len(served) / seconds, 1),
        share=round(len(served) / seconds / most, 3),
        e2el_ms=Quantiles(**quantiles(served)) if served else None,
        statuses=dict(statuses),
        refusal_us=round(worked / refused * 1e6, 1) if refused and http_workers else None,
        server_cores=max(1, (os.cpu_count() or 1) - clients),
        client_cores=round(sum(one[2] for one in came) / seconds, 2),
        clients=clients,
        seconds=seconds,
        cores=os.cpu_count() or 1,
        load=round(os.getloadavg()[0], 1),
    )


def ask(port: int, items: Sequence[str], rate: float, seconds: float, seed: int) -> Came:
    """Ask `rate` a second for `seconds`, in a process of its own; what is answered after them is not served.

    What is due while no connection is free is not sent.
    """

    async def load() -> Came:
        wire, chance, processor = Wire(port), random.Random(seed), time.process_time()
        places = min(PLACES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE)
        sent, asking, unsent = requests(items), set[asyncio.Task[Answer]](), 0
        tasks: list[asyncio.Task[Answer]] = []
        due = start = time.perf_counter()
        while (due := due + chance.expovariate(rate)) < start + seconds:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if len(asking) >= places:
                unsent += 1
                await asyncio.sleep(0)
                continue
            tasks.append(asyncio.create_task(wire.ask(sent[len(tasks) % len(sent)], due)))
            asking.add(tasks[-1])
            tasks[-1].add_done_callback(asking.discard)
        answers = await asyncio.gather(*tasks)
        worked = time.process_time() - processor
        wire.close()
        served = [one.seconds * 1e3 for one in answers if one.status == "200" and one.at <= start + seconds]
        return Counter(one.status for one in answers) + Counter({UNSENT: unsent}), served, worked

    return asyncio.run(load())


def workers_of(pid: int) -> list[psutil.Process]:
    """The processes of a server that have HTTP: children of its fork server."""
    return [worker for maker in psutil.Process(pid).children() for worker in maker.children()]


def used(processes: Sequence[psutil.Process]) -> float:
    """Processor seconds of processes."""
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def _ready(seconds: float) -> None:
    time.sleep(seconds)  # so that each process of the pool has its own call
