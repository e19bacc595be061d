"""Tell from a tokenizer's added tokens, and from `octorec.json`, which tokens stand for the codes of semantic IDs.

OpenOneRec, OneReason and MiniOneRec are recognised. Of other tokens the folder's `octorec.json` says what they are;
what it does not say stays as it was recognised.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from octorec.errors import InputError, MismatchError
from octorec.files import read_json
from octorec.models.begin_token import require_domain
from octorec.models.checkpoint_folder import CONFIG, VERSION
from octorec.models.layout_file import PLACE, End, LayoutFile, read_layout_file
from octorec.models.level_tokens import levels_of
from octorec.models.sid_tokens import EndToken, SidTokens
from octorec.models.vocabulary import Vocabulary, read_vocabulary

LETTERED = re.compile(r"<(s_)?([a-z])_([0-9]+)>")
COUNTED = {"<|sid_{}|>": re.compile(r"<\|sid_([0-9]+)\|>"), "C{}": re.compile("C([0-9]+)")}
BEGIN = re.compile(r"<\|([a-z]+)_begin\|>")
SID_BEGIN, SID_END = "<|sid_begin|>", "<|sid_end|>"
DOMAINS = {"prod": "product", "living": "live"}  # OneReason's words for domains, where catalogs have others
OPENONEREC_LEVELS = 3
SHOWN = 6  # tokens in an error
OF_TOKENS = {"levels", "numbers", "codebook_sizes", "begin", "end"}  # keys of octorec.json whose tokens are looked for
SAY = f"docs/qwen.md has examples of what {VERSION} beside {CONFIG} may say"


@dataclass(frozen=True)
class Layout:
    """A Layout says how a folder's model reads and writes items.

    family: whose prompts are made. sids: the tokens. item: how an item stands in a history, `{}` for its codes; None:
    the family's way. separator: between items; None: the family's. prompt: a jinja template of the user's in the
    folder. recognised: in words, by what. notes: what a reader should know.
    """

    family: str
    sids: SidTokens
    vocabulary: Vocabulary
    recognised: str
    item: str | None = None
    separator: str | None = None
    prompt: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guess:
    """A Guess is what the added tokens alone say of a layout: texts, as they would stand in `octorec.json`."""

    family: str
    levels: tuple[str, ...]
    begin: Mapping[str, str] = field(default_factory=dict)
    end: tuple[str, ...] = ()
    item: str | None = None
    notes: tuple[str, ...] = ()


def read_layout(folder: str | Path) -> Layout:
    """Return the layout of a folder's tokens.

    Raises InputError for tokens that are none of semantic IDs, or of no known family without an `octorec.json` that
    says what they are; for two tokens of one code, a level without tokens, and a token that is not there.
    MismatchError: tokens beyond the vocabulary of config.json.
    """
    folder = Path(folder)
    vocabulary, said = read_vocabulary(folder), read_layout_file(folder)
    guess = Guess(said.family or "chat", ()) if said.levels is not None else recognise(vocabulary)
    own = [key for key in LayoutFile.__dataclass_fields__ if getattr(said, key) is not None]
    source = VERSION if OF_TOKENS & {*own} else f"tokenizer {folder}"
    patterns = guess.levels if said.levels is None else said.levels
    levels = levels_of(vocabulary, patterns, said.numbers, said.codebook_sizes, source)
    begin: Mapping[str, str] = guess.begin
    if said.begin is not None:
        begin = {"": said.begin} if isinstance(said.begin, str) else said.begin
    for domain in begin:
        require_domain(domain, f"{VERSION}: begin")
    tokens = {domain: _id(vocabulary, text, f"{VERSION}: begin") for domain, text in begin.items()}
    if said.end is not None:
        ends = _ends(vocabulary, said.end, f"{VERSION}: end")
    else:
        ends = _ends(vocabulary, guess.end, f"tokenizer {folder}: eos_token")
    try:
        sids = SidTokens(levels, tokens, ends, said.scores_over or "vocabulary")
    except InputError as error:
        raise InputError(f"{source}: {error.field}", error.value, error.allowed) from None
    _check_size(folder, sids, vocabulary)
    recognised = f"{guess.family}, by its added tokens" if said.levels is None else VERSION
    if own and said.levels is None:
        recognised += f"; {', '.join(own)}: {VERSION}"
    family = said.family or guess.family
    notes = guess.notes if not own else ()
    return Layout(family, sids, vocabulary, recognised, said.item or guess.item, said.separator, said.prompt, notes)


def recognise(vocabulary: Vocabulary) -> Guess:
    """Return the layout that added tokens show by themselves; an InputError that says what was found where none."""
    lettered = {prefix: _letters(vocabulary, prefix) for prefix in ("s_", "")}
    counted = {pattern: _texts(vocabulary, shape) for pattern, shape in COUNTED.items()}
    kinds = [f"<{prefix}a_{{}}>" for prefix, found in lettered.items() if found]
    kinds += [pattern for pattern, found in counted.items() if found]
    if len(kinds) > 1:
        raise _refused(vocabulary, f"tokens of several kinds were found, {' and '.join(kinds)}: say in 'levels' which")
    if lettered["s_"]:
        return _kuaishou(vocabulary, lettered["s_"])
    if lettered[""]:
        return _minionerec(vocabulary, lettered[""])
    for pattern, texts in counted.items():
        if texts:
            why = "their numbers run on over the levels, and no file says how many codes a level has"
            say = (
                f'{{"levels": ["{pattern}", "{pattern}", ...], "numbers": "run_on", "codebook_sizes": [256, 256, ...]}}'
            )
            raise _refused(vocabulary, f"{len(texts):,} tokens {pattern} were found; {why}: {say}")
    raise _refused(vocabulary, "no token of semantic IDs was found, such as <s_a_0>, <a_0>, <|sid_0|> or C0")


def _kuaishou(vocabulary: Vocabulary, levels: dict[str, list[str]]) -> Guess:
    """Return the layout of tokens `<s_a_0>`: OpenOneRec's, or OneReason's with a begin token for each domain."""
    patterns = _patterns(vocabulary, "s_", levels)
    begins = {found[1]: text for text in vocabulary.added if (found := BEGIN.fullmatch(text))}
    special = any(vocabulary.added[text].special for texts in levels.values() for text in texts)
    if len(patterns) == OPENONEREC_LEVELS and not special:
        if set(begins) == {"sid"}:
            item = SID_BEGIN + PLACE + (SID_END if SID_END in vocabulary.added else "")
            return Guess("openonerec", patterns, {"": SID_BEGIN}, item=item)
        if begins and SID_END not in vocabulary.added:
            return Guess("onereason", patterns, {DOMAINS.get(word, word): text for word, text in begins.items()})
    levels_found = f"{len(patterns)} levels, {patterns[0]} to {patterns[-1]}{', special tokens' if special else ''}"
    around = [text for text in (*begins.values(), SID_END) if text in vocabulary.added]
    why = "OpenOneRec has 3 levels of tokens that are not special and <|sid_begin|>, OneReason several begin tokens"
    around_them = f", and around them {', '.join(around)}" if around else ""
    say = f'{{"levels": [{", ".join(f"{one!r}" for one in patterns)}], "begin": ..., "end": [...]}}'.replace("'", '"')
    raise _refused(vocabulary, f"codes were found at {levels_found}{around_them}. {why}; these are neither: {say}")


def _minionerec(vocabulary: Vocabulary, levels: dict[str, list[str]]) -> Guess:
    """Return MiniOneRec's layout: after the codes `<a_12><b_7><c_201>` come a line break and the end of the text."""
    patterns = _patterns(vocabulary, "", levels)
    if vocabulary.end is None:
        raise _refused(vocabulary, 'no file says which token ends a text (eos_token): {"end": ["\\n", "<|im_end|>"]}')
    note = f"LC-Rec and MIMIGenRec write the same tokens with other prompts and ends: they need {VERSION}"
    return Guess("minionerec", patterns, {}, ("\n", vocabulary.end), notes=(note,))


