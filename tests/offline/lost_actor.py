"""An actor of a cluster is killed while it answers: each user still has one row. Run by `make test-long`, with Ray."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from octorec.offline.answers import read_answers
from octorec.offline.run import recommend_all
from tests.offline.test_recommend_all import Job, command, engine, folder, job, make_users, pyarrow

__all__ = ["engine", "folder", "job"]
pytest.importorskip("ray")
USERS = 3000


def test_a_killed_actor_costs_no_row(job: Job, engine: object, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(make_users(USERS), tmp_path / "many.parquet", row_group_size=300)
    own = replace(job, data=tmp_path / "many.parquet")
    line = [sys.executable, "-m", "octorec", *command(own, "--ray", "--json")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 120
        while len([*own.out.glob("part-*")]) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        below = psutil.Process(running.pid).children(recursive=True)
        actors = [one for one in below if "MapWorker" in " ".join(one.cmdline())]
        assert actors
        for one in actors:
            os.kill(one.pid, signal.SIGKILL)
        said, _ = running.communicate(timeout=300)
    assert running.returncode == 0
    done = json.loads(said.splitlines()[-1])
    assert (done["users"], done["answered"]) == (USERS, USERS)
    whole = replace(own, out=tmp_path / "whole")
    recommend_all(whole, engine=engine)  # type: ignore[arg-type]
    assert read_answers(own.out).equals(read_answers(whole.out))
