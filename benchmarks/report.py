"""Render recorded rows into README.md and docs, between `<!-- rows: NAME -->` and `<!-- end -->`.

    python -m benchmarks.report            # rewrite
    python -m benchmarks.report --check    # fail when a page or the figure is not what the rows say

A page shows the newest row of each kind; nothing is typed by hand.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import (
    calibration_report,
    headline_report,
    online_calibration_report,
    online_replay_report,
    semantic_ids_report,
    serve_report,
    speed_figure,
)
from benchmarks import speed_report as speed
from benchmarks.program import run
from benchmarks.records import RESULTS, read
from benchmarks.tables import Row, newest, table
from studies.families.weights import claims
from studies.quality import render as quality

ROOT = RESULTS.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FIGURE = ROOT / "docs" / "figures" / "engine.svg"
STEADY = {"requests": "96 requests, s", "training": "20 training steps, s", "evaluate": "evaluate 100 users, s"}
BLOCK = re.compile(r"(<!-- rows: (\w+) -->\n).*?(<!-- end -->)", re.S)


def demo() -> str:
    """The newest demo: both precisions beside the floors."""
    row = read(RESULTS / "demo.jsonl")[-1]
    names = {
        "bf16": "OneRec-V2 MoE, BF16",
        "fp8": "the same in FP8",
        "markov": "Markov chain",
        "popularity": "popularity",
    }
    rows = [[label, f"{row[name]['recall@10']:.4f}", f"{row[name]['ndcg@10']:.4f}"] for name, label in names.items()]
    recall = row["difference"]["recall@10"]
    verdict = row["verdict"].replace("_", " ")
    said = (
        f"FP8 against BF16, recall@10: {recall['value']:+.2%}, 95 % interval {recall['low']:+.2%} .. "
        f"{recall['high']:+.2%}; verdict at a margin of {row['margin']:.0%}: **{verdict}**. "
        f"The demo took {sum(row['seconds'].values()):.0f} s on {row['cores']} cores, {row['seconds']['train']:.0f} s "
        f"of it training ({row['date']}, torch {row['torch']}, commit {row['commit']})."
    )
    return table(["MovieLens-100K, last 10 of each user", "recall@10", "ndcg@10"], rows) + "\n\n" + said


def quantize() -> str:
    """The newest conversion of each preset and recipe."""
    found = newest(read(RESULTS / "quantize.jsonl"), lambda row: (row["preset"], row["recipe"]))
    rows = [
        [
            row["preset"],
            row["recipe"],
            f"{row['seconds']:.0f} s",
            f"{row['peak_rss_anon_mb']:.0f} MB",
            f"{row['bytes_before'] / 1e9:.2f} GB",
            f"{row['bytes_after'] / 1e9:.2f} GB",
        ]
        for row in found
    ]
    return table(["quantizing, 2 CPU cores", "recipe", "time", "peak anonymous memory", "before", "after"], rows)


def families() -> str:
    """The newest comparison: the paper's claims, magnitudes, and the answers before and after FP8."""
    found = newest(read(RESULTS / "families.jsonl"), lambda row: row["family"])
    judged = [
        [claim.quantity, claim.states, claim.family, {True: "**yes**", False: "no", None: "open"}[claim.reproduced],
         claim.found]
        for claim in claims(found)
    ]  # fmt: skip
    parts = ("weights", "inputs")
    sizes = [
        [
            row["family"],
            *(_size(row[part], measure) for part in parts for measure in ("absmax", "mean_abs", "variance")),
        ]
        for row in found
    ]
    aucs = next(row["aucs"] for row in found if row["aucs"])
    floors = [[name, f"{x['auc']:.4f}", f"{x['low']:.4f} .. {x['high']:.4f}"] for name, x in aucs.items()]
    speeds = [[row["family"], f"{row['memory_bound']:.0%}", f"{row['gain']:.2f}x"]
              for row in found if row["memory_bound"] is not None]  # fmt: skip
    last = found[-1]
    tables = [
        table(["claim", "paper", "model", "borne out", "found"], judged),
        table(["largest of a model", *(f"{m} of {p}" for p in parts for m in ("absmax", "mean", "variance"))], sizes),
        table(["model", "metric", "scales", "kept", "before", "after", "change, 95 % interval"], _effects(found)),
        table(["ranker, or floor", "AUC", "95 % interval"], floors),
        table(["on an H100, at least", "of the time memory-bound", "FP8 gains at most"], speeds),
        *(f"**{row['family']}.** {' '.join(row['notes'])}" for row in found),
        f"{last['date']}, torch {last['torch']}, `{last['command']}`, commit {last['commit']}.",
    ]
    return "\n\n".join(tables)


