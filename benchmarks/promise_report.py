"""What README.md and README.zh-CN.md promise, of the newest rows: one table in two languages, and one figure."""

from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import headline_report, serve_report
from benchmarks.records import RESULTS
from benchmarks.rows import DemoRow, recorded
from benchmarks.speed_figure import Bars, svg
from benchmarks.tables import table
from octorec.report.plots import COLOURS, STYLE
from studies.quality import render as quality

Words = dict[str, Any]
FIGURE = RESULTS.parent / "docs" / "figures" / "promise.svg"
NARROW = 5.2  # inches
SHOWN = (("stock eager", "fp16"), ("stock graph", "bf16"), ("octorec", "bf16"), ("octorec", "fp8"))
ENGLISH: Words = {
    "heads": ["what", "measured", "on"],
    "speed": "a mixture of experts of 4 billion parameters, 512 beams, batches of 32",
    "speeds": "**{after} requests/s** in FP8; stock PyTorch: {before} in FP16 ({times}x), "
    "{graph} compiled in BF16 ({graph_times}x)",
    "quality": "recall@10 that FP8 keeps of BF16's, {users} users",
    "kept": "**{kept}** (95 % interval {low} .. {high}): {verdict} at a margin of {margin}",
    "serve": "the same model over HTTP",
    "served": "**{rate} requests/s**, 99 % within {ms} ms; ${dollars} a million requests",
    "demo": "`make demo`, all of it",
    "took": "**{seconds} s**; FP8 beside BF16 {verdict} at a margin of {margin}",
    "shops": "three public shops",
    "cores": "{cores} CPU cores",
    "not_inferior": "not inferior",
    "inferior": "inferior",
    "inconclusive": "inconclusive",
}
CHINESE: Words = {
    "heads": ["测试项", "实测结果", "环境"],
    "speed": "40 亿参数的混合专家模型，束宽 512，批大小 32",
    "speeds": "FP8 **每秒 {after} 个请求**；原生 PyTorch：FP16 为 {before}（{times} 倍），"
    "编译后的 BF16 为 {graph}（{graph_times} 倍）",
    "quality": "FP8 保留了 BF16 的多少 recall@10，{users} 名用户",
    "kept": "**{kept}**（95 % 区间 {low} .. {high}）：以 {margin} 为界值，判定为{verdict}",
    "serve": "同一模型，通过 HTTP 提供服务",
    "served": "**每秒 {rate} 个请求**，99 % 在 {ms} ms 内返回；每百万次请求 {dollars} 美元",
    "demo": "运行一次完整的 `make demo`",
    "took": "**{seconds} 秒**；FP8 与 BF16 相比，以 {margin} 为界值，判定为{verdict}",
    "shops": "三个公开的电商数据集",
    "cores": "{cores} 个 CPU 核",
    "not_inferior": "非劣效",
    "inferior": "劣效",
    "inconclusive": "无定论",
}


def english() -> str:
    """The table of README.md."""
    return _table(ENGLISH)


def chinese() -> str:
    """The same table for README.zh-CN.md."""
    return _table(CHINESE)


def _table(words: Words) -> str:
    return table(words["heads"], filter(None, (_speed(words), _quality(words), _serve(words), _demo(words))))


def _speed(words: Words) -> list[str] | None:
    found = headline_report.batches(headline_report.newest_run())
    if not found:
        return None
    before, after = found["stock eager", "fp16"], found["octorec", "fp8"]
    numbers = {"before": f"{before.requests_per_s:.0f}", "after": f"{after.requests_per_s:.0f}"}
    numbers["times"] = f"{before.ms_per_batch / after.ms_per_batch:.2f}"
    graph = found["stock graph", "bf16"]
    numbers |= {"graph": f"{graph.requests_per_s:.0f}", "graph_times": f"{graph.ms_per_batch / after.ms_per_batch:.2f}"}
    return [words["speed"], words["speeds"].format(**numbers), after.environment.card]


def _quality(words: Words) -> list[str] | None:
    row = quality.find(quality.rows(), quality.Judged, "pooled", "fp8")
    if row is None:
        return None
    recall = row.relative_difference["recall@10"]
    low, high = ("-" if end is None else f"{1 + end:.2%}" for end in (recall.low, recall.high))
    said = words["kept"].format(
        kept=f"{1 + recall.value:.2%}", low=low, high=high, verdict=words[row.verdict], margin=f"{row.margin:.0%}"
    )
    return [words["quality"].format(users=f"{row.users:,}"), said, words["shops"]]


def _serve(words: Words) -> list[str] | None:
    row = serve_report.best_within()
    if row is None or row.e2el_ms is None:
        return None
    rate = row.goodput_per_s
    said = words["served"].format(rate=f"{rate:.0f}", ms=f"{row.e2el_ms.p99:.0f}", dollars=serve_report.dollars(rate))
    return [words["serve"], said, row.environment.card]


def _demo(words: Words) -> list[str]:
    row = recorded("demo.jsonl", DemoRow)[-1]
    numbers = {"seconds": f"{sum(row.seconds.values()):.0f}", "margin": f"{row.margin:.0%}"}
    said = words["took"].format(**numbers, verdict=words[row.verdict])
    return [words["demo"], said, words["cores"].format(cores=row.cores)]


def bars() -> Bars:
    """Requests a second of each shown system; empty where nothing was measured."""
    found = headline_report.batches(headline_report.newest_run())
    return {
        headline_report.called(found[key]): {"requests/s": round(found[key].requests_per_s, 1)}
        for key in SHOWN
        if key in found
    }


def draw(shown: Bars) -> str:
    """An SVG with one bar a system, its length requests a second; narrow, so that it can be read on a phone."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(NARROW, 0.9 + 0.4 * len(shown)), layout="constrained")
        axes = figure.subplots()
        rates = [parts["requests/s"] for parts in shown.values()]
        colours = [COLOURS[0] if name.startswith("OctoRec") else COLOURS[7] for name in shown]
        for at, (rate, colour) in enumerate(zip(rates, colours, strict=True)):
            axes.barh(at, rate, 0.7, color=colour)
            axes.annotate(f"{rate:.0f}", (rate, at), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(shown)), [name.replace("stock", "PyTorch") for name in shown])
        axes.tick_params(length=0)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, 1.12 * max(rates))
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        card = next(iter(headline_report.batches(headline_report.newest_run()).values())).environment.card
        figure.suptitle(f"Requests/s: MoE of 4 billion parameters, 512 beams, one {card}", fontsize=10)
        return svg(figure, shown)
