"""Probes are requests that an engine can surely answer: to warm it up, and to measure how its scores differ."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING

from octorec.engine.reader import CHUNK
from octorec.engine.request import Request
from octorec.engine.widths import Width, as_width
from octorec.models.features import any_features

if TYPE_CHECKING:
    from octorec.engine.engine import Engine

LOOKED_AT = 16  # requests whose scores are compared between buckets


def any_request(engine: "Engine", beam_width: Width = 1) -> Request:
    """Return a request that `engine` can surely answer: its first item, and zeros for what must be given."""
    return replace(probes(engine, 1)[0], beam_width=beam_width)


def probes(engine: "Engine", count: int) -> Sequence[Request]:
    """Return up to `count` requests, each of one item: as history, or its tokens as the prompt."""
    catalog, prompts = engine.catalog, engine.prompts
    places = range(0, len(catalog), max(1, len(catalog) // count))[:count]
    if prompts is None:
        features = any_features(engine.features)
        return [Request([catalog.item_ids[place]], k=1, features=features) for place in places]
    domain = next(iter(engine.own_domains or prompts.sids.begin), "")
    levels = prompts.sids.levels
    items = ([int(ids[code]) for ids, code in zip(levels, catalog.codes[place], strict=True)] for place in places)
    return [Request(k=1, input_ids=ids, domain=domain) for ids in items]


def measured_margin(engine: "Engine") -> float:
    """Return twice the largest difference of a code tuple's score, among the beams that probes get in every bucket.

    Where prompts are read in rooms of several sizes, buckets take these in turn.
    """
    asked = probes(engine, LOOKED_AT)
    first: list[dict[int, float]] = [{} for _ in asked]
    most = 0.0
    for bucket, room in zip(engine.buckets(), cycle(_rooms(engine)), strict=False):
        width = as_width(bucket.widths)
        parsed = [engine.parse(replace(one, beam_width=width)) for one in asked[: bucket.size]]
        with _filled_up(engine, room):
            found = engine.search([parsed[row % len(parsed)] for row in range(bucket.size)])
        for row, known in enumerate(first[: len(parsed)]):
            for node, total in zip(found.nodes[row].tolist(), found.scores[row].tolist(), strict=True):
                if total > -math.inf:
                    most = max(most, abs(known.setdefault(node, total) - total))
    return 2 * most


def _rooms(engine: "Engine") -> Sequence[int]:
    """Return numbers of tokens that chunks are to be filled up to: of each CUDA graph, or the most where none reads."""
    return engine.rooms or (min(CHUNK, engine.most_tokens),)


@contextmanager
def _filled_up(engine: "Engine", room: int) -> Iterator[None]:
    reader = engine.reader
    if reader is None:
        yield
        return
    reader.least = room
    try:
        yield
    finally:
        reader.least = 0
