"""Find the token of each code of each level, by patterns or by lists of tokens."""

from collections.abc import Sequence

import numpy as np

from octorec.errors import InputError
from octorec.models.checkpoint_folder import VERSION
from octorec.models.layout_file import PLACE
from octorec.models.sid_tokens import MOST_CODES, MOST_LEVELS
from octorec.models.vocabulary import Vocabulary, byte_level

DIGITS = 9  # of a number at most
Pattern = str | Sequence[str]


def levels_of(
    vocabulary: Vocabulary,
    patterns: Sequence[Pattern],
    numbers: str | None,
    sizes: Sequence[int] | None,
    where: str = VERSION,
) -> tuple[np.ndarray, ...]:
    """Return for each level int64 [codes]: the token ids of its codes, -1 where there is none.

    patterns: for each level a text with one `{}` for a number, or the tokens of its codes in order.
    numbers: `run_on` where a level's numbers go on after those of the level before; else they begin at 0.
    sizes: the codes of each level; None: as many as the largest number says. where: who said so, for errors.
    Raises InputError: no level, a pattern without its place, no token of a level, two tokens of one code.
    """
    if not 1 <= len(patterns) <= MOST_LEVELS:
        raise InputError(f"{where}: levels", list(patterns), f"must be 1 to {MOST_LEVELS} levels")
    if sizes is not None and (len(sizes) != len(patterns) or not all(1 <= size <= MOST_CODES for size in sizes)):
        allowed = f"must be {len(patterns)} integers from 1 to {MOST_CODES:,}, one a level"
        raise InputError(f"{where}: codebook_sizes", list(sizes), allowed)
    texts = [one for one in patterns if isinstance(one, str)]
    if numbers is None and len(set(texts)) < len(texts):
        say = "run_on (with codebook_sizes) where numbers go on from level to level, each_level where tokens are shared"
        raise InputError(f"{where}: numbers", None, f"two levels have one pattern: say {say}")
    run_on = numbers == "run_on"
    if run_on and sizes is None:
        raise InputError(f"{where}: codebook_sizes", None, "is needed where numbers run on over the levels")
    out, start = [], 0
    for place, pattern in enumerate(patterns):
        size = None if sizes is None else sizes[place]
        here = f"{where}: levels.{place}"
        if isinstance(pattern, str):
            last = start + sum(sizes[place:]) if run_on and sizes is not None else size
            found = _numbered(vocabulary, pattern, here, last)
            out.append(_level(found, start if run_on else 0, size, here, pattern))
        else:
            out.append(_listed(vocabulary, pattern, size, here))
        start += size or 0
    return tuple(out)


def _numbered(vocabulary: Vocabulary, pattern: str, where: str, most: int | None) -> dict[int, int]:
    """Return the token id of each number that stands in a token of the form `pattern`.

    most: numbers are below it. An added token with a larger one is refused; the tokenizer's own is another word.
    """
    if pattern.count(PLACE) != 1:
        raise InputError(where, pattern, f"must have {PLACE} once, where the number of the code stands")
    found: dict[int, tuple[str, int]] = {}
    added = {text: token.id for text, token in vocabulary.added.items()}
    for tokens, form in ((added, pattern), (vocabulary.base, byte_level(pattern))):
        before, after = form.split(PLACE)
        for text, id in tokens.items():
            number = text[len(before) : len(text) - len(after)]
            if not (text.startswith(before) and text.endswith(after) and number.isascii() and number.isdecimal()):
                continue
            if tokens is not added and text in added:
                continue
            code = int(number[:DIGITS])
            if len(number) > DIGITS or code >= (MOST_CODES if most is None else most):
                if tokens is added:
                    raise InputError(where, text, f"numbers of this level's tokens are below {most or MOST_CODES:,}")
                continue
            if code in found:
                raise InputError(where, text, f"is a second token of code {code}, beside {found[code][0]!r}")
            found[code] = (text, id)
    return {code: id for code, (_, id) in found.items()}


def _level(found: dict[int, int], start: int, size: int | None, where: str, pattern: str) -> np.ndarray:
    """Return the ids of the codes from number `start` on."""
    own = {number - start: id for number, id in found.items() if 0 <= number - start < (size or MOST_CODES)}
    if not own:
        numbers = "" if size is None else f" with a number from {start:,} to {start + size - 1:,}"
        raise InputError(where, pattern, f"no token of the vocabulary has this form{numbers}: the level has no tokens")
    ids = np.full(size or max(own) + 1, -1, np.int64)
    ids[list(own)] = list(own.values())
    return ids


def _listed(vocabulary: Vocabulary, texts: Sequence[str], size: int | None, where: str) -> np.ndarray:
    """Return the ids of tokens by their texts, in the order of their codes."""
    if not texts or len(texts) > (size or MOST_CODES):
        raise InputError(where, len(texts), f"must be 1 to {size or MOST_CODES:,} tokens")
    ids, used = np.full(size or len(texts), -1, np.int64), set[int]()
    for code, text in enumerate(texts):
        id = vocabulary.find(text)
        if id is None:
            raise InputError(f"{where}.{code}", text, "must be one token of the vocabulary")
        if id in used:
            raise InputError(f"{where}.{code}", text, "stands for an earlier code of this level as well")
        used.add(id)
        ids[code] = id
    return ids
