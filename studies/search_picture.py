"""Draw two searches of docs/exact.md, of a narrow and of a wider beam, with the bound of each.

python -m studies.search_picture --out docs/figures/exact.svg

The searches are an engine's: a model of random weights over a catalog of 24 items. Teacher forcing gives the scores of
all prefixes, those that a search never sees too; what a search kept and dropped follows from them and its beam width,
and is checked against what the engine found.
"""

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.program import run
from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Answer, Request
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.output.write import new_file
from octorec.report.plots import COLOURS, STYLE, WIDTH

SIZES, ITEMS, SEED = (4, 4, 4), 24, 1
K, WIDTHS = 3, (3, 6)
SHARPER = 3.0  # times the weights that a model begins its training with: surer of its codes
HISTORY = ["item 1", "item 2"]
LOOKS: dict[str, dict[str, Any]] = {  # kept, dropped, never seen
    "kept": {"marker": "o", "color": COLOURS[0], "markersize": 6},
    "dropped": {"marker": "X", "color": COLOURS[1], "markersize": 6},
    "never looked at": {"marker": "o", "color": "#B5B5B5", "markersize": 3},
}
Codes = tuple[int, ...]


@dataclass(frozen=True)
class Drawn:
    """Drawn is one search.

    names: item ids by their codes. scores: of every prefix that an item has. kept, dropped: what became of prefixes.
    """

    width: int
    answer: Answer
    names: dict[Codes, str]
    scores: dict[Codes, float]
    kept: set[Codes]
    dropped: set[Codes]

    def state(self, codes: Codes) -> str:
        return "kept" if codes in self.kept else "dropped" if codes in self.dropped else "never looked at"


def made_engine() -> Engine:
    """An engine over a catalog of distinct code tuples."""
    generator = np.random.default_rng(SEED)
    every = np.stack(np.unravel_index(generator.choice(np.prod(SIZES), ITEMS, replace=False), SIZES), 1)
    ids = [f"item {number}" for number in range(1, ITEMS + 1)]
    columns = {"item_id": ids, "codes": pa.array(every.tolist(), pa.list_(pa.int32()))}
    catalog = Catalog.of_items(pa.table(columns), SIZES)
    model = OneRecV2(preset("tiny", codebook_sizes=SIZES, codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(SHARPER)
    config = EngineConfig(8, batch_sizes=(1,), beam_widths=WIDTHS, default_beam_width=WIDTHS[0])
    return Engine(model.eval(), catalog, config)


def searched(engine: Engine, width: int) -> Drawn:
    """Search with beams of one width, and tell what it kept and dropped at each level."""
    answer = engine.recommend([Request(HISTORY, k=K, beam_width=width)])[0]
    ids = engine.catalog.item_ids
    levels = engine.score([Request(HISTORY, k=1)] * len(ids), ids).astype(np.float64).cumsum(1)
    scores = {
        tuple(codes[: level + 1]): float(levels[item, level])
        for item, codes in enumerate(engine.catalog.codes.tolist())
        for level in range(len(SIZES))
    }
    kept, dropped = set[Codes]([()]), set[Codes]()
    for level in range(1, len(SIZES) + 1):
        met = sorted((c for c in scores if len(c) == level and c[:-1] in kept), key=lambda c: (-scores[c], c))
        kept |= set(met[:width])
        dropped |= set(met[width:])
    assert answer.bound is not None
    assert abs(max(scores[codes] for codes in dropped) - answer.bound) < 1e-4, "the search dropped something else"
    assert set(answer.codes) <= kept
    names = dict(zip(map(tuple, engine.catalog.codes.tolist()), ids, strict=True))
    return Drawn(width, answer, names, {(): 0.0, **scores}, kept, dropped)


def draw(searches: Sequence[Drawn]) -> str:
    """An SVG with a panel a search: prefixes by level and score, edges from each to what it leads to."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        panels = figure.subplots(1, len(searches), sharey=True)
        for axes, search in zip(panels, searches, strict=True):
            _panel(axes, search)
        panels[0].set_ylabel("score: log-probability of the codes so far, nats")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _panel(axes: Axes, search: Drawn) -> None:
    for codes, score in search.scores.items():
        if codes:
            seen = search.state(codes) != "never looked at"
            line: dict[str, Any] = (
                {"color": "#7F7F7F", "linewidth": 0.9} if seen else {"color": "#D5D5D5", "linewidth": 0.6}
            )
            axes.plot((len(codes) - 1, len(codes)), (search.scores[codes[:-1]], score), zorder=1, **line)
    for state, look in LOOKS.items():
        places = [(len(codes), score) for codes, score in search.scores.items() if search.state(codes) == state]
        axes.plot(*zip(*places, strict=True), linestyle="", label=state, zorder=2, **look)
    answer = search.answer
    assert answer.bound is not None
    axes.axhline(answer.bound, color=COLOURS[1], linestyle="--", linewidth=1.2, label="bound")
    axes.annotate(f"bound {answer.bound:.2f}", (-0.1, answer.bound), (0, 3), textcoords="offset points",
                  va="bottom", fontsize=8.5, color=COLOURS[1])  # fmt: skip
    lower = np.inf
    for score, item, found in _labels(search):
        lower = min(score, lower - 0.27)  # so that no text lies on another
        style: dict[str, Any] = {"color": "#000000"} if found else {"color": "#6A6A6A", "style": "italic"}
        axes.annotate(
            item if found else f"{item}, missed", (len(SIZES) + 0.08, lower), va="center", fontsize=8.5, **style
        )
    exact, side = ("Exact", "above") if answer.exact else ("Not exact", "below")
    axes.set_title(f"{search.width} beams, {K} items\n{exact}: the last item is {side} the bound", loc="left")
    axes.set_xticks(range(len(SIZES) + 1), ["start", "1st code", "2nd code", "item"])
    axes.set_xlim(-0.15, len(SIZES) + 1.0)
    axes.grid(axis="x", visible=False)


def _labels(search: Drawn) -> list[tuple[float, str, bool]]:
    """The items of the answer and the best items of the catalog, best first: score, id, and whether it was found."""
    whole = [codes for codes in search.scores if len(codes) == len(SIZES)]
    best = sorted(whole, key=lambda codes: -search.scores[codes])[:K]
    shown = sorted({*best, *search.answer.codes}, key=lambda codes: -search.scores[codes])
    return [(search.scores[codes], search.names[codes], codes in search.answer.codes) for codes in shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/exact.svg"))
    options = parser.parse_args()
    engine = made_engine()
    with new_file(options.out) as scratch:
        scratch.write_text(draw([searched(engine, width) for width in WIDTHS]) + "\n")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    run(main)