def _letters(vocabulary: Vocabulary, prefix: str) -> dict[str, list[str]]:
    """Return the added tokens of each letter, as `<s_a_0>` with the prefix `s_` and `<a_0>` without one."""
    found: dict[str, list[str]] = {}
    for text in vocabulary.added:
        if (match := LETTERED.fullmatch(text)) and (match[1] or "") == prefix:
            found.setdefault(match[2], []).append(text)
    return found


def _patterns(vocabulary: Vocabulary, prefix: str, levels: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the levels' patterns by their letters, which follow on each other from a on."""
    last = max(levels)
    for letter in (chr(code) for code in range(ord("a"), ord(last))):
        if letter not in levels:
            found = ", ".join(f"<{prefix}{one}_{{}}>" for one in sorted(levels))
            raise _refused(
                vocabulary, f"{found} were found, and no token <{prefix}{letter}_...>: a level has no tokens"
            )
    return tuple(f"<{prefix}{letter}_{{}}>" for letter in sorted(levels))


def _texts(vocabulary: Vocabulary, shape: re.Pattern[str]) -> list[str]:
    return [text for text in vocabulary.added if shape.fullmatch(text)]


def _refused(vocabulary: Vocabulary, why: str) -> InputError:
    """Return the error of a tokenizer that shows no layout, with some of what was found."""
    texts = [text for text in vocabulary.added if not any(map(str.isdecimal, text))] or list(vocabulary.added)
    some = f", among them {', '.join(texts[:SHOWN])}" if texts else ""
    return InputError(
        "tokenizer",
        str(vocabulary.folder),
        f"{why}. {', '.join(vocabulary.files)}: {len(vocabulary.added):,} added tokens{some}. {SAY}",
    )


def _ends(vocabulary: Vocabulary, said: tuple[str | End, ...], where: str) -> tuple[EndToken, ...]:
    ends = [End(one) if isinstance(one, str) else one for one in said]
    return tuple(EndToken(_id(vocabulary, one.token, where), one.scored) for one in ends)


def _id(vocabulary: Vocabulary, text: str, where: str) -> int:
    """Return the id of a token by its text; an InputError where the text is no single token."""
    id = vocabulary.find(text)
    if id is None:
        raise InputError(where, text, f"must be one token of the vocabulary ({', '.join(vocabulary.files)})")
    return id


def _check_size(folder: Path, sids: SidTokens, vocabulary: Vocabulary) -> None:
    """Refuse tokens that the model has no row for, by what config.json says of its vocabulary."""
    rows = vocabulary_size(folder)
    if rows is not None and sids.largest >= rows:
        used = [*(ids[ids >= rows] for ids in sids.levels), [one for one in sids.begin.values() if one >= rows]]
        beyond = np.concatenate([*used, [end.id for end in sids.end if end.id >= rows]]).astype(int)
        text = vocabulary.text_of().get(int(beyond[0]), "")
        allowed = f"{len(beyond):,} tokens of items lie beyond it, the first is {text!r} ({beyond[0]})"
        raise MismatchError(f"{folder / CONFIG}: vocab_size", rows, f"{allowed}: weights and tokenizer do not belong")


def vocabulary_size(folder: Path) -> int | None:
    """Return the rows of the vocabulary that a folder's config.json says; None where it says none."""
    if not os.path.lexists(folder / CONFIG):
        return None
    rows = read_json(folder / CONFIG, "checkpoint", infinite=True).get("vocab_size")
    return rows if isinstance(rows, int) and not isinstance(rows, bool) else None
