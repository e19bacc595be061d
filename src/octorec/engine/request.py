"""Request is what is asked of an engine, Answer what it answers."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from octorec.engine.caps import read_caps, read_distinct_codes, read_max_cosine
from octorec.engine.widths import BeamWidth, Width, read_for
from octorec.errors import InputError
from octorec.files import parse_json
from octorec.reading import reason, require_file

MOST_LINE = 2**20  # bytes of a request in a file, as of a body over HTTP
MOST_SHOWN = 400  # bytes of a line that an error shows
EXAMPLES = {
    "history": 'ids, oldest first, such as ["50", "181"]',
    "exclude": 'ids, such as ["50"]; leave it out for none',
    "targets": 'ids, one a request, such as ["174"]',
    "allow": 'names, such as ["Sci-Fi"]; leave it out for all items',
}
EXAMPLE = 'write [octorec.Request(history=["50", "181"], k=10)]'
NO_LISTS = (str, bytes, bytearray, memoryview, Mapping)
TO_LIST = ("tolist", "to_pylist", "to_list")  # methods of NumPy and torch, of Arrow, of other tables
ORDERED = ("history", "targets")  # their order counts, so that a set is refused
PROMPTS = ("messages", "text", "input_ids")  # fields that hold a whole prompt
UnknownItems = Literal["drop", "refuse"]  # what to do with item ids that the catalog lacks
UNKNOWN_ITEMS: UnknownItems = "drop"  # the default


@dataclass(frozen=True)
class Request:
    """A Request asks for items for one user.

    history: item ids, oldest first; of more than the model's context the newest are used. An empty one without user
    fields and features is answered by popularity. k: how many items to return, at most beam_width.
    beam_width: beams kept at each level: a number, a number a level, or `auto` for as few as certify the answer (see
    `engine.widths`); None for the engine's default. exclude: item ids never to return.
    allow: named item sets to return from, their union; empty for every item. user: values of the model's user fields.
    exclude_seen: whether no item of the whole history is returned; None for the engine's default.
    features: by name, what the model's context module declares: numbers, lists of them in lists, or arrays.

    What follows is for models that read a prompt's tokens (docs/qwen.md). At most one of history, messages, text and
    input_ids is given. messages: of a chat, objects of role and content. text, input_ids: a whole prompt. domain: whose
    catalog answers; "" where there is one, or the prompt's begin token says it. task: which of the family's prompts a
    history gets. histories: further ones by name, item ids as in history. user then has the words that a task's prompt
    holds, such as `keyword`. enable_thinking: true is refused, as no stage of thoughts is run. scope: whose requests
    may use the beginnings of prompts that this one leaves on the device, and leave some for it: those of the same text.
    caps, distinct_codes, max_cosine: see `engine.caps`: most items of a named set in the list, by name, `*` for each
    other set; how many first codes no two items share; the largest cosine of two items' vectors. None of the three: as
    the server says, or no bound; empty caps alone: no bound.

    Ids are text; integers, NumPy's too, are read as text. A list may be an array or a column of one dimension, a tuple
    or a generator; exclude and allow may be sets too.
    """

    history: Sequence[str] = ()
    k: int = 10
    beam_width: BeamWidth | None = None
    exclude: Sequence[str] = ()
    allow: Sequence[str] = ()
    user: Mapping[str, Any] = field(default_factory=dict)
    exclude_seen: bool | None = None
    features: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[Mapping[str, Any]] | None = None
    text: str | None = None
    input_ids: Sequence[int] | None = None
    domain: str = ""
    task: str | None = None
    histories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    enable_thinking: bool | None = None
    scope: str = ""
    caps: Mapping[str, int] | None = None
    distinct_codes: int | None = None
    max_cosine: float | None = None

    def __post_init__(self) -> None:
        for name in ("history", "exclude", "allow"):
            object.__setattr__(self, name, id_list(name, getattr(self, name)))
        if not isinstance(self.user, Mapping):
            raise InputError("user", self.user, "must be an object of field names and values; leave it out for none")
        object.__setattr__(self, "user", {name: _plain(value) for name, value in self.user.items()})
        if not isinstance(self.features, Mapping):
            raise InputError("features", self.features, "must be an object of names and values; leave it out for none")
        object.__setattr__(self, "exclude_seen", _plain(self.exclude_seen))
        if self.exclude_seen is not None and not isinstance(self.exclude_seen, bool):
            raise InputError("exclude_seen", self.exclude_seen, "must be true or false; leave it out for the default")
        self._check_prompt()
        object.__setattr__(self, "caps", read_caps(self.caps))
        object.__setattr__(self, "distinct_codes", read_distinct_codes(self.distinct_codes))
        object.__setattr__(self, "max_cosine", read_max_cosine(self.max_cosine))
        object.__setattr__(self, "k", _positive("k", self.k))
        if self.beam_width is not None:
            object.__setattr__(self, "beam_width", read_for(self.k, "beam_width", self.beam_width))

    @property
    def prompted(self) -> str | None:
        """Return the name of the field that holds a whole prompt; None for a history."""
        return next((name for name in PROMPTS if getattr(self, name) is not None), None)

    def _check_prompt(self) -> None:
        ids: Any = self.input_ids
        object.__setattr__(self, "input_ids", ids.tolist() if hasattr(ids, "tolist") else ids)
        given = ["history"] if self.history else []
        given += [name for name in PROMPTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(given[1], getattr(self, given[1]), f"give it or {given[0]}, not both")
        if isinstance(self.histories, Mapping):
            named = {name: id_list(f"histories.{name}", ids) for name, ids in self.histories.items()}
            object.__setattr__(self, "histories", named)
        else:
            raise InputError("histories", self.histories, "must be an object of names and lists of item ids")
        for name, value in {"domain": self.domain, "task": self.task or "", "scope": self.scope}.items():
            if not isinstance(value, str):
                raise InputError(name, value, "must be a name, as text; leave it out for the default")
        if self.enable_thinking is not None and not isinstance(self.enable_thinking, bool):
            raise InputError("enable_thinking", self.enable_thinking, "must be true or false; leave it out")


@dataclass(frozen=True)
class LeftOut:
    """A LeftOut is an item that a cap left out of a list. rule: the cap, in words such as `caps Sci-Fi = 3`."""

    item: str
    score: float
    rule: str


@dataclass(frozen=True)
class Answer:
    """An Answer holds the best items of one request, best first.

    scores: each item's log-probability, the sum over its codes; items that share a code tuple share it and stand in the
    catalog's order. codes: each item's tuple. complete: whether all k were found. exact: whether it is certain that no
    item of the catalog which the request may have scores better than these, by this checkpoint in this precision.
    bound: no item that the search left out scores above it; None where it left none out. beam_width: of the search, a
    number or one a level; None where there was none. near_tie: not called exact only because scores differ a little
    between beam widths on this device, by more than what certifies it. notes: what was done to the request that its
    sender may not expect. source: model, or popularity for a request that tells nothing of its user: scores are then
    logs of the items' shares of all interactions. cached_tokens: of its prompt, that were on the device already.
    left_out: the first items that caps left out of the list, best first; `exact` is then false.
    """

    items: list[str]
    scores: list[float]
    codes: list[tuple[int, ...]]
    titles: list[str]
    complete: bool
    exact: bool = False
    bound: float | None = None
    beam_width: Width | None = None
    near_tie: bool = False
    notes: list[str] = field(default_factory=list)
    source: str = "model"
    cached_tokens: int = 0
    left_out: list[LeftOut] = field(default_factory=list)


def read_requests(path: str | Path) -> list[Request]:
    """Read requests from JSON lines in UTF-8, each an object with fields of `Request`; one prompt is required.

    That is `history`, `messages`, `text` or `input_ids`.
    """
    require_file(path, "requests")
    try:
        with Path(path).open("rb") as file:
            requests = [_request(f"{path}: line {number}", line) for number, line in _lines(file) if line]
    except OSError as error:
        raise InputError("requests", str(path), f"cannot be read ({reason(error)})") from error
    if not requests:
        raise InputError("requests", str(path), "holds no request")
    return requests


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each line and its bytes without white space around; of a line too long only the start."""
    number = 0
    while line := file.readline(MOST_LINE + 1):
        number += 1
        yield number, line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").strip()


