"""The shape of a Qwen3 or Qwen2 (2.5) language model, read from a `config.json` of Hugging Face's by pick-list.

What is missing has the default of transformers' Qwen3Config and Qwen2Config where both agree with the published models;
sizes must be there. A key that would change what is computed is obeyed, or refused by its name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from octorec.errors import InputError, MismatchError
from octorec.models.shapes import compare
from octorec.models.sid_tokens import SidTokens

KINDS = {"qwen3": "Qwen3ForCausalLM", "qwen2": "Qwen2ForCausalLM"}
SIZES = {  # the least and the most of each key that is one integer
    "vocab_size": (1, 2**24),
    "hidden_size": (1, 2**20),
    "intermediate_size": (1, 2**20),
    "num_hidden_layers": (1, 1024),
    "num_attention_heads": (1, 2**16),
    "num_key_value_heads": (1, 2**16),
    "head_dim": (2, 2**14),
    "max_position_embeddings": (1, 2**20),
}
HEAD_DIM = 128  # of a Qwen3 whose config.json says none, as transformers has it
SLIDING_FROM = 28  # max_window_layers where config.json says none
SID_TOKENS = "sid_tokens"  # the key of ours, which `Qwen.complete` makes of the tokenizer's files
ROPE_KEYS = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
HEAD = "lm_head.weight"


@dataclass(frozen=True, eq=False)
class QwenConfig:
    """QwenConfig describes a dense Qwen3 or Qwen2 decoder in the names of its config.json.

    tie_word_embeddings: the head is the table of embeddings; where a folder stores a head too, that one is read, and
    this is False. sids: which tokens are which codes.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float
    tie_word_embeddings: bool
    sids: SidTokens

    @property
    def normed(self) -> bool:
        """Tell whether each head of q and k has an RMS norm (Qwen3)."""
        return self.model_type == "qwen3"

    @property
    def biased(self) -> bool:
        """Tell whether q, k and v have a bias (Qwen2)."""
        return self.model_type == "qwen2"

    @property
    def q_width(self) -> int:
        return self.num_attention_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Return the width of the keys, and of the values."""
        return self.num_key_value_heads * self.head_dim

    def to_dict(self) -> dict[str, Any]:
        """Return what `config.json` holds: transformers reads it, older ones by `rope_theta`."""
        own = {name: getattr(self, name) for name in (*SIZES, "model_type", "rms_norm_eps", "tie_word_embeddings")}
        rope = {"rope_type": "default", "rope_theta": self.rope_theta}
        more = {"architectures": [KINDS[self.model_type]], "hidden_act": "silu", "attention_bias": self.biased}
        return {**own, **more, "rope_theta": self.rope_theta, "rope_parameters": rope, SID_TOKENS: self.sids.to_dict()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "QwenConfig":
        """Read config.json's object, with `sid_tokens` in it. Raises InputError, which names the key."""
        if (kind := raw.get("model_type")) not in KINDS:
            raise _refused("model_type", kind, f"allowed: {', '.join(map(repr, KINDS))}")
        _check_plain(raw, kind)
        sizes = {name: _size(raw, name) for name in SIZES if name not in ("num_key_value_heads", "head_dim")}
        heads = sizes["num_attention_heads"]
        sizes["num_key_value_heads"] = _size(
            raw, "num_key_value_heads", heads if "num_key_value_heads" in raw else None
        )
        if heads % sizes["num_key_value_heads"]:
            allowed = f"must divide num_attention_heads = {heads}"
            raise _refused("num_key_value_heads", sizes["num_key_value_heads"], allowed)
        sizes["head_dim"] = _head_dim(raw, kind, sizes)
        _check_windows(raw, sizes["num_hidden_layers"])
        eps = _number(raw.get("rms_norm_eps", 1e-6), "rms_norm_eps", 1e-30, 1)
        tied = raw.get("tie_word_embeddings", False)
        if not isinstance(tied, bool):
            raise _refused("tie_word_embeddings", tied, "must be true or false")
        sids = _sids(raw, sizes["vocab_size"])
        return cls(kind, rope_theta=_theta(raw), rms_norm_eps=eps, tie_word_embeddings=tied, sids=sids, **sizes)


def checked_config(raw: Mapping[str, Any], found: Mapping[str, tuple[int, ...]], where: str) -> QwenConfig:
    """Return the model's configuration, once the shapes `found` in the folder's headers agree with it.

    A tied config with a stored head becomes an untied one: transformers uses such a head where it differs.
    Raises InputError as `QwenConfig.from_dict`, MismatchError as `shapes.compare`, and for a head that is nowhere.
    """
    config = QwenConfig.from_dict(raw)
    if HEAD in found:
        config = replace(config, tie_word_embeddings=False)
    elif not config.tie_word_embeddings:
        allowed = "must be there, as its config.json says tie_word_embeddings: false (or says nothing of it)"
        raise MismatchError(f"{where}: {HEAD}", "no such tensor", allowed)
    compare(disk_shapes(config), found, where)
    return config


