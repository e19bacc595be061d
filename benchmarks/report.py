"""Render recorded rows into README.md, README.zh-CN.md and docs, between `<!-- rows: NAME -->` and `<!-- end -->`.

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
    attack_report,
    calibration_report,
    catalog_load_report,
    exact_report,
    goodput_report,
    headline_report,
    mixed_report,
    offline_report,
    online_calibration_report,
    online_replay_report,
    promise_report,
    qwen_report,
    rates_report,
    refresh_report,
    semantic_ids_report,
    serve_report,
    speed_figure,
)
from benchmarks import speed_report as speed
from benchmarks.program import run
from benchmarks.records import RESULTS
from benchmarks.rows import AnalyzeRow, DemoRow, FamilyRow, QuantizeRow, SteadyRow, recorded
from benchmarks.rows.families import Summary
from benchmarks.tables import newest, table
from studies.exact import render as exact
from studies.families.weights import claims
from studies.quality import render as quality
from studies.qwen import render as qwen_study

ROOT = RESULTS.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
FIGURE = ROOT / "docs" / "figures" / "engine.svg"
BLOCK = re.compile(r"(<!-- rows: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)


def demo() -> str:
    """The newest demo: both precisions beside the floors."""
    row = recorded("demo.jsonl", DemoRow)[-1]
    systems = [
        ("OneRec-V2 MoE, BF16", row.bf16),
        ("the same in FP8", row.fp8),
        ("Markov chain", row.markov),
        ("popularity", row.popularity),
    ]
    rows = [[label, f"{found['recall@10']:.4f}", f"{found['ndcg@10']:.4f}"] for label, found in systems]
    recall, here = row.difference["recall@10"], row.environment
    said = (
        f"FP8 against BF16, recall@10: {recall.value:+.2%}, 95 % interval {recall.low:+.2%} .. "
        f"{recall.high:+.2%}; verdict at a margin of {row.margin:.0%}: **{row.verdict.replace('_', ' ')}**. "
        f"The demo took {sum(row.seconds.values()):.0f} s on {row.cores} cores, {row.seconds['train']:.0f} s "
        f"of it training ({here.date}, torch {here.torch}, commit {here.commit})."
    )
    return table(["MovieLens-100K, last 10 of each user", "recall@10", "ndcg@10"], rows) + "\n\n" + said


def quantize() -> str:
    """The newest conversion of each preset and recipe."""
    rows = [
        [
            row.preset,
            row.recipe,
            f"{row.seconds:.0f} s",
            f"{row.peak_rss_anon_mb:.0f} MB",
            f"{row.bytes_before / 1e9:.2f} GB",
            f"{row.bytes_after / 1e9:.2f} GB",
        ]
        for row in newest(recorded("quantize.jsonl", QuantizeRow), lambda row: (row.preset, row.recipe))
    ]
    return table(["quantizing, 2 CPU cores", "recipe", "time", "peak anonymous memory", "before", "after"], rows)


def families() -> str:
    """The newest comparison: the paper's claims, magnitudes, and the answers before and after FP8."""
    found = newest(recorded("families.jsonl", FamilyRow), lambda row: row.family)
    judged = [
        [claim.quantity, claim.states, claim.family, {True: "**yes**", False: "no", None: "open"}[claim.reproduced],
         claim.found]
        for claim in claims(found)
    ]  # fmt: skip
    sizes = [[row.family, *_sizes(row.weights), *_sizes(row.inputs)] for row in found]
    aucs = next(row.aucs for row in found if row.aucs)
    floors = [[name, f"{x.auc:.4f}", f"{x.low:.4f} .. {x.high:.4f}"] for name, x in aucs.items()]
    speeds = [[row.family, f"{row.memory_bound:.0%}", f"{row.gain:.2f}x"]
              for row in found if row.memory_bound is not None]  # fmt: skip
    here = found[-1].environment
    largest = (f"{measure} of {part}" for part in ("weights", "inputs") for measure in ("absmax", "mean", "variance"))
    tables = [
        table(["claim", "paper", "model", "borne out", "found"], judged),
        table(["largest of a model", *largest], sizes),
        table(["model", "metric", "scales", "kept", "before", "after", "change, 95 % interval"], _effects(found)),
        table(["ranker, or floor", "AUC", "95 % interval"], floors),
        table(["on an H100, at least", "of the time memory-bound", "FP8 gains at most"], speeds),
        *(f"**{row.family}.** {' '.join(row.notes)}" for row in found),
        f"{here.date}, torch {here.torch}, `{here.command}`, commit {here.commit}.",
    ]
    return "\n\n".join(tables)


def _sizes(summary: Summary | None) -> list[str]:
    if summary is None:
        return [""] * 3
    return [f"{largest:.3g}" for largest in (summary.absmax_max, summary.mean_abs_max, summary.variance_max)]


