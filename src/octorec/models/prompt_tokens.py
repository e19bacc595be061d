"""Turn the pieces of a prompt into token ids, so that no word of a user's becomes a control token.

A tokenizer finds its added tokens in a text, special or not, before it splits the rest into words. Here they are looked
for in the template's pieces alone. Of a user's words only whole semantic IDs become tokens. What lies between is
split as one text, as it would be without a user.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octorec.errors import InputError
from octorec.files import read_json
from octorec.models.chat_template import Piece
from octorec.models.sid_tokens import SidTokens
from octorec.models.vocabulary import FILE_BYTES, TOKENIZER, Vocabulary

if TYPE_CHECKING:  # an extra brings it, which models that read codes do not need
    from tokenizers import Tokenizer

REMEMBERED, SHORT = 1024, 400  # pieces of templates that come again with each item and request; characters of one


class PromptTokens:
    """PromptTokens read and write a folder's tokens.

    closers: tokens that may stand after a whole semantic ID in a user's text, such as `<|sid_end|>`.
    Raises InputError for a folder without tokenizer.json, or with one that the library does not read.
    """

    def __init__(self, vocabulary: Vocabulary, sids: SidTokens, closers: Sequence[str] = ()):
        path = vocabulary.folder / TOKENIZER
        if TOKENIZER not in vocabulary.files:
            say = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers writes it"
            raise InputError("tokenizer", str(path), f"is missing, and prompts need it: {say}")
        raw = read_json(path, "tokenizer", FILE_BYTES)
        self.added = {token.id: token for token in vocabulary.added.values()}
        self.sids, self.closers = sids, {found for text in closers if (found := vocabulary.find(text)) is not None}
        self._all = _tokenizer({**raw, "added_tokens": _with_missing(raw, vocabulary)}, path)
        self._plain = _tokenizer({**raw, "added_tokens": [], "post_processor": None}, path)
        self._unknown = _unknown(raw["model"], self._plain)
        self._remembered = lru_cache(REMEMBERED)(lambda text: tuple(self._found(text)))
        for token in vocabulary.added.values():
            if self._all.token_to_id(token.text) != token.id:
                raise InputError("tokenizer", str(path), f"gives {token.text!r} another id than {token.id}")

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the token ids of a prompt."""
        out: list[int] = []
        text = ""
        for part in self._parts(pieces):
            if isinstance(part, str):
                text += part
                continue
            out += self._words(text)
            out += part
            text = ""
        return out + self._words(text)

    def controls(self, text: str) -> list[int] | None:
        """Return the tokens of a text that added tokens alone make up; None where there are words in it."""
        found: list[int] = []
        for part in self._found(text):
            if isinstance(part, str):
                return None
            found.append(part[0])
        return found

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, control tokens included."""
        return self._all.decode(list(map(int, ids)), skip_special_tokens=False)

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each row of tokens, control tokens included."""
        found: list[str] = self._all.decode_batch(list(rows), skip_special_tokens=False)
        return found

    def codes(self, ids: Sequence[int]) -> np.ndarray:
        """Return int64 [n, L]: the codes of the whole semantic IDs that stand in a prompt, in their order."""
        found, at, ids = [], 0, list(ids)
        while at < len(ids):
            if (codes := self.item_at(ids, at)) is None:
                at += 1
            else:
                found.append(codes)
                at += len(codes)
        return np.array(found, np.int64).reshape(-1, len(self.sids.levels))

    def item_at(self, ids: Sequence[int | str], at: int) -> list[int] | None:
        """Return the codes of the semantic ID whose tokens begin at place `at`; None where none begins there."""
        if ids[at] not in self._code_of[0] or at + len(self._code_of) > len(ids):
            return None
        codes = [table.get(id, -1) for table, id in zip(self._code_of, ids[at : at + len(self._code_of)], strict=True)]
        return None if -1 in codes else codes

    @cached_property
    def _code_of(self) -> list[dict[Any, int]]:
        """Return for each level the code of each token."""
        return [{int(id): code for code, id in enumerate(ids) if id >= 0} for ids in self.sids.levels]

    def _parts(self, pieces: Sequence[Piece]) -> Iterator[str | tuple[int, ...]]:
        """Yield texts without tokens in them, and tokens."""
        for piece in pieces:
            if piece.kind == "ids":
                yield piece.ids
            elif piece.kind == "template":
                found = self._remembered if len(piece.text) <= SHORT else self._found
                yield from (part if isinstance(part, str) else part[:1] for part in found(piece.text))
            else:
                yield from self._of_user(list(self._found(piece.text)))

    def _found(self, text: str) -> Iterator[str | tuple[int, str]]:
        """Yield a text in parts: added tokens, each with its own text, and what lies between."""
        coded, at = _encoded(self._all, text), 0
        for id, (start, end) in zip(coded.ids, coded.offsets, strict=True):
            if id not in self.added or start < at:
                continue
            if id == self._unknown and self.added[id].text not in text[start:end]:  # a word, and no token's text
                continue
            if start > at:
                yield text[at:start]
            yield id, text[start:end]
            at = end
        if at < len(text):
            yield text[at:]

    def _of_user(self, parts: list[str | tuple[int, str]]) -> Iterator[str | tuple[int]]:
        """Yield a user's parts: tokens for whole semantic IDs and what belongs to them, texts for all others."""
        ids = [part if isinstance(part, str) else part[0] for part in parts]
        keep = [False] * len(parts)
        at = 0
        while at < len(parts):
            if self.item_at(ids, at) is None:
                at += 1
                continue
            after = at + len(self._code_of)
            keep[at:after] = [True] * (after - at)
            if at and ids[at - 1] in self.sids.begin.values():
                keep[at - 1] = True
            if after < len(parts) and ids[after] in self.closers:
                keep[after] = True
                after += 1
            at = after
        for part, kept in zip(parts, keep, strict=True):
            yield part if isinstance(part, str) else part[:1] if kept else part[1]

    def _words(self, text: str) -> list[int]:
        """Return the tokens of a text in which no added token is looked for."""
        if not text:
            return []
        ids = list(_encoded(self._plain, text).ids)
        for id in ids:
            if id in self.added and id != self._unknown:
                raise InputError("prompt", self.added[id].text, "would become a token of its own: leave it out")
        return ids