def disk_shapes(config: QwenConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of each tensor of a 16-bit checkpoint, in Hugging Face's names."""
    width, hidden = config.hidden_size, config.intermediate_size
    yield "model.embed_tokens.weight", (config.vocab_size, width)
    yield "model.norm.weight", (width,)
    if not config.tie_word_embeddings:
        yield HEAD, (config.vocab_size, width)
    for layer in range(config.num_hidden_layers):
        block = f"model.layers.{layer}"
        for name, rows in (("q", config.q_width), ("k", config.kv_width), ("v", config.kv_width)):
            yield f"{block}.self_attn.{name}_proj.weight", (rows, width)
            if config.biased:
                yield f"{block}.self_attn.{name}_proj.bias", (rows,)
        yield f"{block}.self_attn.o_proj.weight", (width, config.q_width)
        for name in ("q_norm", "k_norm") if config.normed else ():
            yield f"{block}.self_attn.{name}.weight", (config.head_dim,)
        for name in ("gate_proj", "up_proj"):
            yield f"{block}.mlp.{name}.weight", (hidden, width)
        yield f"{block}.mlp.down_proj.weight", (width, hidden)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{block}.{name}.weight", (width,)


def _refused(key: str, value: Any, allowed: str) -> InputError:
    return InputError(f"config.json: {key}", value, allowed)


def _check_plain(raw: Mapping[str, Any], kind: str) -> None:
    """Refuse values under which another model is computed than the one of this file."""
    allowed: dict[str, tuple[Any, ...]] = {
        "hidden_act": ("silu",),
        "attention_bias": (False, None) if kind == "qwen3" else (True, None),  # Qwen2's q, k and v always have one
        "mlp_bias": (False, None),
        "partial_rotary_factor": (1, None),
        "is_causal": (True, None),
        "auto_map": (None,),  # code of the folder's own, which never runs
        "architectures": ([KINDS[kind]], None),
    }
    for key, values in allowed.items():
        if key in raw and raw[key] not in values:
            raise _refused(key, raw[key], f"allowed: {' or '.join(map(repr, values))}; other models are not computed")


def _size(raw: Mapping[str, Any], key: str, instead: int | None = None) -> int:
    """Return an integer of config.json. instead: what null counts as."""
    value = raw.get(key)
    if value is None and instead is not None:
        return instead
    least, most = SIZES[key]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _refused(key, value, f"must be an integer from {least} to {most:,}")
    return value


def _number(value: Any, key: str, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise _refused(key, value, f"must be a number from {least:g} to {most:g}")
    return float(value)


def _head_dim(raw: Mapping[str, Any], kind: str, sizes: Mapping[str, int]) -> int:
    """Return the width of a head: Qwen2 divides where it is not said, Qwen3 takes 128."""
    width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    if kind == "qwen3":
        found = _size(raw, "head_dim") if "head_dim" in raw else HEAD_DIM
    elif raw.get("head_dim") is None and width % heads:
        raise _refused("num_attention_heads", heads, f"must divide hidden_size = {width} where no head_dim is given")
    else:
        found = _size(raw, "head_dim", width // heads)
    if found % 2:
        raise _refused("head_dim", found, "must be even: values of a head turn in pairs")
    return found


def _check_windows(raw: Mapping[str, Any], layers: int) -> None:
    """Refuse sliding windows, where a layer has one as transformers decides it."""
    types = raw.get("layer_types")
    if types is not None:
        if types != ["full_attention"] * layers:
            raise _refused("layer_types", types, f"allowed: {layers} times 'full_attention'; no other is computed")
        return
    used = raw.get("use_sliding_window", False)
    if not isinstance(used, bool):
        raise _refused("use_sliding_window", used, "must be true or false")
    first = raw.get("max_window_layers", SLIDING_FROM)
    if used and raw.get("sliding_window", 0) is not None and not (isinstance(first, int) and first >= layers):
        allowed = f"sliding windows are not computed: false, or max_window_layers of {layers} or more"
        raise _refused("use_sliding_window", True, allowed)


def _theta(raw: Mapping[str, Any]) -> float:
    """Return the base of the angles: that of `rope_parameters` (`rope_scaling` in older files), or else
    `rope_theta`.
    """
    given = {key: raw[key] for key in ("rope_scaling", "rope_parameters") if raw.get(key)}
    for key, values in given.items():
        _check_rope(key, values)
    if len(given) == 2:
        raise _refused("rope_scaling", raw["rope_scaling"], "must not stand beside rope_parameters, which replaces it")
    for key, values in given.items():
        if "rope_theta" in values:
            return _number(values["rope_theta"], f"{key}.rope_theta", 1, 1e12)
    if raw.get("rope_theta") is None:
        raise _refused("rope_parameters.rope_theta", None, "is required, there or as rope_theta: no default is right")
    return _number(raw["rope_theta"], "rope_theta", 1, 1e12)


def _check_rope(key: str, values: Any) -> None:
    """Refuse positions that are scaled, as by yarn, or turn a part of a head only, or differ by layer."""
    if not isinstance(values, Mapping):
        raise _refused(key, values, "must be an object or null")
    kind = values.get("rope_type", values.get("type", "default"))
    if kind != "default":
        raise _refused(f"{key}.rope_type", kind, "allowed: 'default'; scaled positions are not computed")
    for name, value in values.items():
        if name not in ROPE_KEYS:
            raise _refused(f"{key}.{name}", value, f"allowed beside it: {', '.join(ROPE_KEYS)}")
    if values.get("partial_rotary_factor") not in (1, None):
        raise _refused(f"{key}.partial_rotary_factor", values["partial_rotary_factor"], "allowed: 1 or null")


def _sids(raw: Mapping[str, Any], rows: int) -> SidTokens:
    """Return the tokens of semantic IDs, each of which has a row in the table of embeddings."""
    if SID_TOKENS not in raw:
        raise _refused(SID_TOKENS, None, "is required: the tokenizer's files beside config.json say it")
    sids = SidTokens.from_dict(raw[SID_TOKENS], f"config.json: {SID_TOKENS}")
    if sids.largest >= rows:
        allowed = f"too few rows: tokens of the tokenizer's semantic IDs go up to id {sids.largest}"
        raise _refused("vocab_size", rows, allowed)
    return sids
