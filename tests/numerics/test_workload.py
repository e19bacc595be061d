"""The roofline against counts by hand, for each family."""

from typing import Any

import pytest
import torch

from octorec.errors import InputError
from octorec.models.onerec import OneRecV2, block_params
from octorec.models.onerec_config import OneRecConfig
from octorec.models.presets import PRESETS
from octorec.models.weights import disk_tensors
from octorec.numerics.advice import judge
from octorec.numerics.checkpoint_files import StoredTensor
from octorec.numerics.distribution import distribution
from octorec.numerics.intensity import GPUS, Roofline, Work, Workload, estimate, product, traffic
from octorec.numerics.roles import role
from octorec.numerics.scale_groups import ScaleStats
from octorec.numerics.stats import TensorStats, tensor_stats
from octorec.numerics.workload import active_shares, speed

H100 = GPUS["h100"]


def shaped(shapes: dict[str, tuple[int, ...]]) -> list[TensorStats]:
    """Tensors of these shapes whose numbers FP8 suits."""
    some = distribution(torch.randn(8))
    fine = {name: ScaleStats(31.5, 0, 0, 2.5, 2.9, 3.0) for name in ("channel", "block", "tensor", "unscaled")}
    return [
        TensorStats(n, role(n), s, "bfloat16", 0, some, fine if len(s) == 2 else {}, 0.0) for n, s in shapes.items()
    ]


def of(shapes: dict[str, tuple[int, ...]], config: dict[str, Any], workload: Workload) -> Roofline:
    weights = shaped(shapes)
    return speed(weights, config, judge(weights, (), active_shares(weights, config)), workload)


def onerec(config: OneRecConfig, workload: Workload) -> Roofline:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in disk_tensors(OneRecV2(config)).items()}
    return of(shapes, config.to_dict(), workload)


def part(found: Roofline, name: str) -> Any:
    return next(part for part in found.parts if part.name == name)


def test_a_product_by_hand() -> None:
    work = product("x", rows=100, n=30, k=20, fp8=True)
    assert work.flops == 2 * 100 * 30 * 20
    assert work.bytes_16 == 2 * (100 * 20 + 30 * 20 + 100 * 30)
    assert work.bytes_8 == (100 * 20 + 30 * 20) + 2 * 100 * 30
    assert product("x", 100, 30, 20, fp8=False).bytes_8 == work.bytes_16
    assert product("x", 100, 30, 20, False, weights=4, out_bytes=4).bytes_16 == 2 * (2000 + 4 * 600) + 4 * 3000


def test_the_longer_of_arithmetic_and_traffic_counts() -> None:
    works = [
        Work("arithmetic", 989e12, 1.0, 0.5, True),  # one second of it
        Work("memory", 1.0, 3.35e12, 3.35e12 / 2, True),  # one of traffic
        traffic("neither", 3.35e12 / 2),  # and one that FP8 does not change
    ]
    found = estimate(works, Workload())
    assert [p.seconds_16 for p in found.parts] == pytest.approx([1, 1, 1])
    assert [p.seconds_8 for p in found.parts] == pytest.approx([989 / 1979, 0.5, 1])
    assert [p.bound for p in found.parts] == ["compute", "memory", "memory"]
    assert found.memory_bound == pytest.approx(2 / 3)
    assert found.gain == pytest.approx(3 / (989 / 1979 + 0.5 + 1))
    assert found.gains["a100"] == 1  # no FP8 tensor cores
    assert part(found, "neither").intensity == 0
    assert "67% of the time in 16 bit waits for memory" in found.reason


def test_balance() -> None:
    assert pytest.approx(295.2, abs=0.1) == H100.balance
    for gpu in GPUS.values():
        assert gpu.fp8 is None or 1.9 < gpu.fp8 / gpu.bf16 < 2.1


