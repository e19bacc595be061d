"""Batches of a Qwen of tiny dimensions are measured through the public engine, and become rows beside their goals."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from made_rows import made

from benchmarks import qwen_speed, records
from benchmarks.qwen_goals import BF16, FP8, GOALS, goal_lines
from benchmarks.qwen_model import RECIF, config_of, flop, lengths_of, random_prompts, requests_of
from benchmarks.rows.qwen_speed import QwenSpeedFailure, QwenSpeedRow, QwenWanted
from benchmarks.timer import of_samples

TINY = QwenWanted("octorec", "tiny", "bf16", 2, 8, 24)


def test_every_batch_that_a_goal_is_set_for_is_measured_once() -> None:
    found = qwen_speed.rows()
    assert set(GOALS) <= {*found}
    assert len({row.name for row in found}) == len(found) > 40
    assert {(row.batch, row.context) for row in found if row.beam == 256} >= {(1, 1000), (8, 5000), (4, 1000)}


def test_prompts_end_with_one_begin_token_and_share_no_beginning() -> None:
    config = config_of("tiny")
    begin = config.sids.begin[""]
    prompts = random_prompts(config, [30, 40, 30])
    assert [len(prompt) for prompt in prompts] == [30, 40, 30]
    assert all((prompt == begin).nonzero()[0].tolist() == [len(prompt) - 1] for prompt in prompts)
    assert (prompts[0][:8] != prompts[2][:8]).any()
    one, other = (requests_of(TINY, config, seed)[0].input_ids for seed in (0, 1))
    assert one != other


def test_lengths_like_recif_have_its_mean() -> None:
    row = QwenWanted("octorec", "1.7b", "fp8", 8, 256, 2411, lengths="recif")
    assert sum(RECIF) / len(RECIF) == 2411
    assert sum(lengths_of(row)) == 8 * 2411
    assert lengths_of(replace(row, lengths="equal", batch=2)) == [2411, 2411]


def test_flop_of_a_batch_by_hand() -> None:
    """q, k, v, o, gate, up and down, the vocabulary, and attention: over 24 tokens, then 2 steps of 8 beams."""
    config = config_of("tiny")
    layer = 256 * (256 + 2 * 128) + 256 * 256 + 3 * 256 * 128
    keys = 24 * 25 / 2 + 8 * (24 + 1) + 8 * (24 + 2)
    expected = 2 * (2.0 * layer * (24 + 16) + 4.0 * 256 * keys) + 2.0 * 512 * 256 * (1 + 16)
    assert flop(config, TINY) == 2 * expected
    kept = 2 * (2.0 * layer * 16 + 4.0 * 256 * 16 * 17 / 2)  # of 16 tokens
    assert flop(config, TINY, 16) == 2 * (expected - kept)


@pytest.mark.parametrize("precision", ["bf16", "fp8", "fp8-block"])
def test_a_batch_is_measured_through_the_engine(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qwen_speed, "HOST_RUNS", 2)
    wanted = replace(TINY, precision=precision)
    out = tmp_path / "rows.jsonl"
    (row,) = qwen_speed.recorded_rows([wanted], 1, out, {"octorec": partial(qwen_speed.measure_octorec, device="cpu")})
    assert isinstance(row, QwenSpeedRow), row
    assert (row.n_items, row.precision, row.batch) == (600, precision, 2)
    assert row.p50_ms is not None
    assert row.ms_per_batch > 0
    assert row.requests_per_s == pytest.approx(2000 / row.ms_per_batch, rel=1e-2)
    assert records.read(out, QwenSpeedRow, QwenSpeedFailure) == [row]
    assert "TINY" in qwen_speed.line(row)


@pytest.mark.parametrize("prefix", ["miss", "hit"])
def test_the_beginnings_of_prompts_are_met_or_not(prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qwen_speed, "HOST_RUNS", 2)
    monkeypatch.setattr(qwen_speed, "CACHE_BYTES", 2**20)
    wanted = replace(TINY, context=200, batch=1, prefix=prefix)
    measure = partial(qwen_speed.measure_octorec, device="cpu")
    (row,) = qwen_speed.recorded_rows([wanted], 1, tmp_path / "rows", {"octorec": measure})
    assert isinstance(row, QwenSpeedRow), row
    assert row.cached_tokens == {"miss": 0, "hit": 192}[prefix]  # whole blocks of 64


def test_a_batch_that_fails_is_a_row_with_its_error(tmp_path: Path) -> None:
    wanted = replace(TINY, context=1_000_000)  # more than the model has positions
    (row,) = qwen_speed.recorded_rows(
        [wanted], 1, tmp_path / "rows", {"octorec": partial(qwen_speed.measure_octorec, device="cpu")}
    )
    assert isinstance(row, QwenSpeedFailure)
    assert row.error.startswith("InputError")
    assert "InputError" in qwen_speed.line(row)
    assert qwen_speed.profile(row) == ""


def test_goals_stand_beside_what_was_reached() -> None:
    def of(wanted: QwenWanted, ms: float) -> QwenSpeedRow:
        return made(QwenSpeedRow, **vars(wanted), ms_per_batch=ms)

    found = [of(FP8, 50.0), of(BF16, 80.0), of(replace(FP8, batch=2), 1.0), of(replace(FP8, beam=64), 45.0)]
    lines = goal_lines(found)
    assert [line[1] for line in lines] == ["50.0", "80.0 (missed)", "45.0 (missed)", "1.60x"]
    assert [line[4] for line in lines] == [52, 74, 42, "1.35x"]
    assert len(qwen_speed.goals_table(found).splitlines()) == 5


@pytest.mark.slow
def test_a_request_takes_what_the_models_size_says() -> None:
    """1.4 billion parameters of the layers and 0.36 of the vocabulary, for 1,000 tokens and 2 x 256 beams."""
    row = qwen_speed.speed_row(FP8, qwen_speed.Measured(of_samples([50.0])), "now")
    assert 4.2e12 < flop(config_of("1.7b"), replace(FP8, batch=1)) < 5e12
    assert row.mfu == pytest.approx(flop(config_of("1.7b"), FP8) / 50e-3 / 1979e12, abs=1e-3)


def test_the_time_of_a_call_on_the_cpu_is_the_hosts() -> None:
    from benchmarks.timer import time_on

    calls: list[torch.Tensor] = []
    timing = time_on("cpu", lambda: calls.append(torch.zeros(1)), runs=4, warmup=2)
    assert (len(calls), timing.runs) == (6, 4)
    assert timing.median > 0
