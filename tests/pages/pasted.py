"""A page's lines are run in the order in which they stand; verbs in this process, servers in processes of their own."""

import contextlib
import io
import re
import runpy
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.cli.test_cli import octorec
from tests.pages.told import files, lines, scripts, verb

PORTS = ("8080", "8081")  # those of the pages


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def port_is_free(port: str) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", int(port))) != 0


class Servers:
    """Servers holds the servers that pages start: one for each line, on free ports, until the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, tuple[subprocess.Popen[bytes], dict[str, str]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for line in [*self.running]:
            self.stop(line)

    def stop(self, line: str) -> None:
        """End a line's server, and wait until it has written what it knows."""
        server, _ = self.running.pop(line)
        server.terminate()
        server.wait(60)

    def ports(self, line: str) -> dict[str, str]:
        """Start a line's server, if it does not run yet: its ports by those of the page."""
        if line not in self.running:
            ports = {port: str(free_port()) for port in PORTS}
            words = shlex.split(moved(verb(line), ports))[1:]
            with self._log(ports).open("wb") as log:
                server = subprocess.Popen([sys.executable, "-m", "octorec", *words], cwd=self.folder, stderr=log)
            self.running[line] = server, ports
            self._wait_for(line)
        return self.running[line][1]

    def _wait_for(self, line: str) -> None:
        """Wait until a line's server listens, which it does before it loads, or has ended."""
        server, ports = self.running[line]
        while server.poll() is None and port_is_free(ports["8080"]):
            time.sleep(0.1)
        assert server.poll() is None, f"{line}: {self._log(ports).read_text()}"

    def _log(self, ports: dict[str, str]) -> Path:
        return self.folder / f"server-{ports['8080']}.log"


def moved(text: str, ports: dict[str, str]) -> str:
    return re.sub(r"\b808[01]\b", lambda port: ports.get(port[0], port[0]), text)


def run_page(page: str, servers: Servers) -> Iterator[tuple[str, int, str]]:
    """Run a page in the folder where one is: each line with its exit code and what it prints."""
    for name, text in files(page).items():
        Path(name).write_text(text)
    ports: dict[str, str] = {}
    serving = ""
    for line in lines(page):
        if line.startswith("octorec serve "):
            serving, ports = line, servers.ports(line)
        elif line == "kill %1; wait":
            servers.stop(serving)
        elif line != "kill %1":  # another page goes on with that server
            yield line, *_run(moved(line, ports))
    for text in scripts(page):
        yield "python", 0, _printed(lambda text=text: exec(text, {}))


def _run(line: str) -> tuple[int, str]:
    if line.startswith("octorec "):
        done = octorec(*shlex.split(verb(line))[1:], expect=None)
        if to := re.search(r" > (\S+)$", line):
            Path(to[1]).write_text(done.stdout)
        return done.code, done.stdout + done.stderr
    if line.startswith("python "):
        return 0, _printed(lambda: runpy.run_path(line.split()[1]))
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def _printed(call) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        call()
    return out.getvalue()
