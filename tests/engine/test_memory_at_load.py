"""An engine that its device has no room for is refused before a weight is read, and says what takes how much."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up import MadeUpModel, random_catalog

import octorec
from octorec.catalog.catalog import Catalog
from octorec.engine.config import EngineConfig
from octorec.engine.engine import Engine
from octorec.engine.memory import free_bytes
from octorec.engine.needs import Needs, needs_of
from octorec.errors import InputError
from octorec.kernels import fused, reference
from octorec.kernels.fused_shapes import Shapes
from octorec.kernels.ops import Variant
from octorec.kernels.products import HOPPER
from octorec.models import weights
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import empty_model
from tests.second_family.gru import Config, TinyGRU

SIZES = (7, 5, 6)
CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return random_catalog(90, SIZES)


@pytest.fixture(scope="module")
def folder(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "bf16"
    path.mkdir()
    model = OneRecV2(preset("tiny", d_expert=128, codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=0)
    weights.save(model, path, torch.bfloat16)
    catalog.save(path / "catalog")
    quantize_checkpoint(path, path.with_name("fp8"), "fp8")
    return path


def told(folder: Path, **options: Any) -> tuple[Engine, str]:
    words: list[str] = []
    engine = octorec.load(folder, progress=lambda done, total, what="": words.append(what), **options)
    assert len(words) == 1
    return engine, words[0]


def held(engine: Engine) -> tuple[int, int]:
    tables = [tensor for level in engine.device_catalog.levels for tensor in level if tensor is not None]
    state: Any = engine.model
    return sum(tensor.nbytes for tensor in state.state_dict().values()), sum(table.nbytes for table in tables)


@pytest.mark.parametrize("kind", ["bf16", "fp8"])
@pytest.mark.parametrize("room", [None, 5000])
def test_weights_and_catalog_take_what_was_said(
    kind: str, room: int | None, folder: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder if kind == "bf16" else folder.with_name("fp8")
    engine, line = told(path, max_items=room)
    takes = sum(held(engine))
    at_weights, at_catalog = (f"{size / 1e6:.1f} MB" for size in held(engine))
    assert re.fullmatch(rf"memory: weights {at_weights}, catalog {at_catalog}; [0-9.,]+ [GM]B free", line)
    monkeypatch.setattr("octorec.engine.load.free_bytes", lambda device: takes)
    octorec.load(path, max_items=room)
    monkeypatch.setattr("octorec.engine.load.free_bytes", lambda device: takes - 1)
    with pytest.raises(InputError, match=r"^memory: got '.* MB for weights .* MB, catalog .* MB'; only .* are free"):
        octorec.load(path, max_items=room)


def test_no_weight_is_read_where_memory_is_short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octorec.engine.load.free_bytes", lambda device: 1000)
    monkeypatch.setattr("octorec.engine.load.load_model", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(InputError, match=r"only 0\.0 MB are free, and most is for weights: take the FP8 checkpoint"):
        octorec.load(folder)


@pytest.mark.parametrize(
    ("largest", "change"),
    [("weights", "FP8"), ("context", "max_context"), ("graphs", "beam_widths"), ("catalog", "max_items")],
)
def test_what_takes_most_is_named_with_what_to_change_first(largest: str, change: str) -> None:
    sizes = dict.fromkeys(("weights", "context", "graphs", "catalog"), 2 * 10**9) | {largest: 5 * 10**9}
    needs = Needs(**sizes)
    needs.check(needs.total)
    with pytest.raises(InputError) as refused:
        needs.check(needs.total - 1)
    assert refused.value.field == "memory"
    for part in ("11.0 GB for ", "weights ", "context KV ", "graphs ", "catalog ", "5.0 GB"):
        assert part in refused.value.value
    first, *others = refused.value.allowed.partition(f"most is for {largest}: ")[2].split("; or ")
    assert change in first
    assert len(others) == 3


def test_a_gpus_batch_is_the_largest_buckets(catalog: Catalog) -> None:
    shapes = Shapes(HOPPER)
    model = empty_model(lambda: OneRecV2(preset("tiny"), shapes), None, torch.bfloat16)

    def needs(**changes: Any) -> Needs:
        return needs_of(model, catalog, EngineConfig(**{"default_beam_width": 8, **changes}), shapes, CUDA)

    small, whole = needs(batch_sizes=(1,), beam_widths=(32,)), needs()
    for more in ({"batch_sizes": (1, 8, 32)}, {"beam_widths": (32, 128, 512)}):
        assert small.graphs < needs(**{"batch_sizes": (1,), "beam_widths": (32,), **more}).graphs < whole.graphs
    assert whole.context == 32 * small.context
    assert 32 * needs(max_context=3).context == 8 * needs(batch_sizes=(32,)).context


def test_the_last_levels_q_k_v_are_not_among_a_batchs_memory(catalog: Catalog) -> None:
    """They are made for one block at a time; those of earlier levels stay for all blocks."""
    shapes = Shapes(HOPPER)

    def graphs(blocks: int, schedule: tuple[int, ...]) -> int:
        model = empty_model(lambda: OneRecV2(preset("tiny", n_layer=blocks), shapes), None, torch.bfloat16)
        limits = EngineConfig(batch_sizes=(4,), beam_widths=(schedule,), default_beam_width=schedule)
        return needs_of(model, catalog, limits, shapes, CUDA).graphs

    at_once = graphs(9, (2, 4, 8)) - graphs(5, (2, 4, 8))
    assert at_once == graphs(9, (2, 4, 64)) - graphs(5, (2, 4, 64))
    assert at_once == 4 * 4 * (1 + 2) * 3 * 32 * 2  # blocks, requests, rows of two levels, q and k and v, width, bytes


class Peeking(TinyGRU):
    def prefill(self, inputs: Any) -> Any:
        assert inputs["bag"].sum().item() < 10**9
        return super().prefill(inputs)


def test_code_that_needs_numbers_is_not_counted_and_not_refused(catalog: Catalog) -> None:
    shapes = Shapes(HOPPER)
    model: Any = empty_model(lambda: Peeking(Config(SIZES), shapes), None, torch.bfloat16)
    needs = needs_of(model, catalog, EngineConfig(), shapes, CUDA)
    assert needs.weights > 0 < needs.catalog
    assert needs.context == needs.graphs == 0


def test_a_longer_context_than_the_model_reads_is_refused_at_load(folder: Path) -> None:
    assert octorec.load(folder, max_context=12).max_history == 12
    with pytest.raises(InputError, match="max_context: got 13; at most the model's max_history, 12"):
        octorec.load(folder, max_context=13)


def test_beams_that_the_kernel_has_no_room_for_are_refused_at_load() -> None:
    beams = Variant(reference)
    beams.__dict__["check_beams"] = fused.check_beams
    vast = MadeUpModel((2**16, 2**16))
    EngineConfig(beam_widths=(128,)).check(vast, beams)
    EngineConfig(beam_widths=(128, 4096)).check(vast, reference)
    with pytest.raises(
        InputError, match=r"beam_widths: got \(128, 4096\); .* no room for 4096 of 1 x 65536 candidates"
    ):
        EngineConfig(beam_widths=(128, 4096)).check(vast, beams)


def test_the_first_step_has_one_beam_and_each_width_is_checked() -> None:
    asked: list[tuple[int, ...]] = []
    ops = Variant(reference)
    ops.__dict__["check_beams"] = lambda *sizes: asked.append(sizes)
    config = EngineConfig(beam_widths=(4, 8), default_beam_width=4)
    config.check(MadeUpModel(SIZES), ops)
    assert asked == [
        (beams, size, width) for width in (4, 8) for beams, size in zip((1, width, width), SIZES, strict=True)
    ]


@pytest.mark.gpu
def test_a_gpu_gives_what_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = random_catalog(5000, (2048, 2048, 2048))
    model = OneRecV2(preset("0.1b", codebook_sizes=catalog.codebook_sizes, codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=0)
    weights.save(model, tmp_path, torch.bfloat16)
    said: list[Needs] = []
    monkeypatch.setattr("octorec.engine.load.needs_of", lambda *given: said.append(needs_of(*given)) or said[0])
    before = free_bytes("cuda")
    engine = octorec.load(tmp_path, catalog, "cuda")
    engine.warm_up()
    taken = before - free_bytes("cuda")
    libraries = 500 * 10**6  # kernels' code, and what cuBLAS works in
    assert 0.7 * said[0].total < taken < 1.15 * said[0].total + libraries
