"""The whole study of a Qwen3 on made-up shops: what it learns, its folder, its rows."""

import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import records
from benchmarks.records import Row
from benchmarks.rows.qwen import QwenAnswersRow, QwenParityRow, QwenTrainingRow, QwenVerdictRow
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions, read_interactions
from octorec.engine.request import Request
from octorec.models.prompts import Prompts
from octorec.models.sid_tokens import SidTokens
from studies.exact.subject import Targets
from studies.quality.outcomes import Outcomes
from studies.qwen import folder, learning, quality, render
from studies.qwen.batches import Histories, epoch, item_tokens, left_out
from studies.qwen.run import main
from studies.qwen.train import Learner, planned, train
from tests.studies.qwen.made_study import SIZES, STUDY, made_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("qwen-study")
    made_data(base)
    return base


@pytest.fixture(scope="module")
def sids() -> SidTokens:
    return folder.sids_of(folder.made_tokenizer(SIZES))


@pytest.fixture(scope="module")
def interactions(data: Path) -> Interactions:
    return Targets.of(read_interactions(data / "interactions.csv")).train


@pytest.fixture(scope="module")
def catalog(data: Path) -> Catalog:
    return Catalog.load(data / "catalog")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_study_leaves_every_kind_of_row(
    device: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "qwen.jsonl"
    options = [str(tmp_path / "model"), "--data", str(data), "--out", str(out), "--device", device, "--users", "60"]
    monkeypatch.setattr(sys, "argv", ["run", *options])
    main(STUDY)
    rows = records.read(out, *render.KINDS)
    assert {type(row) for row in rows} == set(render.KINDS)
    page = render.summary(out)
    assert page.count("OctoRec float32") == 3
    assert page.count("| fp8-block |") == page.count("| fp8 |") == 4  # three shops, and all of them
    assert "(inconclusive)" in page  # in brackets: so few targets decide nothing
    assert all(
        f"{row.recall_10:.4f} ({row.markov_recall_10:.4f}" in page for row in rows if isinstance(row, QwenAnswersRow)
    )
    (training,) = (row for row in rows if isinstance(row, QwenTrainingRow))
    assert training.losses[-1] < 0.6 * training.losses[0]
    answers = {(row.split, row.shop): row for row in rows if isinstance(row, QwenAnswersRow)}
    assert len(answers) == 6
    ours, chain = (np.mean([getattr(row, f"{of}recall_10") for row in answers.values()]) for of in ("", "markov_"))
    assert ours > 0.5 * chain  # ten of 60 items at random would be a fifth of it
    pairs = {(row.one, row.other): row for row in rows if isinstance(row, QwenParityRow)}
    assert len(pairs) == 6
    assert not torch.are_deterministic_algorithms_enabled()
    exact = pairs["OctoRec float32", "transformers float32"]
    assert exact.identical == exact.prompts == STUDY.parity_prompts
    assert max(exact.score_difference, exact.beam_difference) < exact.tolerance
    for (split, shop), row in answers.items():
        if split != "test":
            continue
        outcomes = Outcomes.load(tmp_path / f"outcomes-{shop}.parquet")
        assert outcomes.values("qwen")["recall@10"].mean() == pytest.approx(row.recall_10, abs=1e-6)
        assert outcomes.values("markov")["recall@10"].mean() == pytest.approx(row.markov_recall_10, abs=1e-6)
        assert outcomes.values("qwen")["nll"].mean() == pytest.approx(row.nll, abs=1e-4)
    check_verdicts(rows, tmp_path / "outcomes-quality.parquet")
    check_time(tmp_path / "model", data, device)


def check_verdicts(rows: Sequence[Row], outcomes: Path) -> None:
    """The proof's rows are those of its outcomes, judged as plan.md says."""
    found = {(row.recipe, row.scope): row for row in rows if isinstance(row, QwenVerdictRow)}
    shops = {row.shop for row in rows if isinstance(row, QwenAnswersRow)}
    assert found.keys() == {(quality.NOISE, "pooled"), *itertools.product(quality.RECIPES, (*shops, "pooled"))}
    noise = found.pop((quality.NOISE, "pooled"))
    assert (noise.targets, noise.enough) == (STUDY.quality_noise, False)
    assert noise.top10_overlap > 0.9
    kept = Outcomes.load(outcomes)
    assert len(kept.user_ids) == 2 * len(set(kept.user_ids))  # both held-out items
    for recipe in quality.RECIPES:
        row = found[recipe, "pooled"]
        differences, verdict = kept.judge("bf16", recipe, 0.01)
        assert (row.verdict, row.margin, row.targets) == (verdict.outcome, 0.01, len(kept.user_ids))
        assert row.relative_difference["recall@10"].value == pytest.approx(differences["recall@10"].value, abs=1e-9)
        assert row.bf16["recall@10"] == pytest.approx(kept.values("bf16")["recall@10"].mean(), abs=1e-6)
        assert 0.5 < row.top10_overlap < 1
        assert row.log_prob_difference.max > 1e-3  # FP8 shows
        assert not row.enough  # fewer than 40,000


def check_time(model: Path, data: Path, device: str) -> None:
    """Where time is short BF16 alone decides how many targets are asked, in the plan's order."""
    catalog, targets = Catalog.load(data / "catalog"), Targets.of(read_interactions(data / "interactions.csv"))
    proof = quality.Proof(model, catalog, STUDY, device, {}, data / "no.jsonl")
    examples = quality.in_order(targets)
    assert {example.target for example in examples[: len(targets.test)]} == {one.target for one in targets.test}
    engine = proof.engine(model)
    asked, answers = proof.baseline(engine, examples, end=time.perf_counter())
    assert asked.examples == examples[: STUDY.quality_chunk]
    assert answers.found.targets.tolist() == [example.target for example in asked.examples]
    requests = [Request(one.history, k=10, beam_width=16, exclude_seen=True) for one in asked.examples]
    for ours, theirs in zip(answers.found.ranked, engine.lists(requests), strict=True):
        assert [item for item in ours if item] == theirs
    scores = engine.score(requests, [example.target for example in asked.examples])
    assert answers.found.log_probs == pytest.approx(scores, abs=1e-4)


def test_the_same_seed_trains_the_same_weights(catalog: Catalog, sids: SidTokens, interactions: Interactions) -> None:
    twice = [train(planned(STUDY, 4), catalog, sids, interactions, "cpu").model for _ in range(2)]
    first, second = (dict(model.named_parameters()) for model in twice)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_model_without_smoothing_and_dropout_has_the_loss_of_transformers(
    catalog: Catalog, sids: SidTokens, interactions: Interactions
) -> None:
    model = folder.new_model(folder.made_tokenizer(SIZES), dict(STUDY.shape), 0).eval()
    histories, tokens = Histories.of(interactions, catalog), item_tokens(catalog, sids)
    batch = next(epoch(histories, tokens, 32, 6, 0.0, np.random.default_rng(0)))
    ids = torch.from_numpy(batch.tokens)
    labels = ids.clone()
    real = torch.zeros(ids.numel() // 4, dtype=torch.bool)
    real[torch.from_numpy(batch.items)] = True
    labels[~real.repeat_interleave(4).view_as(ids)] = -100  # places behind the last item
    labels[:, 0::4] = -100  # begin tokens
    expected = model(input_ids=ids, labels=labels).loss
    learning.use_stock_norms(model)
    levels = [torch.from_numpy(one) for one in sids.levels]
    found = learning.loss_of(model, ids, torch.from_numpy(batch.items), levels, 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_smoothing_wants_a_part_of_every_code_of_the_level(
    catalog: Catalog, sids: SidTokens, interactions: Interactions
) -> None:
    learner = Learner(STUDY, catalog, sids, interactions, "cpu")
    model, batch = learner.model.eval(), next(learner.batches())
    given = torch.from_numpy(batch.tokens), torch.from_numpy(batch.items), learner.levels
    hidden = model.model(input_ids=given[0]).last_hidden_state.unflatten(1, (-1, 4)).flatten(0, 1)[given[1]]
    targets = given[0].unflatten(1, (-1, 4)).flatten(0, 1)[given[1]]
    expected = []
    for level, ids in enumerate(learner.levels):
        log_p = model.lm_head(hidden[:, level]).log_softmax(-1)
        own = log_p.gather(1, targets[:, level + 1, None])[:, 0]
        expected.append(-(0.7 * own + 0.3 * log_p[:, ids].mean(1)).mean())
    found = learning.loss_of(model, *given, 0.3)
    torch.testing.assert_close(found, torch.stack(expected).mean(), rtol=1e-5, atol=1e-5)


def test_a_training_sequence_is_the_prompt_of_its_items(
    data: Path, catalog: Catalog, sids: SidTokens, interactions: Interactions, tmp_path: Path
) -> None:
    folder.write_tokenizer(tmp_path, folder.made_tokenizer(SIZES))
    history = next(iter(interactions.histories().values()))
    codes = catalog.codes[catalog.places(history)].astype(np.int64)
    trained = item_tokens(catalog, sids)[catalog.places(history)]
    prompt = Prompts(tmp_path).of_history(codes).ids
    assert prompt.tolist() == [*trained.ravel().tolist(), sids.begin[""]]
    assert Prompts(tmp_path).of_history(codes[:0]).ids.tolist() == [sids.begin[""]]
    assert json.loads((tmp_path / "octorec.json").read_text())["item"] == folder.ITEM


def test_an_epoch_holds_every_item_once(catalog: Catalog, sids: SidTokens, interactions: Interactions) -> None:
    histories, tokens = Histories.of(interactions, catalog), item_tokens(catalog, sids)
    found = []
    for batch in epoch(histories, tokens, 32, 100, 0.0, np.random.default_rng(1)):
        items = batch.tokens.reshape(-1, 4)
        assert len(items) <= 32
        assert (np.delete(items, batch.items, 0) == 0).all()
        found.append(items[batch.items])
    expected = tokens[histories.items]
    assert np.array_equal(np.sort(np.concatenate(found), 0), np.sort(expected, 0))


def test_left_out_items_leave_histories_in_order(catalog: Catalog, interactions: Interactions) -> None:
    histories = Histories.of(interactions, catalog)
    some = left_out(histories, 0.5, np.random.default_rng(0))
    assert 0.3 < len(some.items) / len(histories.items) < 0.8
    for user in range(len(histories.starts) - 1):
        whole = histories.items[slice(*histories.starts[user : user + 2])].tolist()
        kept = some.items[slice(*some.starts[user : user + 2])].tolist()
        rest = iter(whole)
        assert all(item in rest for item in kept)
        assert len(kept) >= min(2, len(whole))
