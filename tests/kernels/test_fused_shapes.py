"""`Shapes` allocates what the kernels allocate: published sizes without launches, small ones with them."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sm90
import torch
from torch.utils._python_dispatch import _disable_current_modes
from triton.runtime.interpreter import GridExecutor

from octorec.catalog.catalog import Catalog
from octorec.engine.config import EngineConfig
from octorec.engine.device_catalog import DeviceCatalog
from octorec.engine.limits import MOST_SEEN
from octorec.engine.live_bytes import LiveBytes
from octorec.engine.needs import needs_of
from octorec.engine.search import search
from octorec.engine.staging import Staging
from octorec.kernels import device as device_module
from octorec.kernels import fused
from octorec.kernels.fused_shapes import Shapes
from octorec.kernels.ops import OPERATIONS, Ops, Variant
from octorec.kernels.products import INTERPRETER, Tile, card_with
from octorec.models.names import views
from octorec.models.onerec import OneRecV2
from octorec.models.presets import preset
from octorec.quant.format import to_quantization_config
from octorec.quant.load import empty_model
from octorec.quant.recipe import load_recipe, matrices
from tests.second_family.gru import Config, TinyGRU

SMALL = {"d_model": 128, "n_layer": 2, "embed_dim": 16, "codebook_sizes": (24, 16), "max_context": 8}
SLOW = [pytest.param("small", recipe, marks=pytest.mark.slow) for recipe in (None, "fp8", "fp8-channel")]
LARGE = [
    ("moe-4b-a0.5b", "fp8", (9, 0)),
    ("moe-4b-a0.5b", None, (9, 0)),
    ("moe-4b-a0.5b", "fp8-channel", (12, 0)),
    ("1b", "fp8-block", (8, 9)),
]
CONFIG = EngineConfig(batch_sizes=(2,), beam_widths=(4,), default_beam_width=4)


def make(name: str, ops: Ops) -> Any:
    if name == "gru":
        return TinyGRU(Config((24, 16), width=64), ops)
    return OneRecV2(preset("demo", **SMALL) if name == "small" else preset(name), ops)


def model_of(name: str, recipe: str | None, ops: Ops, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A model on the meta device, quantized by a recipe or not at all."""
    make_it = lambda: make(name, ops)  # noqa: E731
    if recipe is None:
        return empty_model(make_it, None, dtype)
    with torch.device("meta"):
        shapes = {matrix: tuple(view.tensor.shape) for matrix, view in views(make_it()).items()}
    return empty_model(make_it, to_quantization_config(load_recipe(recipe), matrices(shapes)), dtype)


def catalog_of(sizes: tuple[int, ...], items: int = 200) -> Catalog:
    codes = np.random.default_rng(0).integers(0, sizes, (items, len(sizes)))
    columns = {"item_id": [str(item) for item in range(items)], "codes": pa.array(codes.tolist(), pa.list_(pa.int32()))}
    return Catalog.of_items(pa.table(columns), sizes)


def test_every_operation_of_a_search_says_what_it_allocates() -> None:
    assert set(OPERATIONS) - set(vars(Shapes)) == {"causal_attention"}  # training's


def head(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """cuBLAS's, as `fused.head` calls it on a GPU."""
    return torch.empty(len(x), len(weight), device=x.device)


def compare(name: str, recipe: str | None, capability: tuple[int, int]) -> None:
    """Hold the kernels' own allocations, launches left out, against `Shapes`."""
    kernels, shapes = Variant(fused, head=head), Shapes(card_with(capability))
    found = []
    for ops in (kernels, shapes):
        model = model_of(name, recipe, ops)
        found.append(needs_of(model, catalog_of(model.codebook_sizes), EngineConfig(), ops, torch.device("cuda")))
    real, estimated = found
    assert estimated.context == real.context > 0, found
    assert estimated.graphs == pytest.approx(real.graphs, rel=0.01), found


@pytest.mark.parametrize(
    ("name", "recipe", "capability"),
    [*(pytest.param(*each, marks=pytest.mark.slow) for each in LARGE), ("demo", "fp8", (12, 0)), ("gru", None, (9, 0))],
)
def test_a_models_search_takes_what_shapes_say(name: str, recipe: str | None, capability: tuple[int, int]) -> None:
    sm90.launches(compare, name, recipe, capability, capability=10 * capability[0] + capability[1])


@pytest.fixture
def uncounted_launches(device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The interpreter copies what a kernel reads and writes, which a GPU does not; and its tiles are small."""
    launch = GridExecutor.__call__

    def uncounted(self: Any, *args: Any, **kwargs: Any) -> None:
        with _disable_current_modes():
            launch(self, *args, **kwargs)
        gc.collect()  # its cycles hold what it was given

    monkeypatch.setattr(GridExecutor, "__call__", uncounted)
    if device == "cpu":
        monkeypatch.setattr(device_module, "INTERPRETER", replace(INTERPRETER, tile=Tile(rows=16)))
    gc.freeze()  # a collection then looks at the test's own objects
    yield
    gc.unfreeze()


@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:invalid value", "ignore:overflow")  # unread slots
@pytest.mark.parametrize(("name", "recipe"), [*SLOW, ("gru", None)])
@pytest.mark.usefixtures("uncounted_launches")
def test_a_search_that_runs_takes_what_was_said_before(name: str, recipe: str | None, device: str) -> None:
    shapes = Shapes(device_module.card_of(torch.device(device)))
    described = model_of(name, recipe, shapes)
    catalog = catalog_of(described.codebook_sizes)
    said = needs_of(described, catalog, CONFIG, shapes, torch.device("cuda"))

    model = model_of(name, recipe, Variant(fused, head=head)).to_empty(device=device)
    for tensor in model.state_dict().values():
        tensor.zero_()
    trie = DeviceCatalog(catalog, CONFIG.room(catalog), torch.device(device))
    staging = Staging(model, model.max_history, 2, 2 * (CONFIG.max_exclude + MOST_SEEN), trie.set_words, pinned=False)
    block = staging.block.to(device)
    with torch.no_grad():
        with LiveBytes() as live:
            state = model.prefill(staging.batch(block).inputs)
            context = live.now
        del state
        with LiveBytes() as live:
            search(model, trie.levels, staging.batch(block), (4,) * len(model.codebook_sizes), model.ops)
    assert said.weights == sum(tensor.nbytes for tensor in model.state_dict().values())
    assert said.catalog == sum(tensor.nbytes for level in trie.levels for tensor in level if tensor is not None)
    assert said.context == context > 0
    assert said.graphs - block.nbytes == pytest.approx(live.most - context, rel=0.15), live.most