def _request(where: str, line: bytes) -> Request:
    known = [field.name for field in dataclasses.fields(Request)]
    if len(line) > MOST_LINE:
        raise InputError(where, f"more than {MOST_LINE} bytes", "is too long for a request")
    raw = parse_json(line, where, line[:MOST_SHOWN].decode(errors="replace"))
    if not {"history", *PROMPTS} & set(raw) or set(raw) - set(known):
        asked = f"history (or {', '.join(PROMPTS)})"
        raise InputError(where, raw, f"must be an object with {asked} and any of {', '.join(known[1:])}")
    try:
        return Request(**raw)
    except InputError as error:
        raise InputError(f"{where}: {error.field}", error.value, error.allowed) from error


def check_unknown_items(value: str) -> None:
    """Refuse what is none of `UnknownItems`."""
    if value not in get_args(UnknownItems):
        raise InputError("unknown_items", value, f"allowed: {', '.join(get_args(UnknownItems))}")


def request_list(requests: Any) -> list[Request]:
    """Return `requests` as a list; what is none of Requests is an InputError that says what to write."""
    if isinstance(requests, Request):
        allowed = "must be a list: write engine.recommend([request])[0]"
        raise InputError("requests", requests, allowed)
    if not isinstance(requests, Iterable) or isinstance(requests, NO_LISTS):
        raise InputError("requests", requests, f"must be a list: {EXAMPLE}")
    asked = list(requests)
    for number, one in enumerate(asked):
        if not isinstance(one, Request):
            how = "write octorec.Request(**fields)" if isinstance(one, Mapping) else EXAMPLE
            raise InputError(f"requests[{number}]", one, f"must be an octorec.Request: {how}")
    return asked


