"""Seconds and memory of reading a made-up sid2pid.json, or pid2sid table, as large as OpenOneRec's.

python -m benchmarks.catalog_load            # both, each in a process of its own
python -m benchmarks.catalog_load --sids 1000 --items 2000
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from benchmarks.program import run
from benchmarks.records import RESULTS, append
from benchmarks.rows import CatalogLoadRow
from octorec.catalog.foreign import read
from octorec.serve.versions import prepare

OUT = RESULTS / "catalog_load.jsonl"
SIZES = (8192, 8192, 8192)
SIDS, ITEMS = 1_520_000, 3_000_000  # OpenOneRec's sid2pid.json has 1,519,078 SIDs
FORMS = {"sid2pid": "sid2pid.json", "pid2sid": "pid2sid.parquet"}
ENTRY = '{"pid": %d, "count": %d, "count_after_downsample": %d}'


def write(form: str, path: Path, sids: int, items: int, seed: int = 0) -> None:
    """Write a file of `sids` distinct SIDs and `items` items, at least one a SID; counts are heavy-tailed."""
    rng = np.random.default_rng(seed)
    keys = rng.permutation(np.unique(rng.integers(0, 8192**3, sids + sids // 50 + 100))[:sids])
    more = np.minimum(*rng.integers(0, sids, (2, items - sids)))
    place = np.sort(np.concatenate([np.arange(sids), more]))
    pids = rng.permutation(items) * 1013 + 10**10
    if form == "pid2sid":
        codes = keys[place][:, None] >> 13 * np.arange(3)[::-1] & 8191
        lists = pa.FixedSizeListArray.from_arrays(pa.array(codes.ravel().astype(np.int32)), 3)
        pyarrow.parquet.write_table(pa.table({"pid": pids, "sid": lists.cast(pa.list_(pa.int32()))}), path)
        return
    counts = (rng.pareto(1.2, items) * 3 + 1).astype(np.int64)
    ends = place.searchsorted(np.arange(sids), "right").tolist()
    rows = list(zip(pids.tolist(), counts.tolist(), np.maximum(counts // 3, 1).tolist(), strict=True))
    with path.open("w") as file:
        start, before = 0, "{"
        for key, end in zip(keys.tolist(), ends, strict=True):
            file.write(f'{before}"{key}": [{", ".join(ENTRY % row for row in rows[start:end])}]')
            start, before = end, ", "
        file.write("}")


def measure(form: str, path: Path) -> CatalogLoadRow:
    """Read the file as an engine does, then make the look-ups that a server makes, in a process of its own."""
    load = os.getloadavg()[0]
    cpu, start = time.process_time(), time.perf_counter()
    catalog = read(path, SIZES)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    prepare(catalog)
    return CatalogLoadRow(
        form=form,
        megabytes=round(path.stat().st_size / 1e6, 1),
        sids=len(catalog.trie.leaf_items) - 1,
        items=len(catalog),
        seconds=round(seconds, 2),
        cpu_seconds=round(cpu, 2),
        look_up_seconds=round(time.perf_counter() - start, 2),
        peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        cores=len(os.sched_getaffinity(0)),
        load_before=round(load, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sids", type=int, default=SIDS)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--form", choices=FORMS, help="of --file, to be read in this process")
    parser.add_argument("--file", type=Path, help="a file that is there")
    options = parser.parse_args()
    if options.file:
        row = measure(options.form or "sid2pid", options.file)
        print(row, flush=True)
        append(OUT, row)
        return
    with tempfile.TemporaryDirectory() as folder:
        for form, name in FORMS.items():
            write(form, Path(folder) / name, options.sids, options.items)
            command = [sys.executable, "-m", "benchmarks.catalog_load", "--form", form, "--file"]
            subprocess.run([*command, str(Path(folder) / name)], check=True)


if __name__ == "__main__":
    run(main)
