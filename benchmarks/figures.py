"""Draw the figures of docs/ that are drawings, not measurements.

    python -m benchmarks.figures

The data flow of a product under the paper's recipe (docs/numerics.md): of attention, of an expert, and of a head.
"""

from pathlib import Path

from benchmarks.records import RESULTS
from octorec.output.write import new_file
from octorec.quant.recipe import load_recipe
from octorec.report.dataflow import draw_dataflow

FOLDER = RESULTS.parent / "docs" / "figures"
RECIPE = "fp8"
DRAWN = {
    "dataflow-attention.svg": "blocks.0.cross_attn.q_proj",
    "dataflow-expert.svg": "blocks.2.ffn.experts.0.gate_proj",
    "dataflow-head.svg": "head.0",
}


def draw(folder: Path) -> None:
    """Write every figure of DRAWN into `folder`."""
    for name, module in DRAWN.items():
        with new_file(folder / name) as scratch:
            scratch.write_text(draw_dataflow(load_recipe(RECIPE), module) + "\n")


if __name__ == "__main__":
    draw(FOLDER)
