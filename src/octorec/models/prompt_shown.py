"""Show a prompt for people: which tokens stand in it, so that a word that only looks like one is told apart."""

import json
from collections.abc import Iterator

from octorec.models.prompt_tokens import PromptTokens


def shown_prompt(tokens: PromptTokens, ids: list[int]) -> Iterator[str]:
    """Yield a line for each added token, for each item, and for the words between them, in quotes as JSON writes them.

    Words that spell a token stand in quotes as well: only a line that says `token` or `item` is one.
    """
    yield f"{len(ids):,} tokens"
    words: list[int] = []
    at = 0
    while at < len(ids):
        codes = tokens.item_at(ids, at)
        if codes is None and ids[at] not in tokens.added:
            words.append(ids[at])
            at += 1
            continue
        yield from _words(tokens, words)
        words = []
        if codes is None:
            yield f"token {ids[at]} {tokens.text(ids[at : at + 1])}"
            at += 1
        else:
            inside = ids[at : at + len(codes)]
            yield f"item  {_listed(inside)} {tokens.text(inside)}"
            at += len(codes)
    yield from _words(tokens, words)


def _words(tokens: PromptTokens, ids: list[int]) -> Iterator[str]:
    if ids:
        yield f"words {json.dumps(tokens.text(ids), ensure_ascii=False)} {_listed(ids)}"


def _listed(ids: list[int]) -> str:
    return ",".join(map(str, ids))
