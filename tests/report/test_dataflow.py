"""The data flow is drawn from the recipe in force, and nothing in it overlaps."""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.figures import DRAWN, FOLDER, RECIPE
from octorec.quant.recipe import Group, Recipe, load_recipe
from octorec.quant.shipped import shipped_recipes
from octorec.report.analysis import analyze
from octorec.report.dataflow import TITLE, dataflow_figure, dataflow_section, draw_dataflow, eight_bit, group_of
from octorec.report.page import Figure

ATTENTION, EXPERT, HEAD = "blocks.1.cross_attn.q_proj", "blocks.1.ffn.experts.0.up_proj", "head.2"
TENSOR = Recipe("mine", (Group((".*attn.*",), "tensor", "tensor"),))


def words(svg: str) -> str:
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return " ".join("".join(text.itertext()) for text in texts)


@pytest.mark.parametrize("recipe", shipped_recipes())
@pytest.mark.parametrize("module", [ATTENTION, EXPERT, HEAD])
def test_every_shipped_recipe_can_be_drawn(recipe: str, module: str) -> None:
    svg = draw_dataflow(load_recipe(recipe), module)
    assert module in words(svg)
    assert svg == draw_dataflow(load_recipe(recipe), module)  # the same drawing is the same file


def test_scales_are_those_of_the_layers_group() -> None:
    attention, expert = (words(draw_dataflow(load_recipe("fp8"), module)) for module in (ATTENTION, EXPERT))
    assert "one scale a token" in attention
    assert "one scale a channel" in attention
    assert "× both scales, in FP32" in attention
    assert "one scale a group" in expert
    assert "(128 × 128 of W)" in expert
    assert "FP32 sum of each 128 products" in expert
    assert "× both scales, in FP32" not in expert
    assert words(draw_dataflow(TENSOR, ATTENTION)).count("one scale") == 2
    assert "8 bit" in attention.replace("448", "")


@pytest.mark.parametrize("name", DRAWN)
def test_the_figures_in_docs_are_those_of_the_recipe(name: str) -> None:
    drawn = words(draw_dataflow(load_recipe(RECIPE), DRAWN[name]))
    assert words((FOLDER / name).read_text()) == drawn, "run python -m benchmarks.figures"


def test_a_section_has_one_picture_a_scheme() -> None:
    modules = [ATTENTION, "blocks.0.ffn.up_proj", EXPERT, "blocks.2.ffn.experts.0.down_proj", HEAD, "head.0"]
    for recipe, wanted in (("fp8", [ATTENTION, EXPERT, HEAD]), ("fp8-block", [ATTENTION, HEAD])):
        parts = dataflow_section(load_recipe(recipe), modules).parts
        assert [part.caption.partition(":")[0] for part in parts if isinstance(part, Figure)] == wanted


def test_the_report_of_analyze_shows_the_verdicts_recipe(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    analyze(make_checkpoint(), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert f">{TITLE}</h2>" in page
    assert "recipe of the verdict keeps head.0 so" in page


def test_a_kept_layer_shows_sixteen_bit_alone() -> None:
    for recipe, module in ((load_recipe("fp8"), HEAD), (TENSOR, EXPERT)):
        drawn = words(draw_dataflow(recipe, module))
        assert f"recipe {recipe.name} keeps {module} so" in drawn
        assert not re.search(r"\b8 bit|E4M3|scale", drawn)
    assert "stay in FP32" in words(draw_dataflow(load_recipe("fp8"), HEAD))
    assert "stay in FP32" not in words(draw_dataflow(TENSOR, EXPERT))


def test_scales_enter_the_sum_where_they_change_along_k() -> None:
    kinds = {("channel", "token"): 3, ("tensor", "tensor"): 3, ("block", "group"): 2, ("channel", "group"): 2}
    for (weights, activations), after_the_operands in kinds.items():
        boxes, arrows = eight_bit(Group((".*",), weights, activations))  # type: ignore[arg-type]
        assert len(boxes) == 7 + after_the_operands
        assert sum(box.kind == "8" for box in boxes) == 2
        assert boxes[-1].kind == "16"
        assert {end for _, end in arrows} == set(range(2, len(boxes)))


@pytest.mark.parametrize("recipe", [load_recipe("fp8"), load_recipe("fp8-block"), TENSOR])
@pytest.mark.parametrize("module", [ATTENTION, EXPERT, HEAD])
def test_texts_stay_within_their_boxes_and_apart(recipe: Recipe, module: str) -> None:
    figure = dataflow_figure(module, group_of(recipe, module), recipe.name)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    found = [
        text.get_window_extent(renderer) for ax in figure.axes for text in [*ax.texts, ax.title] if text.get_text()
    ]
    for a, b in itertools.combinations(found, 2):
        assert not a.overlaps(b)
    for ax in figure.axes:
        boxes = [patch.get_window_extent(renderer) for patch in ax.patches]
        texts = [text.get_window_extent(renderer) for text in ax.texts if text.get_text()]
        assert len(boxes) == len(texts)
        for box, text in zip(boxes, texts, strict=True):
            assert box.x0 <= text.x0
            assert text.x1 <= box.x1
            assert box.y0 <= text.y0
            assert text.y1 <= box.y1
