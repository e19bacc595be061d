"""The shape of a OneRec-V2 model, as `config.json` holds it."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from octorec.errors import InputError, check_keys


@dataclass(frozen=True)
class UserField:
    """One thing known about the user, carried by every context item.

    kind `category`: one of `values`. kind `number`: standardised as (x - mean) / std.
    A request may leave a field out: a category then has an embedding of its own, a number counts as its mean.
    """

    name: str
    kind: Literal["category", "number"]
    values: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        where = f"user_fields.{self.name}"
        if self.kind not in ("category", "number"):
            raise InputError(f"{where}.kind", self.kind, "allowed: 'category', 'number'")
        if self.kind == "category" and not self.values:
            raise InputError(f"{where}.values", self.values, "a category needs its allowed values")
        if self.kind == "number" and not self.std > 0:
            raise InputError(f"{where}.std", self.std, "must be above 0")

    def encode(self, value: Any) -> float:
        """The number a model reads: 0 or 1 + the category's position, or the standardised number."""
        if self.kind == "category":
            if value is None:
                return 0.0
            if str(value) not in self.values:
                raise InputError(f"user.{self.name}", value, f"allowed: {', '.join(self.values)}")
            return 1.0 + self.values.index(str(value))
        if value is None:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            raise InputError(f"user.{self.name}", value, "must be a number")
        return (value - self.mean) / self.std


@dataclass(frozen=True)
class OneRecConfig:
    """OneRec-V2 (arXiv 2508.20900): lazy decoder over context keys and values that no layer projects.

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

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layer", "n_head", "embed_dim", "l_kv", "max_context", "recency_buckets"):
            _require(isinstance(getattr(self, name), int) and getattr(self, name) > 0, name, self, "must be above 0")
        _require(self.d_model % self.n_head == 0, "n_head", self, f"must divide d_model = {self.d_model}")
        _require(len(self.codebook_sizes) > 0, "codebook_sizes", self, "needs one size a level")
        _require(all(size > 0 for size in self.codebook_sizes), "codebook_sizes", self, "sizes must be above 0")
        _require(self.s_kv in (1, 2), "s_kv", self, "allowed: 1 (values are the keys), 2")
        _require(self.l_kv <= self.n_layer, "l_kv", self, f"at most n_layer = {self.n_layer}")
        _require(self.n_head % self.groups == 0, "g_kv", self, f"must divide n_head = {self.n_head}")
        _require(0 <= self.dense_blocks <= self.n_layer, "n_dense", self, f"0 to n_layer = {self.n_layer}")
        if self.dense_blocks < self.n_layer:
            _require(self.n_expert > 0, "n_expert", self, "blocks after n_dense need experts")
            _require(0 < self.top_k <= self.n_expert, "top_k", self, f"1 to n_expert = {self.n_expert}")
        names = [field.name for field in self.user_fields]
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
        """Width of one context slice, keys or values of one KV layer."""
        return self.groups * self.d_head

    @property
    def d_context(self) -> int:
        """Width of a context item: S_kv * L_kv * G_kv * d_head."""
        return self.s_kv * self.l_kv * self.kv_slice

    def to_dict(self) -> dict[str, Any]:
        """What `config.json` holds."""
        return {"model_type": "onerec_v2", **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "OneRecConfig":
        """Read `config.json`'s dictionary; an unknown key is an InputError that names the known ones."""
        raw = dict(raw)
        model_type = raw.pop("model_type", None)
        if model_type != "onerec_v2":
            raise InputError("config.json: model_type", model_type, "allowed: 'onerec_v2'")
        raw.pop("quantization_config", None)
        raw.pop("torch_dtype", None)
        check_keys("config.json", raw, cls, required=("d_model", "n_layer", "n_head", "embed_dim"))
        fields = tuple(_user_field(field) for field in raw.pop("user_fields", ()))
        sizes = tuple(raw.pop("codebook_sizes", cls.codebook_sizes))
        return cls(**raw, codebook_sizes=sizes, user_fields=fields)


def encode_user(fields: tuple[UserField, ...], user: dict[str, Any]) -> list[float]:
    """A user's values in the order of the schema; a name the schema does not know is an InputError."""
    known = [field.name for field in fields]
    for name in user:
        if name not in known:
            raise InputError("user", name, f"allowed: {', '.join(known) or 'no field: the model declares none'}")
    return [field.encode(user.get(field.name)) for field in fields]


def _user_field(raw: dict[str, Any]) -> UserField:
    check_keys("user_fields", raw, UserField, required=("name", "kind"))
    return UserField(**{**raw, "values": tuple(raw.get("values", ()))})


def _require(condition: bool, name: str, config: OneRecConfig, allowed: str) -> None:
    if not condition:
        raise InputError(name, getattr(config, name), allowed)
