"""Statistics against numpy, on values that make sloppy formulas fail."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from safetensors.torch import save_file

from octorec.kernels.fp8 import dequantize, quantize
from octorec.models.hf_folder import Checkpoint
from octorec.numerics import distribution as module
from octorec.numerics.distribution import distribution
from octorec.numerics.stats import weight_stats
from octorec.quant.convert import quantize_checkpoint


def values(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5000, generator=generator)
    return {
        "normal": x,
        "far from zero": 1e4 + x,  # the mean of squares minus the square of the mean loses everything here
        "heavy": x.abs() ** -1.5 * x.sign(),
        "many zeros": torch.where(x > 0, x, 0.0),
        "one": x[:1],
        "equal": torch.full((3000,), 0.75),
        "tiny": x * 1e-30,
    }[kind]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["normal", "far from zero", "heavy", "many zeros", "one", "equal", "tiny"])
def test_agrees_with_numpy(monkeypatch: pytest.MonkeyPatch, kind: str, dtype: torch.dtype) -> None:
    monkeypatch.setattr(module, "VALUES_AT_ONCE", 700)
    x = values(kind).to(dtype)
    x = x[x.isfinite()]
    found, wanted = distribution(x.view(-1, 1)), x.double().numpy()
    assert found.count == len(wanted)
    assert (found.nan, found.inf) == (0, 0)
    assert found.absmax == np.abs(wanted).max()
    mean, variance = scipy.ndimage.mean(wanted), scipy.ndimage.variance(wanted)
    exact = dtype != torch.float32  # by counting; float32 is added up chunk by chunk
    assert found.mean == pytest.approx(mean, rel=1e-12 if exact else 1e-5, abs=1e-6 * found.absmax)
    assert found.variance == pytest.approx(variance, rel=1e-11 if exact else 2e-5, abs=1e-30)
    assert found.mean_abs == pytest.approx(np.abs(wanted).mean(), rel=1e-6)
    assert found.zero_share == (wanted == 0).mean()
    assert found.p999 == np.quantile(np.abs(wanted), 0.999, method="inverted_cdf")
    some = np.abs(wanted[wanted != 0])
    assert found.median == (np.quantile(some, 0.5, method="inverted_cdf") if len(some) else 0)
    exponents = np.frexp(np.abs(wanted[np.abs(wanted) >= 2**-126]))[1] - 1 + 127
    counts = np.bincount(exponents, minlength=256)
    counts[0] += (np.abs(wanted) < 2**-126).sum()
    assert list(found.octaves) == list(counts)


def test_what_is_not_finite_is_counted_and_the_rest_measured() -> None:
    x = torch.tensor([math.nan, 1.0, math.inf, -3.0, -math.inf, math.nan, 0.0, math.nan])
    found = distribution(x)
    assert (found.nan, found.inf, found.count) == (3, 2, 3)
    assert found.absmax == 3
    assert found.mean == pytest.approx(-2 / 3)
    assert found.variance == pytest.approx(np.var([1, -3, 0]))
    assert found.zero_share == pytest.approx(1 / 3)
    assert sum(found.octaves) == 3


def test_nothing_finite() -> None:
    found = distribution(torch.full((4,), math.nan))
    assert (found.count, found.nan, found.absmax, found.p999, found.variance) == (0, 4, 0, 0, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    hurt = torch.randn(40, 50, generator=generator)
    hurt[3, 4], hurt[5, 6] = math.nan, math.inf
    tensors = {
        "blocks.0.ffn.up_proj.weight": torch.randn(200, 300, generator=generator).bfloat16(),
        "blocks.0.ffn_norm.weight": torch.ones(300),
        "hurt.weight": hurt,
        "ids": torch.arange(5),
        "empty.weight": torch.empty(0, 4),
        "deep": torch.randn(2, 3, 4, generator=generator).half(),
        "zeros.weight": torch.zeros(8, 8),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "another"}')
    return tmp_path


def test_every_tensor_of_any_folder(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    found = {stats.name: stats for stats in weight_stats(folder, lambda done, total: calls.append((done, total)))}
    assert len(found) == len(calls) == 7
    assert calls[-1][0] == calls[-1][1]
    matrix = found["blocks.0.ffn.up_proj.weight"]
    assert (matrix.role, matrix.shape, matrix.dtype) == ("ffn", (200, 300), "bfloat16")
    weight = Checkpoint(folder).load(matrix.name)
    for granularity in ("channel", "block", "tensor"):
        sqnr = matrix.sqnr[granularity]
        error = dequantize(quantize(weight, granularity)) - weight.float()
        assert sqnr == pytest.approx(
            10 * math.log10(float(weight.float().square().sum() / error.square().sum())), abs=1e-3
        )
    assert list(matrix.sqnr) == ["channel", "block", "tensor", "unscaled"]

    hurt = found["hurt.weight"]
    assert hurt.distribution is not None
    assert (hurt.distribution.nan, hurt.distribution.inf, hurt.distribution.count) == (1, 1, 1998)
    assert all(25 < sqnr < 40 for sqnr in hurt.sqnr.values())
    for name, dtype in (("ids", "int64"), ("empty.weight", "float32")):
        assert (found[name].distribution, found[name].sqnr, found[name].dtype) == (None, {}, dtype)
        assert found[name].row()["absmax"] is None
    assert found["deep"].distribution is not None
    assert found["deep"].sqnr == {}
    assert found["zeros.weight"].sqnr["block"] == math.inf
    assert found["zeros.weight"].row()["sqnr_block"] is None
    assert {frozenset(stats.row()) for stats in found.values()} == {frozenset(matrix.row())}


def test_an_fp8_checkpoint_through_its_scales(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("demo")
    quantize_checkpoint(source, tmp_path / "fp8", "fp8")
    before = {stats.name: stats for stats in weight_stats(source)}
    after = {stats.name: stats for stats in weight_stats(tmp_path / "fp8")}
    assert after.keys() == before.keys()
    experts = [name for name in after if "experts" in name]
    assert experts
    for name in experts:
        was, now = before[name].distribution, after[name].distribution
        assert was is not None
        assert now is not None
        assert after[name].dtype == "float8_e4m3fn"
        assert now.absmax == pytest.approx(was.absmax, rel=1e-6)  # a scale is absmax / 448
        assert now.variance == pytest.approx(was.variance, rel=0.01)
        assert after[name].sqnr["block"] > 100  # rounded already
