"""A client asks by the names and meanings of the fields of POST /v1/recommend."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

Width = int | str | Sequence[int]


class Options(TypedDict, total=False):
    """Options are the fields of a request besides its history and deadline; docs/serving.md says what each means."""

    k: int
    beam_width: Width
    exclude: Sequence[str]
    allow: Sequence[str]
    user: Mapping[str, str | int | float | None]
    features: Mapping[str, Any]
    exclude_seen: bool
    titles: bool
    messages: Sequence[Mapping[str, Any]]
    text: str
    input_ids: Sequence[int]
    domain: str
    task: str
    histories: Mapping[str, Sequence[str]]
    enable_thinking: bool
    caps: Mapping[str, int]
    distinct_codes: int
    max_cosine: float
    request_id: str


class Asked(Options, total=False):
    """An Asked is a whole request. history: item ids, oldest first."""

    history: Sequence[str]


def as_asked(history: Sequence[str] | None, options: Options) -> Asked:
    """Return a request of a history and options; the server checks it."""
    return {**options} if history is None else {**options, "history": history}


def body_of(asked: Asked, left_s: float) -> dict[str, Any]:
    """Return the JSON object of a request that has `left_s` seconds left; arrays and other sequences become lists."""
    return {name: _plain(value) for name, value in asked.items()} | {"deadline_ms": round(max(left_s * 1e3, 1.0), 3)}


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of NumPy
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(one) for one in value]
    return value
