"""Requests are searched for batch by batch: those of the same beams together, as many as fit."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from octorec.engine.batch import ParsedRequest
from octorec.engine.buckets import Buckets
from octorec.engine.rank import Found, Ranked, by_popularity
from octorec.engine.widths import Widths

if TYPE_CHECKING:
    from octorec.engine.engine import Engine


def searched_once(
    engine: "Engine",
    todo: Iterable[tuple[int, ParsedRequest]],
    made_of: Callable[[Ranked], Any],
    answers: list[Any],
    broken: list[int],
) -> dict[int, ParsedRequest]:
    """Search for each request once; put its answer into `answers`, or its number into `broken`.

    Returns, by number, the requests whose search is to be repeated with wider beams.
    """
    again: dict[int, ParsedRequest] = {}

    def answer(batch: Mapping[int, ParsedRequest], found: Found) -> None:
        for row, (number, request) in enumerate(batch.items()):
            if not found.finite(row):
                broken.append(number)
                continue
            ranked = found.ranked(row, request)
            if (wider := engine.wider(ranked)) is None:
                answers[number] = made_of(ranked)
            else:
                again[number] = wider

    def searched_for() -> Iterator[tuple[int, ParsedRequest]]:
        for number, one in todo:
            if one.source == "popularity":
                answers[number] = made_of(by_popularity(one))
            else:
                yield number, one

    running: tuple[Mapping[int, ParsedRequest], Callable[[], Found]] | None = None
    try:
        for batch in batches(searched_for(), engine.policy.buckets, engine.most_tokens):
            done = None if running is None else (running[0], running[1]())
            running = batch, engine.launch([*batch.values()])
            if done is not None:
                answer(*done)
    except BaseException:
        if running is not None and engine.rows_are_fixed:
            running[1]()  # the device still reads what is staged
        raise
    if running is not None:
        answer(running[0], running[1]())
    return again


def batches(
    todo: Iterable[tuple[int, ParsedRequest]], buckets: Buckets, most_tokens: int
) -> Iterator[dict[int, ParsedRequest]]:
    """Yield batches of requests, by number, each as soon as it is full. most_tokens: of a batch's prompts."""
    waiting = defaultdict[Widths, dict[int, ParsedRequest]](dict)
    tokens = Counter[Widths]()  # of the prompts that wait
    for number, one in todo:
        beams = buckets.beams_of(one.widths)
        if waiting[beams] and 0 < most_tokens < tokens[beams] + _tokens(one):
            yield waiting.pop(beams)
            del tokens[beams]
        waiting[beams][number] = one
        tokens[beams] += _tokens(one)
        if len(waiting[beams]) == buckets.most(beams):
            yield waiting.pop(beams)
            del tokens[beams]
    yield from waiting.values()


def fitting(parsed: Sequence[ParsedRequest], most_tokens: int) -> int:
    """Return how many of the first requests a batch has room for, by the tokens of their prompts: one at least.

    most_tokens: 0 for a model that reads codes, of which all fit.
    """
    total = 0
    if not most_tokens:
        return len(parsed)
    for count, request in enumerate(parsed):
        total += _tokens(request)
        if total > most_tokens and count:
            return count
    return len(parsed)


def _tokens(request: ParsedRequest) -> int:
    return 0 if request.tokens is None else len(request.tokens)
