"""Draw the data flow of one product, in 16 bit and as the recipe in force quantizes it: the paper's figure 2.

Time runs downwards. Rounded boxes are steps, plain ones tensors; what is 8 bit is filled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from octorec.kernels.fp8 import E4M3_MAX, GROUP
from octorec.numerics.roles import role
from octorec.quant.recipe import Group, Recipe
from octorec.report import page
from octorec.report.page import Section
from octorec.report.plots import STYLE, WIDTH, as_label, svg

TITLE = "The data flow of a product"
SCALES = {  # granularity -> what shares a scale
    "token": "one scale a token\n(a row of x)",
    "group": f"one scale a group\n(1 × {GROUP} of a row)",
    "channel": "one scale a channel\n(a row of W)",
    "block": f"one scale a block\n({GROUP} × {GROUP} of W)",
    "tensor": "one scale\nfor the tensor",
}
SUMS = {  # text of the sum, by where scales are multiplied in
    "inner": f"FP32 sum of each {GROUP} products\n× both scales, added in FP32",
    "outer": "FP32 sum over all of K",
}
FILL = {"16": "#FFFFFF", "8": "#9CC9E8", "32": "#F5D7A8", "step": "#EEEEEE"}
EDGE = {"16": "-", "8": "-", "32": "--", "step": "-"}


@dataclass(frozen=True)
class Box:
    """A Box is a step or a tensor of the drawing.

    kind: 16, 8 or 32 (bits of a tensor) or step. x, y: centre, in units of the drawing.
    """

    kind: str
    text: str
    x: float
    y: float
    width: float = 1.7
    height: float = 0.62


Arrow = tuple[int, int]  # from one box to another, by their places in a list


def group_of(recipe: Recipe, module: str) -> Group | None:
    """Return the group of `recipe` that `module` (its name on disk) belongs to; None where it stays in 16 bit."""
    return recipe.assign([module]).get(module)


def dataflow_section(recipe: Recipe, modules: Sequence[str]) -> Section:
    """Return a section that draws each way in which `recipe` computes products of `modules`, of the
    first module that goes so.
    """
    first: dict[tuple[str, str] | None, str] = {}
    for module in modules:
        group = group_of(recipe, module)
        first.setdefault(None if group is None else (group.weights, group.activations), module)
    pictures = []
    for scheme, module in first.items():
        said = "stays in 16 bit" if scheme is None else f"weights a scale a {scheme[0]}, inputs a scale a {scheme[1]}"
        caption = f"{module}: {said}. Filled and thick: 8 bit; dashed: 32 bit; rounded: a step."
        pictures.append(page.Figure(draw_dataflow(recipe, module), caption))
    return Section(TITLE, pictures)


def draw_dataflow(recipe: Recipe, module: str) -> str:
    """Draw an SVG of both flows of `module` under `recipe`, or of the 16-bit one alone where the
    recipe leaves it so.
    """
    with mpl.rc_context({**STYLE, "text.parse_math": False}):  # a name may hold a $
        return svg(dataflow_figure(module, group_of(recipe, module), recipe.name))


def dataflow_figure(module: str, group: Group | None, recipe: str) -> Figure:
    """Draw 16 bit on the left, and on the right FP8 under `group`."""
    name, recipe = as_label(module), as_label(recipe)
    if group is None:
        flows = [(f"16 bit: recipe {recipe} keeps {name} so", *sixteen_bit(scores=role(module) == "head"))]
    else:
        flows = [("16 bit", *sixteen_bit())]
        flows.append((f"FP8 under recipe {recipe}", *eight_bit(group)))
    with mpl.rc_context({**STYLE, "text.parse_math": False}):  # a name may hold a $
        width = WIDTH if group is not None else WIDTH / 2
        figure = Figure(figsize=(width, 5.6 if group is not None else 3.6), layout="constrained")
        ratios = [1.0] if group is None else [0.78, 1.0]
        axes = figure.subplots(1, len(flows), squeeze=False, width_ratios=ratios)[0]
        figure.suptitle(f"y = x Wᵀ of {name}" if group is not None else "y = x Wᵀ", fontsize=10)
        for ax, (title, boxes, arrows) in zip(axes, flows, strict=True):
            _draw(ax, title, boxes, arrows)
    return figure


def sixteen_bit(scores: bool = False) -> tuple[list[Box], list[Arrow]]:
    """Return boxes and arrows of the plain product; of a head the `scores` stay in FP32."""
    boxes = [
        Box("16", "x  [T, K]\n16 bit", 0.0, 0.0),
        Box("16", "W  [N, K]\n16 bit", 2.0, 0.0),
        Box("step", "multiply on the tensor cores", 1.0, -1.4, 2.6, 0.5),
        Box("32", "FP32 sum over all of K", 1.0, -2.4, 2.6, 0.5),
        Box("32", "scores  [T, N]\nstay in FP32", 1.0, -3.6) if scores else Box("16", "y  [T, N]\n16 bit", 1.0, -3.6),
    ]
    return boxes, [(0, 2), (1, 2), (2, 3), (3, 4)]


def eight_bit(group: Group) -> tuple[list[Box], list[Arrow]]:
    """Return boxes and arrows of the product under `group`.

    Scales that change along K enter inside the sum, others after it.
    """
    inner = group.weights == "block" or group.activations == "group"
    boxes = [
        Box("16", "x  [T, K]\n16 bit", 0.0, 0.0),
        Box("16", "W  [N, K]\n16 bit", 2.4, 0.0),
        Box("step", f"at run time\nabsmax / {E4M3_MAX:.0f}:\n{SCALES[group.activations]}", 0.0, -1.35, 2.1, 1.25),
        Box("step", f"offline, once\nabsmax / {E4M3_MAX:.0f}:\n{SCALES[group.weights]}", 2.4, -1.35, 2.1, 1.25),
        Box("8", "x / scale in E4M3\n8 bit", 0.0, -2.75, 1.9),
        Box("8", "W / scale in E4M3\n8 bit", 2.4, -2.75, 1.9),
        Box("step", "multiply on the FP8 tensor cores", 1.2, -3.8, 3.0, 0.5),
        Box("32", SUMS["inner" if inner else "outer"], 1.2, -4.75, 3.0, 0.66),
    ]
    arrows = [(0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (6, 7)]
    if not inner:
        boxes.append(Box("step", "× both scales, in FP32", 1.2, -5.65, 3.0, 0.5))
        arrows.append((7, 8))
    last = len(boxes) - 1
    boxes.append(Box("16", "y  [T, N]\nback to 16 bit", 1.2, boxes[last].y - 1.05))
    return boxes, [*arrows, (last, last + 1)]


def _draw(ax: Axes, title: str, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> None:
    for box in boxes:
        ax.add_patch(_patch(box))
        ax.text(box.x, box.y, box.text, ha="center", va="center", fontsize=8.5, linespacing=1.25)
    for start, end in arrows:
        a, b = boxes[start], boxes[end]
        inside = min(max(a.x, b.x - b.width / 2 + 0.25), b.x + b.width / 2 - 0.25)  # as straight down as it can be
        style: dict[str, Any] = {"arrowstyle": "-|>", "color": "#333333", "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (inside, b.y + b.height / 2), (a.x, a.y - a.height / 2), arrowprops=style)
    ax.set_xlim(min(b.x - b.width / 2 for b in boxes) - 0.1, max(b.x + b.width / 2 for b in boxes) + 0.1)
    ax.set_ylim(min(b.y - b.height / 2 for b in boxes) - 0.1, boxes[0].y + 0.5)
    ax.set_title(title, fontsize=9.5)
    ax.axis("off")


def _patch(box: Box) -> FancyBboxPatch:
    corner = (box.x - box.width / 2, box.y - box.height / 2)
    style = "round,pad=0,rounding_size=0.16" if box.kind == "step" else "square,pad=0"
    return FancyBboxPatch(
        corner, box.width, box.height, boxstyle=style, facecolor=FILL[box.kind], edgecolor="#333333",
        linestyle=EDGE[box.kind], linewidth=2.0 if box.kind == "8" else 1.0,
    )  # fmt: skip
