"""From requests to the tensors of a batch, on the host.

Letters: B requests, S context items, L levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from octorec.catalog.catalog import Catalog
from octorec.engine.items import ItemFilter, banned_leaves, item_filter, lookup
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.models.config import UserField, encode_user
from octorec.models.context import ContextBatch


@dataclass(frozen=True)
class ParsedRequest:
    """A request after every check against one version of the catalog; what it asks for is in no other version's terms.

    codes [1..max_context, L] int64 (-1 for an empty history), user [fields]. banned: leaves that its exclusions empty.
    """

    catalog: Catalog
    codes: np.ndarray
    user: list[float]
    filter: ItemFilter
    banned: np.ndarray
    k: int
    width: int
    notes: list[str]


@dataclass(frozen=True)
class Limits:
    """What an engine can take of one request. See `EngineConfig`."""

    max_context: int
    fields: tuple[UserField, ...]
    default_width: int
    widest: int
    max_banned: int


def parse(request: Request, catalog: Catalog, limits: Limits, drop_unknown: bool = False) -> ParsedRequest:
    """Check a request against the catalog and the engine's limits, and look everything up.

    drop_unknown: leave ids that the catalog lacks out of history and exclude, with a note, instead of an InputError.
    """
    width = limits.default_width if request.beam_width is None else request.beam_width
    if width > limits.widest:
        raise InputError("beam_width", width, f"at most {limits.widest} in this engine")
    if request.k > width:
        raise InputError("k", request.k, f"at most beam_width = {width}")
    user = encoded_user(limits.fields, request.user)
    notes: list[str] = []
    dropped = notes if drop_unknown else None
    history, max_context = lookup(catalog, "history", request.history, dropped), limits.max_context
    chosen = item_filter(catalog, request.exclude, request.allow, dropped)
    if len(history) > max_context:
        notes.append(f"history has {len(history)} items: the newest {max_context} are used")
        history = history[-max_context:]
    if len(history) == 0 and not request.user:
        allowed = "give at least one item" + (", or user fields" if limits.fields else "")
        raise InputError("history", [], "; ".join([allowed, *notes]))
    codes = (
        catalog.codes.take(history, 0).astype(np.int64) if len(history) else np.full((1, catalog.codes.shape[1]), -1)
    )
    banned = banned_leaves(catalog, chosen)
    if len(banned) > limits.max_banned:
        raise InputError("exclude", f"{len(banned)} code tuples", f"at most max_banned = {limits.max_banned}: raise it")
    return ParsedRequest(catalog, codes, user, chosen, banned, request.k, width, notes)


def encoded_user(fields: tuple[UserField, ...], user: Mapping[str, Any]) -> list[float]:
    """`encode_user`, with every value finite in float32."""
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


def context_batch(parsed: Sequence[ParsedRequest], size: int, max_context: int, device: torch.device) -> ContextBatch:
    """Codes and user fields of `parsed`, filled up to `size` requests (copies of an item of code 0, length 1)."""
    levels = parsed[0].codes.shape[1]
    codes = np.zeros((size, max_context, levels), dtype=np.int64)
    lengths = np.ones(size, dtype=np.int64)
    user = np.zeros((size, len(parsed[0].user)), dtype=np.float32)
    for row, request in enumerate(parsed):
        lengths[row] = len(request.codes)
        codes[row, : lengths[row]] = request.codes
        user[row] = request.user
    return ContextBatch(*(torch.from_numpy(array).to(device) for array in (lengths, codes, user)))
