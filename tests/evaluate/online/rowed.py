"""Processes that write row logs, and are killed while they do."""

import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from octorec.evaluate.online.log_folder import read_log
from octorec.evaluate.online.rows import OUTCOMES

# Adds rows 0, 1, 2, ... and says after each write how many the disk has; files are turned over all the time.
WRITER = """
import sys, time
from octorec.evaluate.online import log_file
from octorec.evaluate.online.log import RowLog
from octorec.evaluate.online.rows import OUTCOMES
append, total = log_file.LogFile.append, 0
def told(file, lines):
    global total
    kept, trouble = append(file, lines)
    total += kept
    print(total, flush=True)
    return kept, trouble
log_file.LogFile.append = told
{before}
log = RowLog(sys.argv[1], OUTCOMES, flush_s=0.005, file_bytes=4000)
for number in range({rows}):
    log.add({{"time": number, "event": "e", "unit": "u"}})
    if number % 50 == 0:
        time.sleep(0.001)
{after}
"""
KILLED_AT = """
import os, pathlib
left = {count}
def deadly(holder, name):
    call = getattr(holder, name)
    def counted(*args, **kwargs):
        global left
        left -= 1
        if left == 0 and {early}:
            os.kill(os.getpid(), 9)
        made = call(*args, **kwargs)
        if left == 0:
            os.kill(os.getpid(), 9)
        return made
    setattr(holder, name, counted)
for name in {names}:
    deadly(os if hasattr(os, name) else pathlib.Path, name)
"""


def written(folder: Path, rows: int = 10**9, before: str = "", after: str = "log.close(60)") -> subprocess.Popen:
    code = WRITER.format(rows=rows, before=before, after=after)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)


def times(folder: Path, schema: pa.Schema = OUTCOMES) -> list[int]:
    """The rows' times in whole seconds, in order, each once."""
    return sorted({time.value // 10**6 for time in read_log(folder, schema).table["time"]})


def kill_after_some(child: subprocess.Popen, lines: int) -> int:
    """Let the child write, kill it, and return how many rows it said the disk had."""
    said = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    said += child.communicate()[0].splitlines()
    return int([line for line in said if line.strip()][-1])


def outcome(number: float, **more: object) -> dict:
    return {"time": number, "event": "click", "unit": "u", "value": 1.0, **more}


def until(true: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)
