"""Qwen models answer as transformers computes them: teacher-forced, by search, alone and in batches."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as TextTokenizer
from torch import Tensor

from octorec.catalog.catalog import Catalog
from octorec.engine.device_catalog import DeviceCatalog
from octorec.engine.search import SearchBatch, Searched, score, search
from octorec.errors import InputError, MismatchError
from octorec.kernels import fused, reference, stock
from octorec.kernels.fused_shapes import Shapes
from octorec.kernels.ops import DEAD, NodeFilter, Variant
from octorec.kernels.products import card_with
from octorec.models.families import known_family, maker
from octorec.models.hf_folder import Checkpoint
from octorec.models.model import Choose, Force, Reading, blank_inputs
from octorec.models.names import disk_tensors
from octorec.models.sid_tokens import EndToken
from octorec.numerics.activations import activation_stats
from octorec.quant.load import empty_model, load_model
from tests.models.made_tokenizers import minionerec
from tests.models.qwen_made import BEGIN, EOS, NEWLINE, ROWS, SIDS, change_config, expected, item_tokens
from tests.models.qwen_made import reference_model as made
from tests.models.qwen_made import save as saved

KINDS = [("qwen3", True), ("qwen3", False), ("qwen2", True), ("qwen2", False)]
PROMPTS = [[3, 7, 40, 53, 61, 12, BEGIN], [1, BEGIN], [*range(20, 39), BEGIN], [BEGIN]]
ITEMS = [item for item in product(range(5), (0, 2, 3), range(3)) if sum(item) % 3 != 1]


def batch_of(model: Any, prompts: list[list[int]], longest: int = 30) -> dict[str, Tensor]:
    inputs = blank_inputs(model.inputs(longest), len(prompts))
    for row, prompt in enumerate(prompts):
        reading = Reading(np.empty((0, 3), np.int64), (), tokens=np.array(prompt))
        model.write(reading, lambda name, values, row=row: put(inputs[name][row], values))
    return inputs


def put(there: Tensor, values: np.ndarray) -> None:
    if values.ndim:
        there = there[: len(values)]
    there.copy_(torch.from_numpy(np.asarray(values)))


def catalog() -> Catalog:
    columns = {"item_id": [str(item) for item in ITEMS], "codes": pa.array([[*i] for i in ITEMS], pa.list_(pa.int32()))}
    return Catalog.of_items(pa.table(columns), SIDS.codebook_sizes)


@torch.no_grad()
def searched(
    model: Any, prompts: list[list[int]], width: int, room: int | None = None
) -> tuple[Searched, list[list[tuple[int, ...]]]]:
    """What a search finds with beams of `width`, where there is room for more; and the items."""
    trie, count = DeviceCatalog(catalog(), 100, torch.device("cpu")), len(prompts)
    none = NodeFilter(
        torch.zeros(0, dtype=torch.int32), torch.zeros(count + 1, dtype=torch.int64),
        torch.zeros(count, 0, dtype=torch.int64), torch.zeros(count, dtype=torch.bool),
    )  # fmt: skip
    roots = torch.full((count, 1), trie.first_nodes[0])
    batch = SearchBatch(batch_of(model, prompts), roots, torch.full((3, count), width), (none,) * 3)
    found = search(model, trie.levels, batch, (room or width,) * 3, reference)
    return found, [[ITEMS[node] for node in row if node != DEAD] for row in found.nodes.tolist()]


@pytest.mark.parametrize(("kind", "tied"), KINDS)
def test_forced_log_probabilities_are_those_of_transformers(kind: str, tied: bool, tmp_path: Path) -> None:
    theirs = made(kind, tied)
    model = load_model(saved(theirs, tmp_path))
    codes = torch.tensor([ITEMS[at] for at in (0, 5, 11, 20)])
    with torch.no_grad():
        steps = model.forced(batch_of(model, PROMPTS), codes)
        scores = score(model, batch_of(model, PROMPTS), codes)
    assert scores.shape == (4, 5)  # three codes, and an end of two tokens
    for row, prompt in enumerate(PROMPTS):
        tokens = item_tokens(codes[row].tolist())
        log_p = expected(theirs, prompt, tokens)
        torch.testing.assert_close(scores[row], log_p.gather(1, torch.tensor(tokens)[:, None])[:, 0], atol=1e-5, rtol=0)
        for step, level in enumerate(SIDS.levels):
            found = steps[step].values[row, 0] - steps[step].log_norm[row, 0]
            there = torch.from_numpy(level >= 0)
            torch.testing.assert_close(found[there], log_p[step][level[level >= 0]], atol=1e-5, rtol=0)
            assert (found[~there] < -1e29).all()


def test_16_bit_is_as_near_to_float32_as_transformers_is(tmp_path: Path) -> None:
    theirs = made("qwen3").to(torch.bfloat16)
    model = load_model(saved(theirs, tmp_path), dtype=torch.bfloat16)
    exact = theirs.float()
    codes = torch.tensor([ITEMS[4]])
    with torch.no_grad():
        scores = score(model, batch_of(model, PROMPTS[:1]), codes)
    tokens = item_tokens(ITEMS[4])
    log_p = expected(exact, PROMPTS[0], tokens).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    torch.testing.assert_close(scores[0], log_p, atol=0.15, rtol=0.02)


@pytest.mark.parametrize(("kind", "tied"), KINDS)
def test_a_search_finds_the_best_of_all_items_by_transformers_sums(kind: str, tied: bool, tmp_path: Path) -> None:
    theirs = made(kind, tied)
    model = load_model(saved(theirs, tmp_path))
    found, leaves = searched(model, PROMPTS, 40)
    for row, prompt in enumerate(PROMPTS):
        totals = {}
        for item in ITEMS:
            tokens = item_tokens(item)
            totals[item] = float(expected(theirs, prompt, tokens).gather(1, torch.tensor(tokens)[:, None]).sum())
        best = sorted(totals, key=totals.__getitem__, reverse=True)
        assert [totals[item] for item in leaves[row][: len(best)]] == pytest.approx([totals[i] for i in best], abs=1e-4)
        torch.testing.assert_close(
            found.scores[row, : len(best)], torch.tensor([totals[i] for i in best]), atol=1e-4, rtol=0
        )
        assert found.scores[row, len(best) :].eq(-torch.inf).all()


@pytest.mark.parametrize("kind", ["qwen3", "qwen2"])
def test_a_request_has_the_same_bits_alone_and_among_longer_prompts(kind: str, tmp_path: Path) -> None:
    model = load_model(saved(made(kind, False), tmp_path))
    together, leaves = searched(model, PROMPTS, 7)
    for row, prompt in enumerate(PROMPTS):
        alone, own = searched(model, [prompt], 7)
        assert alone.scores[0].equal(together.scores[row])
        assert own[0] == leaves[row]
    roomy, same = searched(model, PROMPTS, 7, room=20)
    assert roomy.scores[:, :7].equal(together.scores)
    assert same == leaves


def test_the_stock_operations_of_a_gpu_give_the_same_answers(tmp_path: Path) -> None:
    ops = Variant(reference, prefill_attention=stock.prefill_attention, beam_attention=stock.beam_attention)
    folder = saved(made("qwen3"), tmp_path)
    ours, theirs = (searched(load_model(folder, each), PROMPTS, 7) for each in (reference, ops))
    assert ours[1] == theirs[1]
    torch.testing.assert_close(ours[0].scores, theirs[0].scores, atol=1e-4, rtol=0)


def test_scores_over_the_level_leave_the_vocabulary_and_the_end_out(tmp_path: Path) -> None:
    theirs = made("qwen3")
    model = load_model(saved(theirs, tmp_path, replace(SIDS, scores_over="level")))
    assert model.steps == (Choose(0), Choose(1), Choose(2), Force(0, False), Force(0, False))
    found, leaves = searched(model, PROMPTS[:1], 7)
    for item, total in zip(leaves[0], found.scores[0].tolist(), strict=True):
        log_p = expected(theirs, PROMPTS[0], item_tokens(item))
        sums = 0.0
        for step, (level, code) in enumerate(zip(SIDS.levels, item, strict=True)):
            sums += float(log_p[step][level[level >= 0]].log_softmax(0)[(level[:code] >= 0).sum()])
        assert total == pytest.approx(sums, abs=1e-4)


def test_an_end_counts_where_it_is_scored_and_is_read_by_what_follows(tmp_path: Path) -> None:
    theirs = made("qwen2")
    sids = replace(SIDS, end=(EndToken(NEWLINE, scored=False), EndToken(EOS), EndToken(93, scored=False)))
    model = load_model(saved(theirs, tmp_path, sids))
    found, leaves = searched(model, PROMPTS[:1], 7)
    tokens = item_tokens(leaves[0][2], sids)
    log_p = expected(theirs, PROMPTS[0], tokens).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    assert float(found.scores[0, 2]) == pytest.approx(float(log_p[[0, 1, 2, 4]].sum()), abs=1e-4)
    steps = model.forced(batch_of(model, PROMPTS[:1]), torch.tensor([ITEMS[0]]))
    assert [step.values.shape[2] for step in steps] == [5, 4, 3, 1, 1, 1]


def test_the_tokenizer_beside_the_weights_says_which_tokens_are_codes(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.from_file(str(minionerec(tmp_path) / "tokenizer.json"))
    theirs = made("qwen2", vocab_size=tokenizer.get_vocab_size() + 3)
    model = load_model(saved(theirs, tmp_path, None))
    sids = model.config.sids
    item = [int(np.flatnonzero(level >= 0)[-1]) for level in sids.levels]
    text = "".join(f"<{letter}_{code}>" for letter, code in zip("abc", item, strict=True))
    tokens = [*tokenizer.encode(text, add_special_tokens=False).ids, *(end.id for end in sids.end)]
    assert tokens == item_tokens(item, sids)
    assert len(tokens) == 5
    log_p = expected(theirs, [1, 2, 3], tokens).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    found = score(model, batch_of(model, [[1, 2, 3]]), torch.tensor([item]))
    torch.testing.assert_close(found[0], log_p, atol=1e-4, rtol=0)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="tokenizer"):
        load_model(tmp_path)


def test_no_tokens_after_the_codes_are_no_steps(tmp_path: Path) -> None:
    model = load_model(saved(made("qwen3"), tmp_path, replace(SIDS, end=())))
    assert model.steps == (Choose(0), Choose(1), Choose(2))
    assert score(model, batch_of(model, PROMPTS), torch.tensor([ITEMS[0]] * 4)).shape == (4, 3)


def head_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("differs", [True, False])
def test_a_stored_head_of_a_tied_model_is_used_as_transformers_uses_it(differs: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = saved(made("qwen3", True), tmp_path)
    tensors = head_of(folder)
    head = tensors["model.embed_tokens.weight"].clone()
    tensors["lm_head.weight"] = head + torch.randn(head.shape) * 0.3 if differs else head
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    theirs, model = AutoModelForCausalLM.from_pretrained(folder), load_model(folder)
    assert (model.lm_head is not None) == differs  # memory for one where they are equal
    codes = ITEMS[7]
    log_p = expected(theirs, PROMPTS[0], item_tokens(codes))
    found = score(model, batch_of(model, PROMPTS[:1]), torch.tensor([codes]))
    torch.testing.assert_close(
        found[0], log_p.gather(1, torch.tensor(item_tokens(codes))[:, None])[:, 0], atol=1e-4, rtol=0
    )


def test_an_untied_config_without_a_head_is_refused(tmp_path: Path) -> None:
    folder = saved(made("qwen3", True), tmp_path)
    change_config(folder, tie_word_embeddings=False)
    with pytest.raises(MismatchError, match=r"lm_head.weight: got 'no such tensor'.*tie_word_embeddings: false"):
        load_model(folder)
    change_config(folder, tie_word_embeddings=...)  # absent is false in transformers
    with pytest.raises(MismatchError, match=r"or says nothing of it"):
        load_model(folder)


def test_names_on_disk_are_hugging_faces(tmp_path: Path) -> None:
    for kind, tied in KINDS:
        folder = saved(made(kind, tied), tmp_path / f"{kind}-{tied}")
        assert set(disk_tensors(load_model(folder))) == set(head_of(folder))


def test_shards_are_numbered_from_0_as_well(tmp_path: Path) -> None:
    folder = saved(made("qwen3", False), tmp_path, max_shard_size="40KB")
    index = (folder / "model.safetensors.index.json").read_text()
    for path in sorted(folder.glob("model-*.safetensors")):
        before, number, rest = path.name[:6], int(path.name[6:11]), path.name[11:]
        new = f"{before}{number - 1:05d}{rest}"
        path.rename(folder / f"new-{new}")
        index = index.replace(path.name, f"new-{new}")
    for path in folder.glob("new-*"):
        path.rename(folder / path.name.removeprefix("new-"))
    (folder / "model.safetensors.index.json").write_text(index.replace("new-", ""))
    assert (folder / f"model-00000{rest}").exists()
    first = folder / f"model-00000{rest}"
    load_model(folder)
    whole = first.read_bytes()
    first.write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"model-00000-of.*is truncated"):
        load_model(folder)
    first.unlink()
    with pytest.raises(InputError, match=r"model-00000-of.*missing"):
        load_model(folder)


def test_a_missing_tensor_and_nan_are_told_by_name(tmp_path: Path) -> None:
    folder = saved(made("qwen2"), tmp_path)
    tensors, name = head_of(folder), "model.layers.1.self_attn.k_proj.bias"
    tensors[name][3] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"{name}: got 'NaN or infinity'"):
        load_model(folder)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(MismatchError, match=f"missing {name}"):
        load_model(folder)


def test_weights_in_a_subfolder_are_named(tmp_path: Path) -> None:
    saved(made("qwen2"), tmp_path / "Industrial_ckpt")
    (tmp_path / "Amazon").mkdir()
    with pytest.raises(InputError, match="it lies in its folder Industrial_ckpt: give one of these"):
        load_model(tmp_path)


@pytest.mark.parametrize(("tokens", "said"), [([], "0 tokens"), ([3, ROWS], f"got {ROWS}"), ([-1], "got -1")])
def test_a_prompt_without_tokens_or_out_of_the_vocabulary_is_refused(
    tokens: list[int], said: str, tmp_path: Path
) -> None:
    model = load_model(saved(made("qwen2"), tmp_path))
    with pytest.raises(InputError, match=f"input_ids: .*{said}"):
        batch_of(model, [tokens])
    with pytest.raises(InputError, match="a prompt has 1 to 60 tokens here"):  # 64 positions, four of them the item's
        batch_of(model, [[1] * 61], 64)
    batch_of(model, [[1] * 60], 64)


def test_an_ordinary_language_model_is_none_of_the_family() -> None:
    assert known_family({"model_type": "qwen3"}) is None
    family = known_family({"model_type": "qwen3", "sid_tokens": {}})
    assert family is not None
    assert family.label == "Qwen3"


def test_what_a_gpu_takes_is_counted_without_weights(tmp_path: Path) -> None:
    """On meta tensors, so that nothing is read on the host."""
    checkpoint, shapes = Checkpoint(saved(made("qwen3", False), tmp_path)), Shapes(card_with((9, 0)))
    model = empty_model(maker(checkpoint, shapes), None, torch.bfloat16)
    inputs = {name: one.to("meta") for name, one in blank_inputs(model.inputs(30), 2).items()}
    codes, parents = (torch.zeros(2, width, dtype=torch.int64, device="meta") for width in (7, 7))
    state = model.prefill(inputs)
    for step in range(5):
        found = model.decode(step, codes if step else None, parents if step else None, state)
        assert found.values.shape == (2, 7 if step else 1, (5, 4, 3, 1, 1)[step])
    assert model.levels[0].head.shape == (5, 48)
    assert model.levels[0].head.dtype == torch.bfloat16


def test_heads_that_no_kernel_takes_are_refused_before_weights_are_read(tmp_path: Path) -> None:
    folder = saved(made("qwen2", False), tmp_path)  # of 12
    for file in folder.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-64] + b"\xff" * 64)  # NaN, which would be refused, were it read
    with pytest.raises(InputError, match="d_head: got 12; the attention kernels take 16, 32, 64, 128"):
        load_model(folder, fused)


def test_a_batchs_work_is_its_prompts_once_and_a_token_a_beam(tmp_path: Path) -> None:
    checkpoint = Checkpoint(saved(made("qwen3", False), tmp_path))
    model: Any = empty_model(maker(checkpoint, reference), None, torch.bfloat16)
    work = model.work(model.config, 2, 8, 100)
    assert work.rows("model.layers.0.mlp.up_proj.weight") == [200, 16, 16, 16, 16]
    assert work.rows("lm_head.weight") == [2, 16, 16, 16, 16]
    assert {each.part for each in work.traffic} == {"attention", "heads of levels", "beam step"}


def test_statistics_of_activations_leave_padding_out(tmp_path: Path) -> None:
    model = load_model(saved(made("qwen2"), tmp_path))
    stats = activation_stats(model, batch_of(model, PROMPTS), torch.tensor([ITEMS[0]] * 4))
    read = sum(map(len, PROMPTS)) + 4 * 4  # of the item's five tokens the last is not read
    layers = [each for each in stats if each.name.startswith("model.layers.")]
    assert [each.rows for each in layers] == [read] * 8
