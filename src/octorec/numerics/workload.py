"""Compute the work of a checkpoint, part by part, from its tensors' shapes and its config.json.

The families of ours say themselves what a batch is (`models.work`). A decoder makes the same recommendation in its own
terms: it reads a prompt of `context` tokens a request, then writes `LEVELS` codes by beam search over a shared prompt.
A ranker scores each of `beam` candidates a request once.

Letters: B requests, W beams, S context, M rows of a pass.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from octorec.models.families import family_class, known_family
from octorec.models.work import Work as FamilyWork
from octorec.numerics.advice import Advice
from octorec.numerics.intensity import Roofline, Work, Workload, estimate, product, traffic
from octorec.numerics.roles import block, family, role
from octorec.numerics.stats import TensorStats
from octorec.quant.products import unit

LEVELS = 3  # codes an item, of models whose config does not say
TIED = ("embed_tokens.weight", "wte.weight")
PARTS = {
    "attention": "attention projections",
    "ffn": "FFN",
    "expert": "experts",
    "router": "router",
    "head": "heads",
    "cross": "cross layers",
    "mlp": "MLP",
    "context": "context projection",
    "other": "other matrices",
}


def speed(weights: Sequence[TensorStats], config: Mapping[str, Any], advice: Advice, workload: Workload) -> Roofline:
    """Return the roofline of a checkpoint under the recipe of `advice`."""
    kind = family((stats.name for stats in weights), config)
    fp8 = {layer.module for layer in advice.layers if layer.decision != "keep"}
    ours = _of_our_family(config, workload)
    rows_of = (lambda name: _rows(kind, workload)) if ours is None else ours.rows
    works, notes = _lookups(kind, weights, config, workload) if ours is None else _looked_up(weights, ours), []
    for name, parts in _products(weights).items():
        works += _matrix_work(kind, parts, config, workload, rows_of(name), fp8)
    works += _elementwise(weights, rows_of(""), fp8)
    if ours is not None:
        works += [
            traffic(each.part, each.values, each.flops, each.width, each.shrunk if each.product in fp8 else 0.0)
            for each in ours.traffic
        ]
    elif kind in ("decoder", "MoE decoder"):
        works += _decoder(weights, workload, fp8)
        notes.append(f"Taken as a generator of {LEVELS} codes an item after a prompt of {workload.context} tokens.")
    else:
        notes.append(f"Taken as a ranker that scores {workload.beam} candidates a request, each matrix once a row.")
    return estimate([work for work in works if work.bytes_16], workload, notes)


def _of_our_family(config: Mapping[str, Any], workload: Workload) -> FamilyWork | None:
    """Return what the family of a config.json says of its work; None where it is of none of ours."""
    if known_family(config) is None:
        return None
    family = family_class(config)
    work: FamilyWork = family.work(family.parse(dict(config)), workload.batch, workload.beam, workload.context)
    return work


def _looked_up(weights: Sequence[TensorStats], ours: FamilyWork) -> list[Work]:
    """Return the work of lookups: a row of each embedding table is read and written for everything that looks it up."""
    tables = [stats for stats in weights if stats.role == "embedding" and len(stats.shape) == 2]
    return [traffic("embedding lookups", 2.0 * sum(ours.rows(table.name)) * table.shape[1]) for table in tables]


def active_shares(weights: Sequence[TensorStats], config: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of rows that reach each routed expert's tensors, by name: top_k / experts."""
    chosen, experts = _routing(config)
    if not experts:
        return {}
    return {stats.name: chosen / experts for stats in weights if stats.role == "expert" and "shared" not in stats.name}


