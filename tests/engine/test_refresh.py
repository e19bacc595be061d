"""A refreshed engine is a freshly loaded one, to the bit, in the memory that it had; what does not fit is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from refreshed import addresses, check_like_fresh, refreshed, shuffled
from safetensors.torch import load_file, save_file

import octorec
from octorec.catalog.catalog import Catalog
from octorec.engine import refresh
from octorec.engine.engine import Engine
from octorec.engine.prefix_cache import BLOCK, PrefixCache, digests
from octorec.engine.refresh import engine_beside, exchange, fits_beside, on_host, read_weights, tensors_of
from octorec.engine.request import Request
from octorec.errors import InputError, MismatchError
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.quant.convert import quantize_checkpoint
from tests.serve.served import make_catalog

OPTIONS: dict[str, Any] = {"batch_sizes": (1, 8), "beam_widths": (8, 16), "default_beam_width": "auto"}
DENSE: dict[str, Any] = {"n_dense": 3, "n_expert": 0, "n_shared": 0, "top_k": 0}
ASKED = [Request([f"i{n}", f"i{2 * n}"], k=5) for n in range(6)]
ON_GPU = pytest.param("cuda", marks=pytest.mark.gpu)
FP8 = [(kind, recipe) for kind in ("moe", "dense") for recipe in ("fp8", "fp8-channel", "fp8-block")]
KINDS = [("moe", None), ("dense", None), *(pytest.param(*one, marks=pytest.mark.slow) for one in FP8)]


def folder_of(path: Path, catalog: Catalog, kind: str = "moe", recipe: str | None = None, **changes: Any) -> Path:
    """A OneRec folder, in BF16 or quantized."""
    wide = {"d_model": 128, "d_ff": 256, "d_expert": 128} if recipe else {}
    shape = {**wide, **(DENSE if kind == "dense" else {}), **changes}
    model = OneRecV2(preset("tiny", codebook_fingerprint=catalog.fingerprint, **shape))
    initialize(model, seed=0)
    path.mkdir(parents=True)
    save(model, path, torch.bfloat16)
    if recipe is None:
        return path
    quantize_checkpoint(path, path.with_name(f"{path.name}-{recipe}"), recipe)
    return path.with_name(f"{path.name}-{recipe}")


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "first", make_catalog())


def loaded(folder: Path, device: str = "cpu") -> Engine:
    engine = octorec.load(folder, make_catalog(), device, **OPTIONS)
    engine.warm_up()
    return engine


def whole(engine: Engine) -> dict[str, torch.Tensor]:
    """The bytes of every tensor, as they are now."""
    model: Any = engine.model
    return {name: tensor.view(-1).view(torch.uint8).clone() for name, tensor in tensors_of(model).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(one[name].equal(tensor) for name, tensor in other.items())


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
@pytest.mark.parametrize(("kind", "recipe"), KINDS)
def test_refreshed_is_freshly_loaded(kind: str, recipe: str | None, device: str, tmp_path: Path) -> None:
    """There and back over three sets of weights; answers came from graphs and memory of the ones before."""
    catalog = make_catalog()
    first = folder_of(tmp_path / "first", catalog, kind, recipe)
    folders = [first, *(shuffled(first, tmp_path / f"other{seed}", seed) for seed in (1, 2))]
    engine = loaded(first, device)
    answers = [engine.recommend(ASKED)]
    for place in (1, 2, 0):
        before = folders[place - 1]
        old = refreshed(engine, folders[place], host=place == 2)
        check_like_fresh(engine, folders[place], ASKED, **OPTIONS)
        answers.append(engine.recommend(ASKED))
        new = exchange(engine, on_host(old))
        check_like_fresh(engine, before, ASKED, **OPTIONS)
        exchange(engine, new)
    assert answers[0] == answers[-1]
    assert answers[0] != answers[1] != answers[2]


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
def test_an_engine_beside_answers_as_a_fresh_one_and_follows_the_catalog(
    device: str, first: Path, tmp_path: Path
) -> None:
    other = shuffled(first, tmp_path / "other", 1)
    engine = loaded(first, device)
    assert fits_beside(engine, other)
    kept = engine.recommend(ASKED), addresses(engine)
    beside = engine_beside(engine, read_weights(engine, other, device))
    fresh = loaded(other, device)
    assert beside.recommend(ASKED) == fresh.recommend(ASKED)
    assert (engine.recommend(ASKED), addresses(engine)) == kept
    later = make_catalog(95, seed=2)
    engine.replace_catalog(later)
    assert beside.catalog is later


UNLIKE: list[tuple[dict[str, Any], str]] = [
    ({"n_layer": 4}, "n_layer"),
    ({"top_k": 1}, "top_k"),
    ({"rms_eps": 1e-5}, "rms_eps"),
    ({"max_context": 10}, "max_context"),
    ({"codebook_fingerprint": "another"}, "codebook_fingerprint"),
]


@pytest.mark.parametrize(("change", "said"), UNLIKE)
def test_another_config_is_refused_and_nothing_changes(
    change: dict[str, Any], said: str, first: Path, tmp_path: Path
) -> None:
    engine = loaded(first)
    before = whole(engine)
    model = OneRecV2(preset("tiny", **{"codebook_fingerprint": engine.catalog.fingerprint, **change}))
    initialize(model, seed=1)
    (tmp_path / "other").mkdir()
    save(model, tmp_path / "other", torch.bfloat16)
    with pytest.raises(MismatchError, match=f"{said}: got .*; the engine's is .* load it beside, not in place"):
        read_weights(engine, tmp_path / "other", "cpu")
    assert same(whole(engine), before)


def test_another_precision_is_refused(tmp_path: Path) -> None:
    catalog = make_catalog()
    first = folder_of(tmp_path / "first", catalog, d_model=128, d_ff=256, d_expert=128)
    for recipe, said in (("fp8-channel", "FP8Linear channel token"), ("fp8-block", "FP8Linear block group")):
        quantize_checkpoint(first, tmp_path / recipe, recipe)
        with pytest.raises(MismatchError, match=said):
            read_weights(loaded(first), tmp_path / recipe, "cpu")
    with pytest.raises(MismatchError, match="the engine's is FP8Linear channel token"):
        read_weights(loaded(tmp_path / "fp8-channel"), tmp_path / "fp8-block", "cpu")


def test_a_broken_folder_is_refused_before_its_first_byte_is_copied(first: Path, tmp_path: Path) -> None:
    engine = loaded(first)
    before = whole(engine)
    for name, kind in (("nan", "every weight must be finite"), ("lacks", "missing"), ("shape", "config.json says")):
        folder = shuffled(first, tmp_path / name, 1)
        (path,) = folder.glob("*.safetensors")
        tensors, last = load_file(path), "head.2.weight"  # the last to be copied
        if name == "nan":
            tensors[last][-1, -1] = torch.nan
        elif name == "lacks":
            del tensors[last]
            _unlist(folder, last)
        else:
            tensors[last] = tensors[last][:-1].clone()
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(InputError, match=kind):
            read_weights(engine, folder, "cpu")
        assert same(whole(engine), before)


def _unlist(folder: Path, name: str) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"][name]
    path.write_text(json.dumps(index))


def test_a_copy_that_fails_leaves_the_weights_that_answered(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = loaded(first)
    before, answers = whole(engine), engine.recommend(ASKED)
    weights = read_weights(engine, shuffled(first, tmp_path / "other", 1), "cpu")
    copies, done = refresh._exchange, 0

    def failing(mine: torch.Tensor, other: torch.Tensor) -> None:
        nonlocal done
        done += 1
        if done == 20:
            raise RuntimeError("the device is gone")
        copies(mine, other)

    monkeypatch.setattr(refresh, "_exchange", failing)
    with pytest.raises(RuntimeError, match="gone"):
        exchange(engine, weights)
    assert done > 30
    assert same(whole(engine), before)
    monkeypatch.setattr(refresh, "_exchange", copies)
    renewed, renew = [], refresh._renew

    def failing_once(engines: list[Engine], weights: refresh.Weights) -> None:
        renewed.append(weights)
        renew(engines, weights)
        if len(renewed) == 1:
            raise RuntimeError("the margin was not measured")

    monkeypatch.setattr(refresh, "_renew", failing_once)
    with pytest.raises(RuntimeError, match="margin"):
        exchange(engine, weights)
    assert len(renewed) == 2
    assert same(whole(engine), before)
    assert engine.recommend(ASKED) == answers


def test_too_little_memory_of_the_host_is_refused(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = loaded(first)
    monkeypatch.setattr(refresh, "free_bytes", lambda device: 5000)
    with pytest.raises(InputError, match=r"memory: got .* for weights.*only 0\.0 MB of the host are free"):
        read_weights(engine, first, "cpu")


def test_a_prefix_cache_that_is_cleared_finds_nothing_and_has_its_whole_room() -> None:
    cache = PrefixCache(torch.zeros(1, 2, 3 * BLOCK, 1, 2))
    pool = torch.randn(1, 2, 4 * BLOCK, 1, 2)
    tokens = torch.arange(2 * BLOCK + 1).numpy()
    for _ in range(3):
        cache.keep(digests(tokens, ""), pool, 0)
        assert len(cache) == 2
        cache.clear()
        assert (len(cache), cache.nbytes) == (0, 0)
        assert cache.take(digests(tokens, ""), len(tokens), pool, 0) == 0
    cache.keep(digests(torch.arange(3 * BLOCK).numpy(), ""), pool, 0)
    assert (len(cache), cache.evicted) == (3, 0)
