"""Requests become the tensors of a batch, on the host.

Letters: B requests, S context items, L levels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch

from octorec.catalog.catalog import Catalog
from octorec.engine.caps import Caps, caps_of
from octorec.engine.items import ItemFilter, banned_nodes, item_filter, lookup
from octorec.engine.limits import MOST_SEEN
from octorec.engine.policy import Policy
from octorec.engine.prompted import Prompting, items_with, prompt_of, refuse_prompt
from octorec.engine.request import Request
from octorec.engine.widths import AUTO, Widths
from octorec.errors import InputError
from octorec.models.features import Features, encode_features
from octorec.models.model import Inputs, Model, Reading, blank_inputs
from octorec.models.prompts import Prompt
from octorec.models.user import UserField, encode_user

AT_ONCE = 32  # requests whose histories are looked up together
LookedUp = tuple[Sequence[str], np.ndarray]  # the item ids of a history, and what `catalog.places` returns of them


@dataclass(frozen=True)
class ParsedRequest:
    """A ParsedRequest is a request after every check against one version of the catalog, and in that version's terms.

    codes [1..max_history, L] int64 (-1 for an empty history), user [fields], features [*shape] by name. banned: by
    level, the nodes that its exclusions empty. widths: beams at each level. source: what answers, model or popularity.
    auto: whether a search with wider beams follows where this one is not certified.
    tokens [n] int64: the whole prompt, for a model that reads tokens. scope: as `Request` has it. caps: over the list
    of its items; None for none.
    """

    catalog: Catalog
    codes: np.ndarray
    user: list[float]
    filter: ItemFilter
    banned: list[np.ndarray]
    k: int
    widths: Widths
    notes: list[str]
    source: Literal["model", "popularity"] = "model"
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    auto: bool = False
    tokens: np.ndarray | None = None
    scope: str = ""
    caps: Caps | None = None

    @property
    def reading(self) -> Reading:
        """Return what the model is given of it."""
        return Reading(self.codes, self.user, self.features, self.tokens)


@dataclass(frozen=True)
class Limits:
    """Limits are what an engine can take of one request. See `EngineConfig`.

    prompting: of a model that reads tokens; None: it reads codes.
    """

    max_history: int
    fields: tuple[UserField, ...]
    policy: Policy
    max_exclude: int
    exclude_seen: bool
    features: Features = field(default_factory=dict)
    prompting: Prompting | None = None


def parse_all(
    requests: Sequence[Request], catalog: Catalog, limits: Limits, drop_unknown: bool = False
) -> Iterator[ParsedRequest]:
    """Yield what `parse` returns of each request; some histories are looked up at once, as a look-up each is slow."""
    for start in range(0, len(requests), AT_ONCE):
        chunk = requests[start : start + AT_ONCE]
        places, end = catalog.places([*chain.from_iterable(request.history for request in chunk)]), 0
        for request in chunk:
            begin, end = end, end + len(request.history)
            yield parse(request, catalog, limits, drop_unknown, (request.history, places[begin:end]))


def parse(
    request: Request, catalog: Catalog, limits: Limits, drop_unknown: bool = False, looked_up: LookedUp | None = None
) -> ParsedRequest:
    """Check a request against the catalog and the engine's limits, and look everything up.

    drop_unknown: leave ids that the catalog lacks out of history and exclude, with a note, instead of an InputError.
    looked_up: the history in the place of the request's own; None: that one, which is looked up here.
    """
    ids, places = (request.history, None) if looked_up is None else looked_up
    widths = limits.policy.widths(request.beam_width, request.k)
    if len(request.exclude) > limits.max_exclude:
        raise InputError("exclude", f"{len(request.exclude)} ids", f"at most max_exclude = {limits.max_exclude}")
    user = encoded_user(limits.fields, request.user) if limits.prompting is None else []
    features = encode_features(limits.features, request.features)
    caps = caps_of(catalog, request.caps, request.distinct_codes, request.max_cosine)
    notes: list[str] = []
    dropped = notes if drop_unknown else None
    history = lookup(catalog, "history", ids, dropped, places)
    prompt = _prompt(request, limits, catalog, history, notes, drop_unknown)
    met = history if prompt is None or request.prompted is None else items_with(catalog, prompt.codes)
    exclude = lookup(catalog, "exclude", request.exclude, dropped)
    seen = met if (limits.exclude_seen and request.exclude_seen is None) or request.exclude_seen else met[:0]
    chosen = searched = item_filter(catalog, _both(exclude, seen), request.allow)
    if len(seen) > MOST_SEEN:
        searched = item_filter(catalog, _both(exclude, seen[-MOST_SEEN:]), request.allow)
    if len(history) > limits.max_history and prompt is None:
        also = ", and all of them are excluded" if len(seen) else ""
        notes.append(f"history has {len(history)} items: the newest {limits.max_history} are used{also}")
    if len(history) or request.user or request.features or prompt is not None:
        codes, banned = _codes(catalog, history[-limits.max_history :]), banned_nodes(catalog, searched)
        auto = (request.beam_width or limits.policy.default) == AUTO
        what = catalog, codes, user, chosen, banned, request.k, widths, notes
        tokens = None if prompt is None else prompt.ids
        return ParsedRequest(*what, features=features, auto=auto, tokens=tokens, scope=request.scope, caps=caps)
    _require_counts(catalog, limits, notes)
    notes.append(f"{'no item of the history is known' if len(ids) else 'history is empty'}: answered by popularity")
    nothing = banned_nodes(catalog, item_filter(catalog, seen[:0], ()))
    asked = catalog, _codes(catalog, history), user, chosen, nothing, request.k, widths, notes
    return ParsedRequest(*asked, source="popularity", caps=caps)


def _prompt(
    request: Request, limits: Limits, catalog: Catalog, history: np.ndarray, notes: list[str], drop: bool
) -> Prompt | None:
    """Return the prompt for a model that reads tokens."""
    if limits.prompting is None:
        refuse_prompt(request)
        return None
    return prompt_of(request, limits.prompting, catalog, history, limits.max_history, notes, drop)


def _both(exclude: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return np.append(exclude, seen) if len(seen) else exclude


def _codes(catalog: Catalog, history: np.ndarray) -> np.ndarray:
    """Return [1..n, L] int64."""
    if len(history) == 0:
        return np.full((1, catalog.codes.shape[1]), -1)
    return catalog.codes.take(history, 0).astype(np.int64)


def _require_counts(catalog: Catalog, limits: Limits, notes: list[str]) -> None:
    """Refuse a request without a history where nothing is known of how popular items are."""
    if catalog.interactions is not None:
        return
    fields = (", or user fields" if limits.fields else "") + (", or features" if limits.features else "")
    counts = "the catalog has no counts to answer by popularity: build it from interactions, or give its items a column"
    raise InputError("history", [], "; ".join([f"give at least one item{fields}", *notes, f"{counts} `interactions`"]))


def encoded_user(fields: tuple[UserField, ...], user: Mapping[str, Any]) -> list[float]:
    """Return what `encode_user` does; InputError for a value that is not finite in float32."""
    if not fields and not user:
        return []
    try:
        values = encode_user(fields, dict(user))
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(values, dtype=np.float32))
    except OverflowError:
        raise InputError("user", "an integer of hundreds of digits", "must fit float32") from None
    if not finite.all():
        name = fields[int(np.argmin(finite))].name
        raise InputError(f"user.{name}", user[name], "must be finite in float32")
    return values


def model_inputs(
    model: Model, parsed: Sequence[ParsedRequest], size: int, longest: int, device: torch.device
) -> Inputs:
    """Return what `model` reads of `parsed`, filled up to `size` requests; histories have at most `longest` items."""
    inputs = blank_inputs(model.inputs(longest), size)
    rows = {name: tensor.view(size, -1).numpy() for name, tensor in inputs.items()}

    def put(row: int, name: str, values: np.ndarray) -> None:
        rows[name][row, : values.size] = values.ravel()

    for row, request in enumerate(parsed):
        model.write(request.reading, partial(put, row))
    return {name: tensor.to(device) for name, tensor in inputs.items()}
