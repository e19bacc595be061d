"""Tell from a tensor's name what it is for, for the families whose names we know.

OneRec-V2, decoders in Hugging Face's names (Llama, Qwen, Mistral and kin), their mixtures of experts (Qwen3-MoE,
DeepSeek, Mixtral) and traditional rankers (DLRM, DCN, DIN). Of other models a tensor's role is `other` unless its name
says more.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from octorec.models.families import known_family

ROLES = {  # the first pattern found in a tensor's or module's name says what it is for
    "context": r"^context\.(?!.*(embed|norm))",
    "norm": r"norm|(^|\.)ln_\w+\.|(^|\.)bn\d*\.",
    "router": r"\.router\b|\.(mlp|moe|ffn|block_sparse_moe)\.gate\.|shared_expert_gate|e_score_correction_bias",
    "expert": r"experts?(\.|$)",
    "attention": r"attn|attention|\.[qkvo]_proj\b",
    "embedding": r"embed|^bos$|^position$|(^|\.)(wte|wpe|emb|emb_l)\.",
    "cross": r"(^|[._])cross",
    "ffn": r"\.(ffn|mlp|feed_forward)\.",
    "head": r"^(lm_)?head|(^|\.)(lm_head|classifier|output_layer|output|logits?)\.",
    "mlp": r"(^|\.)(\w*mlps?|dnn|deep|tower|bot_l|top_l|dense_arch|over_arch)\.",
}
MATRIX_ROLES = ("attention", "ffn", "expert", "cross", "mlp", "other")  # products that FP8 could compute


def role(name: str) -> str:
    """Return attention, ffn, expert, ...; `other` where no pattern says more."""
    return next((role for role, pattern in ROLES.items() if re.search(pattern, name)), "other")


def family(names: Iterable[str], config: Mapping[str, Any]) -> str:
    """Return the family of the model that holds tensors of these names; `config` is its config.json or empty.

    The label of one of ours, or else: decoder, MoE decoder, ranker, unknown.
    """
    ours = known_family(config)
    if ours is not None:
        return ours.label
    roles = {name: role(name) for name in names}
    if any(re.search(r"(layers|h|blocks)\.\d+\..*attn", name) for name in roles):
        return "MoE decoder" if "expert" in roles.values() else "decoder"
    kinds = set(roles.values())
    if "embedding" in kinds and kinds & {"cross", "mlp"}:
        return "ranker"
    return "unknown"


def block(name: str) -> int | None:
    """Return the number of the block a tensor stands in, if its name has one."""
    found = re.search(r"(?:blocks|layers|h)\.(\d{1,9})\.", name)
    return int(found[1]) if found else None
