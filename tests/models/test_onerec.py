"""OneRec-V2 against an independent reading of the paper, and its two ways of running against each other."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from octorec.errors import InputError
from octorec.models.onerec import OneRecV2, block_params, initialize
from octorec.models.onerec_context import ContextBatch
from octorec.models.presets import PRESETS, preset
from octorec.models.user import UserField

FIELDS = (UserField("age", "number", mean=30.0, std=10.0), UserField("gender", "category", ("F", "M")))
VARIANTS = {
    "moe": {},
    "dense": {"n_dense": None, "n_expert": 0, "n_shared": 0, "top_k": 0},
    "values of their own": {"s_kv": 2},
    "three kv layers": {"l_kv": 3, "s_kv": 2},
    "one kv group": {"g_kv": 1},
    "two levels": {"codebook_sizes": (7, 5)},
    "five levels": {"codebook_sizes": (7, 5, 6, 3, 4)},
    "user fields": {"user_fields": FIELDS},
    "no shared expert": {"n_shared": 0},
}


def make(variant: str) -> OneRecV2:
    model = OneRecV2(preset("tiny", **VARIANTS[variant]))
    initialize(model, seed=1)
    with torch.no_grad():  # larger than at initialisation, so that every part matters
        for name, parameter in model.named_parameters():
            parameter.mul_(torch.rand(parameter.shape) + 0.5 if "norm" in name else 8)
        for name, buffer in model.named_buffers():
            assert name.endswith("router.bias")
            buffer.copy_(torch.randn(buffer.shape) / 4)
    return model.double()


def make_batch(model: OneRecV2, size: int = 3) -> tuple[ContextBatch, torch.Tensor]:
    config = model.config
    codes = [
        torch.stack([torch.randint(0, v, shape) for v in config.codebook_sizes], -1) for shape in [(size, 12), (size,)]
    ]
    user = torch.tensor([[0.3, 1.0], [-1.0, 2.0], [0.0, 0.0]]) if config.user_fields else torch.zeros(size, 0)
    lengths = torch.tensor([4, 1, 12])
    return ContextBatch(lengths, codes[0], user), codes[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_levels_agree_with_all_positions_at_once(variant: str) -> None:
    model = make(variant)
    batch, codes = make_batch(model)
    expected = model(batch, codes)
    kv = model.encode_context(batch)
    parents = torch.zeros(3, 1, dtype=torch.long)
    for level, want in enumerate(expected):
        before = (None, None) if level == 0 else (codes[:, level - 1 : level], parents)
        torch.testing.assert_close(model.decode_level(level, *before, kv)[:, 0], want)


@pytest.mark.parametrize("variant", VARIANTS)
def test_agrees_with_the_paper_written_as_loops(variant: str) -> None:
    model = make(variant)
    batch, codes = make_batch(model)
    logits = model(batch, codes)
    for row in range(3):
        for level, want in enumerate(paper(model, batch, codes, row)):
            torch.testing.assert_close(logits[level][row].double(), want, rtol=1e-4, atol=1e-4)


def paper(model: OneRecV2, batch: ContextBatch, codes: torch.Tensor, row: int) -> list[torch.Tensor]:
    """Section 3 of the OneRec-V2 report for one request, one vector at a time, from the parameters alone."""
    c, p = model.config, dict(model.named_parameters()) | dict(model.named_buffers())
    length = int(batch.lengths[row])
    d, groups = c.d_head, c.groups

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.pow(2).mean() + c.rms_eps).sqrt() * p[name + ".weight"]

    context = []
    for i in range(length):
        parts = [p[f"context.code_embed.{n}.weight"][batch.codes[row, i, n]] for n in range(len(c.codebook_sizes))]
        age = length - 1 - i  # max_context 12, 8 buckets: 0..3 exact, then logarithmic up to 12
        bucket = age if age < 4 else min(7, int(4 + torch.tensor(age / 4).log() / torch.tensor(3.0).log() * 4))
        parts.append(p["context.recency_embed.weight"][bucket])
        if c.user_fields:
            age_table, gender = (p[f"context.field_embed.field_{name}.weight"] for name in ("age", "gender"))
            parts += [age_table[0] + batch.user[row, 0] * age_table[1], gender[int(batch.user[row, 1])]]
        context.append(p["context.proj.weight"] @ torch.cat(parts))
    width = groups * d

    def key(item: torch.Tensor, layer: int) -> torch.Tensor:
        start = layer * c.s_kv * width
        return norm(item[start : start + width], f"key_norm.{layer}")

    def value(item: torch.Tensor, layer: int) -> torch.Tensor:
        start = (layer * c.s_kv + 1) * width
        return key(item, layer) if c.s_kv == 1 else norm(item[start : start + width], f"value_norm.{layer}")

    def attend(q: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor]) -> torch.Tensor:
        weights = torch.stack([q @ k for k in keys]).div(d**0.5).softmax(0)
        return sum(w * v for w, v in zip(weights, values, strict=True))

    def swiglu(x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        gate, up = (gate_up @ x).chunk(2)
        return down @ (F.silu(gate) * up)

    def moe(x: torch.Tensor, prefix: str) -> torch.Tensor:
        score = (p[prefix + "router.weight"] @ x).sigmoid()
        chosen = (score + p[prefix + "router.bias"]).topk(c.top_k).indices
        gate_up, down = p[prefix + "experts.gate_up_proj"], p[prefix + "experts.down_proj"]
        out = sum(score[e] / score[chosen].sum() * swiglu(x, gate_up[e], down[e]) for e in chosen)
        for e in range(c.n_expert, c.n_expert + c.n_shared):
            out = out + swiglu(x, gate_up[e], down[e])
        return out

    states = [p["bos"] + p["position"][0]]
    for n in range(len(c.codebook_sizes) - 1):
        states.append(p[f"code_embed.{n}.weight"][codes[row, n]] + p["position"][n + 1])
    for index in range(c.n_layer):
        b, layer = f"blocks.{index}.", index * c.l_kv // c.n_layer
        for t, h in enumerate(states):
            q = p[b + "cross_attn.q_proj.weight"] @ norm(h, b + "cross_norm")
            heads = []
            for head in range(c.n_head):
                g = head * groups // c.n_head
                part = slice(g * d, (g + 1) * d)
                keys, values = ([f(i, layer)[part] for i in context] for f in (key, value))
                heads.append(attend(q[head * d : (head + 1) * d], keys, values))
            states[t] = h + p[b + "cross_attn.o_proj.weight"] @ torch.cat(heads)
        qkv = [p[b + "self_attn.qkv_proj.weight"] @ norm(h, b + "self_norm") for h in states]
        for t in range(len(states)):
            heads = []
            for head in range(c.n_head):
                q, k, v = (slice(n * c.d_model + head * d, n * c.d_model + (head + 1) * d) for n in range(3))
                heads.append(attend(qkv[t][q], [x[k] for x in qkv[: t + 1]], [x[v] for x in qkv[: t + 1]]))
            states[t] = states[t] + p[b + "self_attn.o_proj.weight"] @ torch.cat(heads)
        for t, h in enumerate(states):
            x = norm(h, b + "ffn_norm")
            if index < c.dense_blocks:
                ffn = swiglu(x, p[b + "ffn.gate_up_proj.weight"], p[b + "ffn.down_proj.weight"])
            else:
                ffn = moe(x, b + "ffn.")
            states[t] = h + ffn
    return [p[f"head.{t}.weight"] @ norm(h, f"head_norm.{t}") for t, h in enumerate(states)]


def test_beams_follow_their_parents() -> None:
    """Rows of a level computed as beams equal each path computed alone."""
    model = make("moe")
    batch, _ = make_batch(model)
    first = torch.tensor([[0, 1, 2]] * 3)
    parents = torch.tensor([[0, 0, 2], [2, 1, 0], [1, 1, 1]])
    second = torch.tensor([[3, 1, 0], [0, 0, 4], [2, 4, 1]])
    kv = model.encode_context(batch)
    model.decode_level(0, None, None, kv)
    model.decode_level(1, first, torch.zeros(3, 3, dtype=torch.long), kv)
    logits = model.decode_level(2, second, parents, kv)
    for beam in range(3):
        path = torch.stack([first.gather(1, parents)[:, beam], second[:, beam], torch.zeros(3, dtype=torch.long)], 1)
        torch.testing.assert_close(logits[:, beam], model(batch, path)[2])


def test_no_level_keeps_what_no_later_level_reads() -> None:
    model = make("moe")
    batch, codes = make_batch(model)
    kv = model.encode_context(batch)
    kept = []
    for level in range(3):
        before = (None, None) if level == 0 else (codes[:, level - 1 : level], torch.zeros(3, 1, dtype=torch.long))
        model.decode_level(level, *before, kv)
        kept.append([len(past) for past in kv.past])
    assert kept == [[1] * 3, [2] * 3, [2] * 3]


def test_context_from_a_module_of_ones_own() -> None:
    model = make("three kv layers")
    batch, codes = make_batch(model)
    context = model.context(batch)
    other = dataclasses.replace(batch, context=context, codes=torch.zeros_like(batch.codes))
    torch.testing.assert_close(model(other, codes), model(batch, codes))
    with pytest.raises(InputError, match=r"context.*the last dimension must be 192"):
        model(dataclasses.replace(batch, context=context[..., :-1]), codes)


def test_what_lies_beyond_the_length_is_ignored() -> None:
    model = make("moe")
    batch, codes = make_batch(model)
    noise = batch.codes.clone()
    noise[0, 4:], noise[1, 1:] = 0, 1
    torch.testing.assert_close(
        model(dataclasses.replace(batch, codes=noise), codes), model(batch, codes), rtol=0, atol=0
    )


def test_an_empty_history_reads_the_user_alone() -> None:
    model = make("user fields")
    batch, codes = make_batch(model)
    empty = dataclasses.replace(batch, codes=torch.full_like(batch.codes, -1), lengths=torch.ones_like(batch.lengths))
    logits = model(empty, codes[:1].expand(3, -1))[0]
    assert not torch.allclose(logits[0], logits[1])
    zeroed = make("user fields")
    with torch.no_grad():
        for embed in zeroed.context.code_embed:
            embed.weight.zero_()
    torch.testing.assert_close(zeroed(empty, codes), zeroed(dataclasses.replace(empty, codes=batch.codes), codes))


PUBLISHED = {"0.1b": 0.0885, "0.2b": 0.1734, "0.5b": 0.4996, "1b": 1.040, "2b": 2.102, "4b": 4.056, "8b": 7.861}


@pytest.mark.parametrize("name", [*PUBLISHED, "moe-4b-a0.5b"])
def test_published_sizes(name: str) -> None:
    total, active = block_params(PRESETS[name])
    want_total, want_active = (4.068, 0.4996) if "moe" in name else (PUBLISHED[name], PUBLISHED[name])
    assert total / 1e9 == pytest.approx(want_total, rel=1e-3)
    assert active / 1e9 == pytest.approx(want_active, rel=1e-3)
    with torch.device("meta"):
        model = OneRecV2(PRESETS[name])
    matrices = sum(p.numel() for n, p in model.blocks.named_parameters() if "proj" in n)
    assert matrices == total
    everything = sum(p.numel() for p in model.parameters())
    print(f"{name}: blocks {total / 1e9:.4f} B, active {active / 1e9:.4f} B, everything {everything / 1e9:.4f} B")


def test_routing_uses_the_bias_for_the_choice_alone() -> None:
    from octorec.kernels.reference import route

    x, gate = torch.randn(50, 8), torch.randn(6, 8)
    bias = torch.tensor([5.0, 0, 0, 0, 0, -5.0])
    routing = route(x, gate, bias, top_k=2, n_shared=1)
    scores = (x @ gate.T).sigmoid()
    assert (routing.experts[:, 0] == 0).all()
    assert (routing.experts[:, :2] != 5).all()
    assert (routing.experts[:, 2] == 6).all()
    torch.testing.assert_close(routing.weights[:, :2].sum(1), torch.ones(50))
    torch.testing.assert_close(routing.weights[:, 2], torch.ones(50))
    pair = scores.gather(1, routing.experts[:, :2])
    torch.testing.assert_close(routing.weights[:, 0] / routing.weights[:, 1], pair[:, 0] / pair[:, 1])


def test_initialisation_repeats_with_its_seed() -> None:
    models = [OneRecV2(preset("tiny")) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        initialize(model, seed)
    a, b, c = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
