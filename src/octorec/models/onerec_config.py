"""The shape of a OneRec-V2 model, as `config.json` holds it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from octorec.errors import InputError, check_keys
from octorec.models.user import LONGEST_NAME, UserField, encode_user, is_number, read_user_fields

__all__ = ["OneRecConfig", "UserField", "encode_user"]

MODEL_TYPE = "onerec_v2"
REQUIRED = ("d_model", "n_layer", "n_head", "embed_dim")
WIDTH, COUNT = 2**20, 2**16
INTEGERS = {  # the least and the most of each key that is one integer
    "d_model": (1, WIDTH),
    "n_layer": (1, 1024),
    "n_head": (1, WIDTH),
    "embed_dim": (1, WIDTH),
    "d_ff": (1, WIDTH),
    "n_dense": (0, 1024),
    "n_expert": (0, COUNT),
    "n_shared": (0, COUNT),
    "top_k": (0, COUNT),
    "d_expert": (1, WIDTH),
    "l_kv": (1, 1024),
    "s_kv": (1, 2),
    "g_kv": (1, WIDTH),
    "max_context": (1, COUNT),
    "recency_buckets": (2, WIDTH),
}
MOST_LEVELS, MOST_CODES, MOST_FIELDS = 64, 2**31 - 1, 1000
SHORT, LONG = 5, 8  # letters of a key: up to SHORT only case and plural may differ, from LONG on 2 letters


@dataclass(frozen=True)
class OneRecConfig:
    """OneRecConfig describes OneRec-V2 (arXiv 2508.20900): a lazy decoder. No layer projects context keys and values.

    Widths are numbers of values, counts are plain; None means the default that the comment states.
    """

    d_model: int
    n_layer: int
    n_head: int
    embed_dim: int  # width of a context code embedding, of the recency embedding and of each user field's
    codebook_sizes: tuple[int, ...] = (8192, 8192, 8192)
    d_ff: int | None = None  # 4 * d_model
    n_dense: int | None = None  # leading blocks with a dense FFN; None: all of them
    n_expert: int = 0  # routed experts in each of the other blocks
    n_shared: int = 0  # shared experts beside them
    top_k: int = 0  # routed experts a row
    d_expert: int | None = None  # d_model
    l_kv: int = 1  # distinct context KV layers
    s_kv: int = 1  # 1: values are the keys; 2: values of their own
    g_kv: int | None = None  # KV groups; n_head
    max_context: int = 512  # context items; the newest are kept
    recency_buckets: int = 64
    rms_eps: float = 1e-6
    user_fields: tuple[UserField, ...] = ()
    codebook_fingerprint: str | None = None  # of the codebook whose codes the model was trained on
    context_module: str | None = None  # the class of a context module of the user's; None: ContextProcessor

    def __post_init__(self) -> None:
        defaulted = {field.name for field in dataclasses.fields(self) if field.default is None}
        for name, (least, most) in INTEGERS.items():
            value = getattr(self, name)
            known = _is_integer(value) and least <= value <= most
            _require(known or (value is None and name in defaulted), name, self, _integers(least, most))
        self._check_sizes()
        eps, mark = self.rms_eps, self.codebook_fingerprint
        _require(is_number(eps) and 1e-30 <= eps <= 1, "rms_eps", self, "must be a number from 1e-30 to 1")
        _require(mark is None or isinstance(mark, str), "codebook_fingerprint", self, "must be a text or null")
        own = self.context_module
        named = own is None or (isinstance(own, str) and own.isidentifier() and len(own) <= LONGEST_NAME)
        _require(named, "context_module", self, "must be the name of a class in Python, or null")
        _require(self.d_model % self.n_head == 0, "n_head", self, f"must divide d_model = {self.d_model}")
        _require(self.l_kv <= self.n_layer, "l_kv", self, f"at most n_layer = {self.n_layer}")
        _require(self.n_head % self.groups == 0, "g_kv", self, f"must divide n_head = {self.n_head}")
        _require(self.dense_blocks <= self.n_layer, "n_dense", self, f"0 to n_layer = {self.n_layer}")
        if self.dense_blocks < self.n_layer:
            _require(self.n_expert > 0, "n_expert", self, "blocks after n_dense need experts")
            _require(0 < self.top_k <= self.n_expert, "top_k", self, f"1 to n_expert = {self.n_expert}")

    def _check_sizes(self) -> None:
        """Check the two lists: sizes of the levels, and user fields."""
        for name in ("codebook_sizes", "user_fields"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        sizes, fields = self.codebook_sizes, self.user_fields
        allowed = f"must be a list of 1 to {MOST_LEVELS} integers, each from 1 to {MOST_CODES:,}"
        _require(isinstance(sizes, tuple) and len(sizes) <= MOST_LEVELS, "codebook_sizes", self, allowed)
        _require(len(sizes) > 0, "codebook_sizes", self, "needs one size a level")
        fit = all(_is_integer(size) and 0 < size <= MOST_CODES for size in sizes)
        _require(fit, "codebook_sizes", self, allowed)
        ours = isinstance(fields, tuple) and all(isinstance(field, UserField) for field in fields)
        _require(ours and len(fields) <= MOST_FIELDS, "user_fields", self, f"must be at most {MOST_FIELDS} UserFields")
        names = [field.name for field in fields]
        _require(len(set(names)) == len(names), "user_fields", self, "names must differ")

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_head

    @property
    def groups(self) -> int:
        return self.n_head if self.g_kv is None else self.g_kv

    @property
    def ffn_width(self) -> int:
        return 4 * self.d_model if self.d_ff is None else self.d_ff

    @property
    def expert_width(self) -> int:
        return self.d_model if self.d_expert is None else self.d_expert

    @property
    def dense_blocks(self) -> int:
        return self.n_layer if self.n_dense is None else self.n_dense

    @property
    def kv_slice(self) -> int:
        """Return the width of one context slice, keys or values of one KV layer."""
        return self.groups * self.d_head

    @property
    def d_context(self) -> int:
        """Return the width of a context item: S_kv * L_kv * G_kv * d_head."""
        return self.s_kv * self.l_kv * self.kv_slice

    def to_dict(self) -> dict[str, Any]:
        """Return what `config.json` holds."""
        return {"model_type": MODEL_TYPE, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "OneRecConfig":
        """Read `config.json`'s dictionary.

        A key that is null counts as absent, and keys of other programs (`dtype`, `architectures`, ...) are not read.
        Raises InputError for another `model_type`, a key that is nearly one of ours, and values that are none.
        """
        if not isinstance(raw, dict):
            raise InputError("config.json", raw, "must hold an object")
        if raw.get("model_type") != MODEL_TYPE:
            raise InputError("config.json: model_type", raw.get("model_type"), f"allowed: {MODEL_TYPE!r}")
        for key in raw:
            if key not in KEYS and (ours := _near_miss(key)):
                raise InputError("config.json", key, f"unknown key; did you mean {ours}? Known: {', '.join(KEYS)}")
        given = {key: raw[key] for key in FIELDS if raw.get(key) is not None}
        check_keys("config.json", given, cls, REQUIRED)
        if "user_fields" in given:
            given["user_fields"] = read_user_fields(given["user_fields"])
        return cls(**given)


FIELDS = tuple(field.name for field in dataclasses.fields(OneRecConfig))
KEYS = (*FIELDS, "model_type", "torch_dtype", "quantization_config")  # what OctoRec writes and reads


def _near_miss(key: str) -> str | None:
    """Return the key of ours that `key` was probably meant to be; None for another program's key."""
    alike = next((ours for ours in KEYS if _plain(key) == _plain(ours)), None)
    if alike is not None or not key:
        return alike
    long = [ours for ours in KEYS if len(ours) > SHORT and ours[0] == key[0].lower()]
    return next((ours for ours in long if _edits(key.lower(), ours) <= (1 if len(ours) < LONG else 2)), None)


def _plain(key: str) -> str:
    """Return `key` without case, underscores, hyphens and a plural's s."""
    return key.lower().replace("_", "").replace("-", "").rstrip("s")


def _edits(key: str, ours: str) -> int:
    """Count the letters to insert, delete, replace or swap with their neighbour to get from `key` to `ours`; at most 3
    are counted."""
    if abs(len(key) - len(ours)) > 2:
        return 3
    rows = [list(range(len(ours) + 1))]
    for i, letter in enumerate(key, 1):
        row = [i]
        for j, wanted in enumerate(ours, 1):
            least = min(rows[-1][j] + 1, row[j - 1] + 1, rows[-1][j - 1] + (letter != wanted))
            if i > 1 and j > 1 and key[i - 2 : i] == wanted + ours[j - 2]:
                least = min(least, rows[-2][j - 2] + 1)
            row.append(least)
        rows.append(row)
    return min(rows[-1][-1], 3)


def _require(condition: bool, name: str, config: OneRecConfig, allowed: str) -> None:
    if not condition:
        raise InputError(name, getattr(config, name), allowed)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integers(least: int, most: int) -> str:
    return f"must be an integer from {least} to {most:,}"