def _with_missing(raw: dict[str, Any], vocabulary: Vocabulary) -> list[Any]:
    """Return the added tokens of tokenizer.json and those that only other files name, by id, as the library asks."""
    entries = raw.get("added_tokens") or []
    there = {entry.get("content") for entry in entries}
    missing = [token for token in vocabulary.added.values() if token.text not in there]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    others = [{"id": one.id, "content": one.text, **flags, "special": one.special} for one in missing]
    return sorted([*entries, *others], key=_id)


def _id(entry: dict[str, Any]) -> int:
    found: int = entry["id"]
    return found


def _unknown(model: dict[str, Any], tokenizer: "Tokenizer") -> int | None:
    """Return the id that stands for a word which the tokenizer does not know; None where it knows all, by bytes."""
    text, place = model.get("unk_token"), model.get("unk_id")
    found: int | None = place if text is None else tokenizer.token_to_id(text)
    return found


def _tokenizer(raw: dict[str, Any], path: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_str(json.dumps(raw))
    except Exception as error:  # the library raises Exception itself
        raise InputError("tokenizer", str(path), f"is not read ({error})") from error
    made.no_truncation()
    made.no_padding()
    return made


def _encoded(tokenizer: "Tokenizer", text: str) -> Any:
    try:
        return tokenizer.encode(text, add_special_tokens=False)
    except TypeError:  # lone surrogates, which UTF-8 has not
        raise InputError("prompt", text, "must be text that UTF-8 can write") from None