def _effects(rows: list[FamilyRow]) -> list[list[str]]:
    out = []
    for row in rows:
        for e in row.effects:
            change, low, high = (f"{x:+.2%}" if e.relative else f"{x:+.4f}" for x in (e.change, e.low, e.high))
            sides = f"{e.baseline:.4f}", f"{e.value:.4f}"
            out.append([row.family, e.metric, e.scheme, e.keeps, *sides, f"{change} ({low} .. {high})"])
    return out


def analyze() -> str:
    """The newest analysis of each number of layers."""
    rows = [
        [
            f"{row.layout}, {row.layers} layers",
            f"{row.parameters / 1e9:.2f} billion",
            f"{row.seconds:.0f} s",
            f"{row.seconds_per_billion:.0f} s",
            f"{row.peak_rss_anon_mb:.0f} MB",
        ]
        for row in newest(recorded("analyze.jsonl", AnalyzeRow), lambda row: row.layers)
    ]
    return table(["layout, 2 CPU cores", "parameters", "time", "a billion", "peak anonymous memory"], rows)


def steady() -> str:
    """The newest times of each rule, alone and beside a neighbour."""
    found = newest(recorded("steady.jsonl", SteadyRow), lambda row: (row.rule, row.neighbours))
    if not found:
        return speed.nothing("steady")
    alone = {row.rule: row for row in found if not row.neighbours}
    rows = [[row.rule, row.threads, row.neighbours, *_jobs(row, alone[row.rule])] for row in found]
    last, here = found[-1], found[-1].environment
    said = f"{last.cores} cores, {here.date}, torch {here.torch}, `{here.command}`, commit {here.commit}."
    jobs = ["96 requests, s", "20 training steps, s", "evaluate 100 users, s"]
    return table(["rule", "threads", "neighbours", *jobs], rows) + "\n\n" + said


def _jobs(row: SteadyRow, alone: SteadyRow) -> list[str]:
    pairs = (row.requests, alone.requests), (row.training, alone.training), (row.evaluate, alone.evaluate)
    return [f"{seconds:.2f} ({seconds / undisturbed - 1:+.0%})" for seconds, undisturbed in pairs]


RENDER: dict[str, Callable[[], str]] = {
    "analyze": analyze,
    "exact-auto": exact_report.auto_cost,
    "exact-composed": rates_report.composed,
    "exact-cost": exact_report.cost,
    "exact-bits": exact_report.bits,
    "exact-prefill": exact_report.prefill,
    "judging": exact_report.judging,
    "exact-certified": exact.certified,
    "exact-policies": exact.policies,
    "exact-recall": exact.recall,
    "families": families,
    "mixed": mixed_report.mixed,
    "rates": rates_report.rates,
    "demo": demo,
    "quantize": quantize,
    "headline": headline_report.headline,
    "encodings": serve_report.encodings,
    "grpc_calls": serve_report.grpc_calls,
    "engine": speed.engine,
    "engine_all": speed.engine_all,
    "ablation": speed.ablation,
    "promise": promise_report.english,
    "promise-zh": promise_report.chinese,
    "kernels": speed.kernels,
    "products": speed.products,
    "start": speed.start,
    "steady": steady,
    "correctness": speed.correctness,
    "layers": speed.layers,
    "serve": serve_report.serve,
    "serve_line": serve_report.line,
    "ray_overhead": serve_report.ray_overhead,
    "loadgen": offline_report.loadgen,
    "offline": offline_report.offline,
    "serve_overhead": serve_report.overhead,
    "serve_settings": serve_report.settings,
    "attacks": attack_report.attacks,
    "overload": attack_report.overload,
    "attack_answers": attack_report.answers,
    "serve_soak": serve_report.soak,
    "serve_refresh": refresh_report.changes,
    "serve_goodput": goodput_report.goodput,
    "serve_flood": goodput_report.flood,
    "serve_processes": goodput_report.memory,
    "serve_workers": goodput_report.rates,
    "catalog_load": catalog_load_report.loads,
    "semantic_ids": semantic_ids_report.fits,
    "semantic_ids_recall": semantic_ids_report.recall,
    "calibration": calibration_report.page,
    "online_calibration": online_calibration_report.page,
    "online_replay": online_replay_report.page,
    "qwen_ablation": qwen_report.ablation,
    "qwen_beside": qwen_report.beside,
    "qwen_figure": qwen_report.figure,
    "qwen_goals": qwen_report.goals,
    "qwen_kernels": qwen_report.kernels,
    "qwen_line": qwen_report.line,
    "qwen_overlap": qwen_report.overlap,
    "qwen_speed": qwen_report.speed,
    "qwen_study": qwen_study.study,
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
        promised = promise_report.bars()
        yield promise_report.FIGURE, promised, lambda: promise_report.draw(promised)
    if timed := rates_report.newest_run():
        lines = rates_report.series(timed)
        yield rates_report.FIGURE, lines, lambda: rates_report.draw(lines)
    if drawn := qwen_report.lines():
        yield qwen_report.FIGURE, drawn, lambda: qwen_report.draw(drawn)
    if both := mixed_report.newest_run():
        sides = mixed_report.lines_of(both)
        yield mixed_report.FIGURE, sides, lambda: mixed_report.draw(sides)


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
