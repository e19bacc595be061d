"""A language model's folder says in several files which text is which token; this reads them, and runs no tokenizer.

`tokenizer.json` has everything. Folders of slow tokenizers have `vocab.json`, and in `added_tokens.json` and
`tokenizer_config.json` (`added_tokens_decoder`) what was added to it.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from octorec.errors import InputError
from octorec.files import read_json

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
ADDED, BASE, SPECIAL_MAP = "added_tokens.json", "vocab.json", "special_tokens_map.json"
FILE_BYTES = 2**27  # tokenizer.json of 200,000 tokens has 20 MB
MOST_ID = 2**31 - 1


class Added(NamedTuple):
    """An Added is a token that was added to a tokenizer's own. special: the tokenizer may drop it from its output."""

    text: str
    id: int
    special: bool


@dataclass(frozen=True)
class Vocabulary:
    """A Vocabulary holds the tokens of a folder.

    added: those that were added, by text. base: the ids of the tokenizer's own by the text of its file, in which a
    byte-level tokenizer writes a line break as `Ċ`. end: the text of the token that ends a text, None where no file
    says it. files: which were read.
    """

    folder: Path
    added: Mapping[str, Added]
    base: Mapping[str, int]
    end: str | None
    files: tuple[str, ...]

    def find(self, text: str) -> int | None:
        """Return the id of the token whose text is `text`; None where there is none."""
        if text in self.added:
            return self.added[text].id
        return next((self.base[form] for form in (byte_level(text), text) if form in self.base), None)

    @property
    def largest(self) -> int:
        """Return the largest token id."""
        return max((*self.base.values(), *(token.id for token in self.added.values())))

    def text_of(self) -> dict[int, str]:
        """Return the text of each token by its id, as people read it."""
        own = {id: readable(text) for text, id in self.base.items()}
        return own | {token.id: token.text for token in self.added.values()}


def read_vocabulary(folder: str | Path) -> Vocabulary:
    """Return the tokens of a folder.

    Raises InputError for a folder without any of the files, broken ones, and files that give one text two ids.
    """
    folder, added = Path(folder), dict[str, Added]()
    base: dict[str, int] = {}
    files = [name for name in (TOKENIZER, TOKENIZER_CONFIG, ADDED, BASE) if os.path.lexists(folder / name)]
    for name in files:
        raw = read_json(folder / name, "tokenizer", FILE_BYTES)
        for token in _added(name, raw, folder / name):
            if (before := added.get(token.text)) is None:
                added[token.text] = token
            elif before.id != token.id:
                allowed = f"token {token.text!r} has the id {before.id} in {files[0]} and {token.id} here: one is wrong"
                raise InputError("tokenizer", str(folder / name), allowed)
        if name in (TOKENIZER, BASE) and not base:
            base = _base(raw if name == BASE else _vocab_of(raw), folder / name)
    if not base and not added:
        names = f"{TOKENIZER}, or {BASE} with {ADDED}"
        raise InputError("tokenizer", str(folder), f"must be a folder with the tokenizer's files: {names}")
    return Vocabulary(folder, added, base, _end(folder), tuple(files))


def _added(name: str, raw: dict[str, Any], path: Path) -> Iterator[Added]:
    """Yield the added tokens that one file names."""
    pairs: list[tuple[Any, Any]]
    if name == TOKENIZER:
        entries = raw.get("added_tokens") or []
        if not isinstance(entries, list) or not all(map(_is_map, entries)):
            raise InputError("tokenizer", str(path), "must have a list of objects as added_tokens")
        pairs = [(one.get("id"), one) for one in entries]
    elif name == TOKENIZER_CONFIG:
        decoder = raw.get("added_tokens_decoder") or {}
        if not _is_map(decoder):
            raise InputError("tokenizer", str(path), "must have an object as added_tokens_decoder")
        pairs = [(_number(id), one) for id, one in decoder.items()]
    elif name == ADDED:
        pairs = [(id, {"content": text}) for text, id in raw.items()]
    else:
        return
    for id, one in pairs:
        text = one.get("content") if isinstance(one, dict) else None
        if not isinstance(text, str) or not text or not is_id(id):
            raise InputError("tokenizer", str(path), f"names an added token with the id {id!r} and the text {text!r}")
        yield Added(text, id, bool(one.get("special", False)))


def _number(id: str) -> int | str:
    return int(id) if id.isdecimal() and len(id) <= len(str(MOST_ID)) else id


def _vocab_of(raw: dict[str, Any]) -> Any:
    """Return the vocabulary of tokenizer.json's model: an object, or for unigrams a list of pairs."""
    model = raw.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, list):
        return {
            one[0]: place
            for place, one in enumerate(vocab)
            if isinstance(one, list) and one and isinstance(one[0], str)
        }
    return vocab or {}


def _base(vocab: Any, path: Path) -> dict[str, int]:
    if not _is_map(vocab) or not all(map(is_id, vocab.values())):
        raise InputError("tokenizer", str(path), "must hold an object of token ids by text")
    return dict(vocab)


def _end(folder: Path) -> str | None:
    """Return the text of the token that ends a text, from the first file that says it."""
    for name in (TOKENIZER_CONFIG, SPECIAL_MAP):
        if os.path.lexists(folder / name):
            said = read_json(folder / name, "tokenizer", FILE_BYTES).get("eos_token")
            said = said.get("content") if isinstance(said, dict) else said
            if isinstance(said, str) and said:
                return said
    return None


def byte_level(text: str) -> str:
    """Return `text` as the vocabulary of a byte-level tokenizer (GPT-2) writes it: a character for each byte."""
    return "".join(_characters()[byte] for byte in text.encode("utf-8", "replace"))


def readable(form: str) -> str:
    """Return the text that a byte-level vocabulary writes as `form`; `form` itself where it is no such text."""
    try:
        return bytes(map(_characters().index, form)).decode()
    except ValueError:  # another character, or bytes that are a part of one
        return form


@cache
def _characters() -> tuple[str, ...]:
    """Return the character of each byte: itself where it can be seen, the next ones from 256 on for the others."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return tuple(chr(byte) if byte in seen else chr(next(others)) for byte in range(256))


def is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_ID


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)