def _routing(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return (experts a row, routed experts), in the names of ours, Qwen3-MoE, DeepSeek and Mixtral; zeros for none."""
    chosen = _count(config, "top_k") if "n_expert" in config else _count(config, "num_experts_per_tok")
    names = ("n_expert", "num_experts", "n_routed_experts", "num_local_experts")
    experts = next((count for name in names if (count := _count(config, name))), 0)
    return (chosen, experts) if 0 < chosen <= experts else (0, 0)


def _count(config: Mapping[str, Any], name: str) -> int:
    """Return the integer called `name` in any model's config.json; 0 where there is none."""
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else 0


def _rows(kind: str, workload: Workload) -> list[int]:
    """Return M of each pass through the blocks."""
    each = workload.batch * workload.beam
    if kind in ("decoder", "MoE decoder"):
        return [workload.batch * workload.context] + [each] * (LEVELS - 1)
    return [each]


def _products(weights: Sequence[TensorStats]) -> dict[str, list[TensorStats]]:
    """Return the matrices that one launch multiplies by the same rows."""
    groups: dict[str, list[TensorStats]] = defaultdict(list)
    for stats in weights:
        if len(stats.shape) >= 2 and stats.role in PARTS and stats.distribution is not None:
            module = stats.name.removesuffix(".weight")
            second = ".down" if stats.role == "expert" and module.endswith(("down_proj", "w2")) else ""
            groups[unit(module) + second].append(stats)
    return groups


def _matrix_work(
    kind: str,
    parts: Sequence[TensorStats],
    config: Mapping[str, Any],
    workload: Workload,
    rows: list[int],
    fp8: set[str],
) -> list[Work]:
    first = parts[0]
    k, part = first.shape[-1], PARTS[first.role]
    quantized = first.name.removesuffix(".weight") in fp8
    if first.role == "expert":
        return [work for m in rows for work in _experts(part, m, parts, config, quantized)]
    n = sum(stats.shape[0] for stats in parts)
    if first.role == "head":
        return [product(part, m, n, k, quantized, out_bytes=4) for m in _head_rows(kind, workload, rows)]
    if kind == "ranker" and first.role == "attention":  # DIN's: each clicked item against each candidate
        rows = [m * (_count(config, "history") or workload.context) for m in rows]
    return [product(part, m, n, k, quantized) for m in rows]


def _head_rows(kind: str, workload: Workload, rows: list[int]) -> list[int]:
    """Return M of each use of the head: a decoder uses its one head at every level, of the prompt at
    the last position alone.
    """
    return [workload.batch, *rows[1:]] if kind in ("decoder", "MoE decoder") else rows


def _experts(part: str, m: int, parts: Sequence[TensorStats], config: Mapping[str, Any], quantized: bool) -> list[Work]:
    """Return the work of one of the two products of all experts of a block.

    Routed experts that no row chose are not read.

    Without a routing in `config` every row reaches every expert.
    """
    chosen, experts = _routing(config)
    k, out = parts[0].shape[-1], []
    shared = sum(math.prod(stats.shape[:-1]) for stats in parts if "shared" in stats.name or not experts)
    routed = sum(math.prod(stats.shape[:-1]) for stats in parts) - shared
    if shared:
        out.append(product(part, m, shared, k, quantized))
    if routed:
        touched = experts * (1 - (1 - chosen / experts) ** m)
        out.append(product(part, m * chosen, routed // experts, k, quantized, weights=touched))
    return out


def _lookups(kind: str, weights: Sequence[TensorStats], config: Mapping[str, Any], workload: Workload) -> list[Work]:
    """Return the work of lookups: a row of each embedding table is read and written for everything that looks it up."""
    out = []
    each, context = workload.batch * workload.beam, workload.batch * workload.context
    for stats in weights:
        if stats.role == "embedding" and len(stats.shape) == 2:
            count = each
            if kind != "unknown" and kind != "ranker":
                count = context + (LEVELS - 1) * each
            out.append(traffic("embedding lookups", 2.0 * count * stats.shape[1]))
    clicked = _count(config, "history") * _count(config, "embed_dim")
    if kind == "ranker" and clicked:
        out.append(traffic("embedding lookups", 2.0 * each * clicked))
    return out


def _elementwise(weights: Sequence[TensorStats], rows: list[int], fp8: set[str]) -> list[Work]:
    """Return the work of residuals and norms (two read, two written) and of SwiGLU (two read, one written, that in FP8
    for an FP8 product).
    """
    out = []
    for stats in weights:
        name = stats.name
        if stats.role == "norm" and len(stats.shape) == 1 and name.endswith(".weight"):
            width = stats.shape[0]
            shrunk = width if fp8 and block(name) is not None else 0
            out += [traffic("residuals and norms", 4.0 * m * width, shrunk=m * shrunk) for m in rows]
        elif stats.role == "ffn" and name.endswith("down_proj.weight"):
            width = stats.shape[1]
            shrunk = width if name.removesuffix(".weight") in fp8 else 0
            out += [traffic("SwiGLU", 3.0 * m * width, shrunk=m * shrunk) for m in rows]
    return out


def _decoder(weights: Sequence[TensorStats], workload: Workload, fp8: set[str]) -> list[Work]:
    """Return the work of attention products, causal over the prompt, then beams over it, in blocks with q_proj and
    k_proj; and of the beam step.
    """
    out = []
    batch, beam, context = workload.batch, workload.beam, workload.context
    shapes = {stats.name: stats.shape for stats in weights}
    for name, shape in shapes.items():
        key = shapes.get(name.replace("q_proj", "k_proj"))
        if not name.endswith("q_proj.weight") or key is None:
            continue
        q, kv = shape[0], 2 * key[0]
        eight = q if name.replace("q_proj.weight", "o_proj") in fp8 else 0
        m = batch * context
        out.append(traffic("attention products", m * (2.0 * q + kv), 2.0 * m * context * q, shrunk=m * eight))
        m = batch * beam
        for level in range(1, LEVELS):
            read = 2.0 * m * q + batch * context * kv + m * level * kv
            out.append(traffic("attention products", read, 4.0 * m * (context + level) * q, shrunk=m * eight))
    rows = [batch, *[batch * beam] * (LEVELS - 1)]
    heads = [shape for name, shape in shapes.items() if role(name) == "head" and len(shape) == 2]
    if not heads:  # tied: the embeddings of the tokens score them too
        heads = [shape for name, shape in shapes.items() if name.endswith(TIED) and len(shape) == 2]
        out += [product(PARTS["head"], m, shape[0], shape[1], False, out_bytes=4) for shape in heads for m in rows]
    return out + [traffic("beam step", float(m * shape[0]), width=4) for shape in heads for m in rows]
