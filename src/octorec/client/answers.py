"""An answer of a server, typed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from octorec.client.errors import Failed


@dataclass(frozen=True)
class Answer:
    """An Answer holds columns of the same length, best item first; docs/serving.md says what each field means.

    scores: log-probabilities, in nats. codes: each item's semantic ID. timings: of the server, in milliseconds.
    """

    items: list[str]
    scores: list[float]
    codes: list[list[int]]
    complete: bool
    exact: bool
    bound: float | None
    near_tie: bool
    beam_width: int | list[int] | None
    source: Literal["model", "popularity"]
    notes: list[str]
    model: str
    catalog: str
    timings: Mapping[str, float]
    request_id: str
    titles: list[str] | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    left_out: list[Mapping[str, Any]] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)  # fields of a newer server


NAMES = {one.name for one in fields(Answer)} - {"more"}


def answer_of(raw: Any) -> Answer:
    """Read an answer; Failed where it lacks what every answer has."""
    if not isinstance(raw, dict):
        raise Failed(200, "no answer", f"the answer is a {type(raw).__name__}, not an object")
    known = {name: value for name, value in raw.items() if name in NAMES}
    try:
        return Answer(**known, more={name: value for name, value in raw.items() if name not in NAMES})
    except TypeError as error:
        raise Failed(200, "no answer", f"the answer lacks a field: {error}") from None