def _size(summary: Row | None, measure: str) -> str:
    return f"{summary[f'{measure}_max']:.3g}" if summary else ""


def _effects(rows: list[Row]) -> list[list[str]]:
    out = []
    for row in rows:
        for e in row["effects"]:
            change, low, high = (f"{e[x]:+.2%}" if e["relative"] else f"{e[x]:+.4f}" for x in ("change", "low", "high"))
            sides = f"{e['baseline']:.4f}", f"{e['value']:.4f}"
            out.append([row["family"], e["metric"], e["scheme"], e["keeps"], *sides, f"{change} ({low} .. {high})"])
    return out


def analyze() -> str:
    """The newest analysis of each number of layers."""
    rows = [
        [
            f"{row['layout']}, {row['layers']} layers",
            f"{row['parameters'] / 1e9:.2f} billion",
            f"{row['seconds']:.0f} s",
            f"{row['seconds_per_billion']:.0f} s",
            f"{row['peak_rss_anon_mb']:.0f} MB",
        ]
        for row in newest(read(RESULTS / "analyze.jsonl"), lambda row: row["layers"])
    ]
    return table(["layout, 2 CPU cores", "parameters", "time", "a billion", "peak anonymous memory"], rows)


def steady() -> str:
    """The newest times of each rule, alone and beside a neighbour."""
    found = newest(read(RESULTS / "steady.jsonl"), lambda row: (row["rule"], row["neighbours"]))
    if not found:
        return speed.nothing("steady")
    alone = {row["rule"]: row for row in found if not row["neighbours"]}
    rows = []
    for row in found:
        jobs = [f"{row[job]:.2f} ({row[job] / alone[row['rule']][job] - 1:+.0%})" for job in STEADY]
        rows.append([row["rule"], row["threads"], row["neighbours"], *jobs])
    last = found[-1]
    said = (
        f"{last['cores']} cores, {last['date']}, torch {last['torch']}, `{last['command']}`, commit {last['commit']}."
    )
    return table(["rule", "threads", "neighbours", *STEADY.values()], rows) + "\n\n" + said


RENDER: dict[str, Callable[[], str]] = {
    "analyze": analyze,
    "families": families,
    "demo": demo,
    "quantize": quantize,
    "headline": headline_report.headline,
    "engine": speed.engine,
    "engine_all": speed.engine_all,
    "ablation": speed.ablation,
    "kernels": speed.kernels,
    "products": speed.products,
    "start": speed.start,
    "steady": steady,
    "correctness": speed.correctness,
    "layers": speed.layers,
    "serve": serve_report.serve,
    "serve_line": serve_report.line,
    "serve_overhead": serve_report.overhead,
    "serve_settings": serve_report.settings,
    "serve_soak": serve_report.soak,
    "semantic_ids": semantic_ids_report.fits,
    "semantic_ids_recall": semantic_ids_report.recall,
    "calibration": calibration_report.page,
    "online_calibration": online_calibration_report.page,
    "online_replay": online_replay_report.page,
    "quality": quality.verdicts,
    "quality_models": quality.models,
    "quality_noise": quality.noise,
    "quality_breakers": quality.breakers,
    "quality_line": quality.line,
}


def rendered(text: str) -> str:
    return BLOCK.sub(lambda m: m[1] + RENDER[m[2]]() + "\n" + m[3], text)


def figures() -> Iterator[tuple[Path, speed_figure.Bars, Callable[[], str]]]:
    """Each figure of measured rows: where it lies, what it shows, and the call that draws it."""
    bars = speed.bars()
    yield FIGURE, bars, lambda: speed_figure.draw(bars)
    if rows := headline_report.newest_run():
        yield headline_report.FIGURE, headline_report.bars(rows), lambda: headline_report.draw(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for page in PAGES:
        text = page.read_text()
        if rendered(text) != text:
            stale.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(rendered(text))
    for figure, bars, draw in figures():
        if not figure.exists() or speed_figure.data_of(figure.read_text()) != bars:
            stale.append(str(figure.relative_to(ROOT)))
            if not check:
                figure.write_text(draw())
    if check and stale:
        sys.exit(f"not what the recorded rows say: {', '.join(stale)}; run python -m benchmarks.report")
    print(f"{len(PAGES)} pages and their figures, {len(stale)} {'rewritten' if stale else 'changed'}")


if __name__ == "__main__":
    run(main)
