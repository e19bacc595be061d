"""Loss of NLL and NDCG against mean SQNR, over every recipe and breaker of the recorded rows.

python -m studies.quality.plots --out docs/figures/quality.svg
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.program import run
from benchmarks.records import Row
from benchmarks.rows.quality import SetVerdict
from octorec.output.write import new_file
from octorec.report.plots import COLOURS, MARKERS, STYLE, WIDTH
from studies.quality.render import BREAKERS, SETS, find, rows


def loss_by_sqnr(recorded: Sequence[Row], model: str = "moe", seed: int = 0) -> str:
    """Two panels as an SVG text: a colour a recipe, a marker a set, bars for 95 % intervals."""
    panels: dict[str, str | None] = {"NLL, FP8 - BF16, nats a target": None, "ndcg@10, FP8 / BF16 - 1": "ndcg@10"}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        axes = figure.subplots(1, len(panels))
        for ax, (label, metric) in zip(axes, panels.items(), strict=True):
            for colour, recipe in enumerate(BREAKERS):
                for marker, scope in enumerate(SETS):
                    row = find(recorded, SetVerdict, scope, recipe, model, seed)
                    if row is None or row.mean_sqnr_db is None:
                        continue
                    found = row.nll_difference if metric is None else row.relative_difference[metric]
                    value = found.value
                    low, high = (value if end is None else end for end in (found.low, found.high))
                    ends = [[value - low], [high - value]]
                    ax.errorbar(row.mean_sqnr_db, value, yerr=ends, fmt=MARKERS[marker], markersize=5.5, capsize=2,
                                color=COLOURS[colour % len(COLOURS)], fillstyle="none" if colour >= 8 else "full",
                                label=recipe)  # fmt: skip
            ax.axhline(0, color="#7F7F7F", linewidth=0.8)
            ax.set(xlabel="mean SQNR of the quantized products, dB", ylabel=label)
            if metric:
                ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:+g} %")
        handles, labels = axes[0].get_legend_handles_labels()
        once = {label: handles[labels.index(label)] for label in labels}
        figure.legend(once.values(), once.keys(), loc="outside upper left", ncols=3)
        shapes = ", ".join(
            f"{name} {shape}" for name, shape in zip(SETS, ("circle", "square", "triangle"), strict=True)
        )
        figure.supxlabel(shapes, fontsize=8.5)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def write(path: Path, recorded: Sequence[Row], model: str = "moe", seed: int = 0) -> None:
    with new_file(path) as scratch:
        scratch.write_text(loss_by_sqnr(recorded, model, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/quality.svg"))
    options = parser.parse_args()
    write(options.out, rows())
    print(f"wrote {options.out}")


if __name__ == "__main__":
    run(main)