@pytest.mark.parametrize("name", ["moe-4b-a0.5b", "1b"])
def test_onerec_counts_the_papers_flops(name: str) -> None:
    config, workload = PRESETS[name], Workload(32, 512, 512)
    found = onerec(config, workload)
    rows = 32 * (1 + 2 * 512)
    linear = sum(part(found, p).flops for p in ("attention projections", "FFN", "experts") if p in _names(found))
    assert linear == pytest.approx(2 * rows * block_params(config)[1], rel=1e-9)
    assert part(found, "heads").flops == 2 * rows * config.d_model * 8192
    assert part(found, "cross-attention products").flops == 4 * rows * 512 * config.d_model * config.n_layer
    assert part(found, "beam step").bytes_16 == 4 * rows * 8192
    assert part(found, "context projection").flops == 2 * 32 * 512 * 4 * config.embed_dim * config.d_context
    if name.startswith("moe"):
        assert sum(p.flops for p in found.parts) == pytest.approx(34.93e12, rel=1e-3)  # a batch
        assert 1.5 < found.gain < 1.7
        assert found.memory_bound < 0.4


def _names(found: Roofline) -> list[str]:
    return [part.name for part in found.parts]


def test_a_small_batch_waits_for_its_experts() -> None:
    config = PRESETS["moe-4b-a0.5b"]
    small, large = onerec(config, Workload(1, 8, 512)), onerec(config, Workload(32, 512, 512))
    assert small.memory_bound > 0.9 > large.memory_bound
    untouched = 53 * (1 - 3 / 53)  # one row reaches three of 53 experts
    per_expert = 3 * 1408 * 1408 * 2
    first = 12 * (53 - untouched + 1) * per_expert
    eight = 12 * (53 * (1 - (1 - 3 / 53) ** 8) + 1) * per_expert
    assert part(small, "experts").bytes_16 == pytest.approx(first + 2 * eight, rel=0.01)  # activations are few


def test_a_decoder() -> None:
    shapes = {"model.embed_tokens.weight": (1000, 64), "lm_head.weight": (1000, 64), "model.norm.weight": (64,)}
    for layer in range(2):
        base = f"model.layers.{layer}"
        shapes |= {f"{base}.self_attn.{p}_proj.weight": s for p, s in
                   {"q": (128, 64), "k": (32, 64), "v": (32, 64), "o": (64, 128)}.items()}  # fmt: skip
        shapes |= {f"{base}.mlp.{p}_proj.weight": s for p, s in
                   {"gate": (256, 64), "up": (256, 64), "down": (64, 256)}.items()}  # fmt: skip
        shapes |= {f"{base}.input_layernorm.weight": (64,)}
    found = of(shapes, {"model_type": "qwen3"}, Workload(4, 8, 100))
    rows = 4 * 100 + 2 * 4 * 8
    assert part(found, "FFN").flops == 2 * 2 * rows * 3 * 256 * 64
    assert part(found, "attention projections").flops == 2 * 2 * rows * 64 * (128 + 32 + 32 + 128)
    assert part(found, "heads").flops == 2 * (4 + 2 * 32) * 1000 * 64
    prompt = 2 * 400 * 100 * 128  # causal: half of 4 * S^2 * width
    beams = sum(4 * 32 * (100 + level) * 128 for level in (1, 2))
    assert part(found, "attention products").flops == 2 * (prompt + beams)
    assert any("3 codes an item" in note for note in found.notes)
    tied = of({name: shape for name, shape in shapes.items() if "lm_head" not in name}, {}, Workload(4, 8, 100))
    assert (part(tied, "heads"), part(tied, "beam step")) == (part(found, "heads"), part(found, "beam step"))
    moe = {name.replace("mlp", "mlp.experts.0"): shape for name, shape in shapes.items()}
    moe |= {name.replace("mlp", "mlp.experts.1"): shape for name, shape in shapes.items() if "mlp" in name}
    sparse = of(moe, {"num_experts": 2, "num_experts_per_tok": 1}, Workload(4, 8, 100))
    assert part(sparse, "experts").flops == part(found, "FFN").flops


