"""A refreshed language model is a freshly loaded one, to the bit: heads of levels and beginnings of prompts too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octorec
from octorec import Request
from octorec.engine.engine import Engine
from octorec.engine.refresh import engine_beside, exchange, read_weights
from octorec.errors import InputError, MismatchError
from octorec.quant.convert import quantize_checkpoint
from tests.engine.refreshed import check_like_fresh, refreshed, shuffled
from tests.qwen.made_models import untrained_folder

pytestmark = pytest.mark.slow
OPTIONS: dict[str, Any] = {"batch_sizes": (1, 8), "beam_widths": (16,), "default_beam_width": 16}
KEEPING = {**OPTIONS, "prefix_cache_bytes": 10**8}
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_key_value_heads": 4}
TIED, UNTIED, QWEN2 = "openonerec", "onereason", "minionerec"
CASES = [(TIED, None), (UNTIED, None), (QWEN2, None), (TIED, "fp8"), (UNTIED, "fp8-block"), (QWEN2, "fp8-channel")]


def folder_of(path: Path, name: str, recipe: str | None = None) -> Path:
    found = untrained_folder(path, name, **WIDE | ({"head_dim": 32} if name != QWEN2 else {})).folder
    if recipe is None:
        return found
    quantize_checkpoint(found, path.with_name("fp8"), recipe)
    return path.with_name("fp8")


def requests_of(engine: Engine) -> list[Request]:
    """Histories, and long prompts of which two blocks are kept."""
    items, random = engine.catalog.item_ids, np.random.default_rng(0)
    assert engine.prompts is not None
    domain, begin = next(iter(engine.prompts.sids.begin.items()), ("", None))
    histories = [Request(items[place : place + 4], k=5, domain=domain) for place in range(4)]
    ids = random.integers(0, 500, 150).tolist()
    return [*histories, Request(input_ids=[*ids, *([] if begin is None else [begin])], k=5)]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_refreshed_is_freshly_loaded(name: str, recipe: str | None, device: str, tmp_path: Path) -> None:
    first = folder_of(tmp_path / "first", name, recipe)
    other = shuffled(first, tmp_path / "other", 1)
    engine = octorec.load(first, None, device, **KEEPING)
    engine.warm_up()
    requests = requests_of(engine)
    before = engine.recommend(requests)
    assert engine.recommend(requests)[-1].cached_tokens > 0
    beside = engine_beside(engine, read_weights(engine, other, device)).recommend(requests)
    fresh = octorec.load(other, None, device, **OPTIONS).recommend(requests)
    for one, wanted in zip(beside, fresh, strict=True):
        assert (one.items, one.scores, one.cached_tokens) == (wanted.items, wanted.scores, 0)
    old = refreshed(engine, other, host=recipe is None)
    check_like_fresh(engine, other, requests, **KEEPING)
    exchange(engine, old)
    check_like_fresh(engine, first, requests, **KEEPING)
    exchange(engine, old)
    exchange(engine, old)
    assert engine.recommend(requests) == before


def test_a_head_that_equals_the_embeddings_does_not_take_the_place_of_one_that_does_not(tmp_path: Path) -> None:
    """Such a head lies in memory once. Its config is the same, so that only the weights show it."""
    from safetensors.torch import load_file, save_file

    first = folder_of(tmp_path / "first", UNTIED)
    other = shuffled(first, tmp_path / "other", 1)
    (path,) = other.glob("*.safetensors")
    tensors = load_file(path)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, path, metadata={"format": "pt"})
    for engine_of, folder in ((first, other), (other, first)):
        engine = octorec.load(engine_of, **OPTIONS)
        answers = engine.recommend(requests_of(engine))
        with pytest.raises(MismatchError, match=r"lm_head.*load it beside"):
            read_weights(engine, folder, "cpu")
        assert engine.recommend(requests_of(engine)) == answers


def test_other_tokens_of_codes_and_another_base_of_turns_are_refused(tmp_path: Path) -> None:
    first = folder_of(tmp_path / "first", TIED)
    engine = octorec.load(first, **OPTIONS)
    raw = json.loads((first / "config.json").read_text())
    for key, value, said in (("rms_norm_eps", 1e-3, "rms_norm_eps"), ("rope_parameters", {"rope_theta": 5e3}, "rope")):
        other = shuffled(first, tmp_path / key, 1)
        (other / "config.json").write_text(json.dumps(raw | {key: value}))
        with pytest.raises(InputError, match=said):
            read_weights(engine, other, "cpu")
