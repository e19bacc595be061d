"""Which tensor on disk is which view in memory, also where the parts of a product differ in their rows."""

import pytest
import torch
from torch import nn

from octorec.kernels import reference
from octorec.models.layers import Experts, Linear
from octorec.models.names import disk_tensors, views
from octorec.quant.modules import FP8Experts, FP8Linear

QKV = (("q_proj", 512), ("k_proj", 256), ("v_proj", 256))  # a head of keys for two of queries


class Attention(nn.Module):
    def __init__(self, product: nn.Module):
        super().__init__()
        self.attn = nn.ModuleDict({"qkv_proj": product})


def test_unequal_parts_are_views_of_one_product() -> None:
    product = Linear(64, 1024, reference, QKV)
    nn.init.normal_(product.weight)
    found = views(Attention(product))
    assert {name: tuple(view.tensor.shape) for name, view in found.items()} == {
        f"attn.{part}.weight": (rows, 64) for part, rows in QKV
    }
    assert {view.module for view in found.values()} == {"attn.qkv_proj"}
    torch.testing.assert_close(torch.cat([view.tensor for view in found.values()]), product.weight.detach())
    found["attn.k_proj.weight"].tensor.zero_()
    assert not product.weight[512:768].any()
    assert product.weight[:512].all()


@pytest.mark.parametrize(("weights", "rows"), [("channel", [512, 256, 256]), ("block", [4, 2, 2])])
def test_scales_go_with_their_part(weights: str, rows: list[int]) -> None:
    product = FP8Linear(64, 1024, weights, "token", torch.float32, reference, QKV)  # type: ignore[arg-type]
    found = disk_tensors(Attention(product))
    assert [len(found[f"attn.{part}.weight_scale"]) for part, _ in QKV] == rows
    assert sum(rows) == len(product.weight_scale)


def test_parts_must_be_the_whole_product() -> None:
    with pytest.raises(AssertionError):
        Linear(64, 1000, reference, QKV)


@pytest.mark.parametrize("fp8", [False, True])
def test_experts_are_routed_ones_then_shared_ones(fp8: bool) -> None:
    block = nn.Module()
    if fp8:
        block.experts = FP8Experts(4, 128, 256, "block", "group", torch.float32, reference, routed=3)
    else:
        block.experts = Experts(4, 128, 256, reference, n_shared=1)
    names = set(disk_tensors(block))
    products = {f"{where}.{part}" for where in (*(f"experts.{at}" for at in range(3)), "shared_experts.0")
                for part in ("gate_proj.weight", "up_proj.weight", "down_proj.weight")}  # fmt: skip
    assert names == products | ({f"{name}_scale" for name in products} if fp8 else set())