def test_fused_experts_are_the_same_work() -> None:
    config = {"num_experts": 4, "num_experts_per_tok": 2}
    base = "model.layers.0.mlp.experts"
    attention = {"model.layers.0.self_attn.q_proj.weight": (64, 64)}
    apart = {f"{base}.{e}.{p}_proj.weight": s for e in range(4) for p, s in
             {"gate": (48, 64), "up": (48, 64), "down": (64, 48)}.items()}  # fmt: skip
    fused = {f"{base}.gate_up_proj": (4, 96, 64), f"{base}.down_proj": (4, 64, 48)}
    a, b = (part(of(attention | shapes, config, Workload(2, 4, 8)), "experts") for shapes in (apart, fused))
    assert (a.flops, a.bytes_16) == (b.flops, b.bytes_16)
    assert a.flops == 2 * (16 + 2 * 8) * 2 * 3 * 48 * 64


def test_a_ranker_waits_for_memory() -> None:
    """Narrow products and lookups: the paper's second half."""
    shapes = {f"embed.{name}.weight": (100_000, 32) for name in ("user", "item", "genre")}
    shapes |= {f"cross.{i}.proj.weight": (224, 224) for i in range(3)}
    shapes |= {"top_mlp.0.proj.weight": (256, 224), "top_mlp.2.proj.weight": (128, 256),
               "top_mlp.4.proj.weight": (1, 128), "attention.mlp.0.proj.weight": (64, 128)}  # fmt: skip
    found = of(shapes, {"model_type": "ranker", "history": 20, "embed_dim": 32}, Workload(32, 512, 512))
    rows = 32 * 512
    assert part(found, "MLP").flops == 2 * rows * (256 * 224 + 128 * 256 + 128)
    assert part(found, "cross layers").flops == 2 * rows * 3 * 224 * 224
    assert part(found, "attention projections").flops == 2 * rows * 20 * 64 * 128  # each clicked item
    assert part(found, "embedding lookups").bytes_16 == 2 * 2 * rows * (3 * 32 + 20 * 32)
    assert found.memory_bound == 1
    assert all(p.intensity < H100.balance for p in found.parts)
    assert found.gain < 1.6


@pytest.mark.parametrize("history", ["yes", [20], {}, float("inf"), -1, True])
def test_a_config_that_counts_no_clicked_items_is_one_without_them(history: object) -> None:
    shapes = {"embed.item.weight": (100, 32), "top_mlp.0.proj.weight": (256, 224)}
    found = of(shapes, {"model_type": "ranker", "history": history, "embed_dim": [32, 64]}, Workload(32, 512, 512))
    assert found == of(shapes, {"model_type": "ranker"}, Workload(32, 512, 512))


def test_an_unknown_model_is_taken_matrix_by_matrix() -> None:
    found = of({"a.weight": (64, 32), "bias": (64,)}, {}, Workload(2, 3, 1))
    assert _names(found) == ["other matrices"]
    assert found.parts[0].flops == 2 * 6 * 64 * 32
    empty = of({"bias": (64,)}, {}, Workload())
    assert (empty.parts, empty.gain, empty.memory_bound) == ((), 1.0, 0.0)


def test_what_stays_in_16_bit_gains_nothing() -> None:
    x = torch.randn(64, 320)
    x[:, ::5] *= 2.0**16
    weights = [tensor_stats(StoredTensor("a.weight", x))]
    found = speed(weights, {}, judge(weights), Workload())
    assert found.gain == 1
    assert not found.parts[0].fp8


@pytest.mark.parametrize(
    ("change", "said"),
    [({"batch": 0}, "batch: got 0"), ({"beam": -1}, "beam: got -1"), ({"context": 0}, "context"),
     ({"gpu": "b200"}, "allowed: h100, h200, a100, l40s, 4090")],
)  # fmt: skip
def test_workloads_that_are_none(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Workload(**change)