def id_list(name: str, value: Any) -> tuple[str, ...]:
    """Return the ids or names of `value` as text; what is no list of them is an InputError about `name`."""
    items = value if type(value) in (list, tuple) else tuple(_as_list(name, value))
    if set(map(type, items)) <= {str}:
        return tuple(items)
    return tuple(item if type(item) is str else _as_id(name, item) for item in items)


def _as_list(name: str, value: Any) -> Iterable[Any]:
    """Return the ids or names that `value` holds."""
    found = value
    kind = "history" if name.startswith("histories.") else name
    if getattr(value, "ndim", 1) == 1:
        method = next((method for method in TO_LIST if hasattr(value, method)), None)
        found = value if method is None or isinstance(value, memoryview) else getattr(value, method)()
    no_list = (*NO_LISTS, Set) if kind in ORDERED else NO_LISTS
    if not isinstance(found, Iterable) or isinstance(found, no_list) or getattr(value, "ndim", 1) != 1:
        raise InputError(name, value, f"must be a list of {EXAMPLES[kind]}")
    return found


def _as_id(name: str, item: Any) -> str:
    item = item.as_py() if hasattr(item, "as_py") else item  # Arrow's scalars
    if isinstance(item, bool) or not isinstance(item, str | Integral):
        raise InputError(name, item, "ids are text (or integers, which are read as text)")
    try:
        return str(item)
    except ValueError as error:  # Python writes no integer of thousands of digits
        raise InputError(name, item, "is an integer too long for an id") from error


def _plain(value: Any) -> Any:
    """Return a scalar of NumPy as one of Python; any other value as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(name, value, "must be an integer above 0")
    return int(value)
