"""`octorec serve` in a process of its own, to be attacked: both ports, the admin port with a token."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

TOKEN = "operator"
WIDTHS = ("--beam-widths", "32", "--default-beam-width", "32")
START_S = 400.0


@dataclass(frozen=True)
class Served:
    """Served says where a server listens, and its process. log: what it wrote so far."""

    port: int
    admin_port: int
    process: subprocess.Popen
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid


@contextmanager
def serving(
    checkpoint: Path, scratch: Path, *flags: str, admin_token: bool = True, stderr: IO[Any] | int | None = None,
    descriptors: int | None = None,
) -> Iterator[Served]:  # fmt: skip
    """Start a server and wait until it is ready. stderr: where it writes in the place of a file.

    descriptors: that the process may have open.
    """
    log, ports = scratch / "log", scratch / "tokens"
    ports.write_text(TOKEN + "\n")
    ports.chmod(0o600)
    admin = ("--admin-port", "0", *(("--admin-token-file", str(ports)) if admin_token else ()))
    command = [sys.executable, "-m", "octorec", "serve", str(checkpoint), "--port", "0", *admin, *WIDTHS, *flags]
    if descriptors is not None:
        command = ["bash", "-c", f'ulimit -n {descriptors}; exec "$@"', "serve", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file if stderr is None else stderr, env=environment)
    try:
        if stderr is None:
            found = _ports(log, process)
            yield Served(found["OctoRec"], found["OctoRec admin"], process, log)
        else:
            yield Served(0, 0, process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ports_of(lines: Sequence[str]) -> dict[str, int] | None:
    """The ports by application, once the lines of a log say that the server is ready."""
    rows = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    ports = {row["application"]: row["port"] for row in rows if row["message"] == "listening"}
    return ports if any(row["message"] == "ready" for row in rows) else None


def _ports(log: Path, process: subprocess.Popen) -> dict[str, int]:
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        found = ports_of(log.read_text().splitlines())
        if found is not None:
            return found
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text()[-1000:]}")
