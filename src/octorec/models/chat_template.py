"""Templates of prompts run in jinja's sandbox, and what a user wrote stays apart from what the template wrote.

Each character that is not the template's is written as a character of the private planes of Unicode while the template
runs, and back afterwards. So whatever a template does to a message (strips, splits or joins it), each character of the
result is known to be the user's or the template's, and no word of a user makes a template take another way. White
space stays as it is: a template strips it, and it makes no token on its own.
"""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from octorec.errors import InputError
from octorec.files import read_json
from octorec.models.vocabulary import FILE_BYTES, TOKENIZER_CONFIG
from octorec.reading import read_text, reason

TEMPLATE_FILE = "chat_template.jinja"
MOST_SOURCE = 2**20  # bytes of a template
PRIVATE = (*range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE))
SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


class Piece(NamedTuple):
    """A Piece is a part of a prompt: text of the template's or the user's, or token ids that stand for themselves."""

    kind: Literal["template", "user", "ids"]
    text: str = ""
    ids: tuple[int, ...] = ()


class Marks:
    """Marks write a request's texts and token ids as characters that no template has, and read them back.

    source: the template, whose characters are avoided.
    """

    def __init__(self, source: str):
        avoided = set(map(ord, source))
        self._free = (code for code in PRIVATE if code not in avoided)
        self._mark_of: dict[str, str] = {}
        self._user: dict[str, str] = {}
        self._ids: dict[str, tuple[int, ...]] = {}

    def text(self, user: str) -> str:
        """Return the marks of a user's text, one a character."""
        for character in set(user):
            if character not in self._mark_of:
                self._mark_of[character] = character if character.isspace() else self._next()
                self._user[self._mark_of[character]] = character
        return "".join(map(self._mark_of.__getitem__, user))

    def ids(self, ids: Sequence[int]) -> str:
        """Return one mark for token ids; for none an empty text."""
        if not len(ids):
            return ""
        mark = self._next()
        self._ids[mark] = tuple(map(int, ids))
        return mark

    def pieces(self, rendered: str) -> list[Piece]:
        """Return the pieces of what a template made of marks."""
        out: list[Piece] = []
        for kind, characters in groupby(rendered, self._kind):
            if kind == "ids":
                out += [Piece("ids", ids=self._ids[one]) for one in characters]
            elif kind == "user":
                out.append(Piece("user", "".join(self._user[one] for one in characters)))
            else:
                out.append(Piece("template", "".join(characters)))
        return out

    def _kind(self, character: str) -> Literal["template", "user", "ids"]:
        if character in self._ids:
            return "ids"
        return "user" if character in self._user and not character.isspace() else "template"

    def _next(self) -> str:
        try:
            return chr(next(self._free))
        except StopIteration:
            raise InputError("messages", "...", f"has more than {len(PRIVATE):,} different characters") from None


class Template:
    """A Template is jinja source with the helpers that transformers gives chat templates. where: its file, for errors.

    Raises InputError for source that is no jinja.
    """

    def __init__(self, source: str, where: str):
        self.source, self.where = source, where
        try:
            self._template = _environment().from_string(source)
        except (TemplateError, RecursionError) as error:
            raise InputError("template", where, f"is no jinja template ({reason(error)})") from error

    def render(self, variables: Mapping[str, Any]) -> str:
        """Return the text for `variables`; an InputError for what the template refuses or cannot do."""
        try:
            return self._template.render(**variables)
        except Exception as error:  # whatever a stranger's template raises
            raise InputError("template", self.where, f"refuses this prompt ({reason(error)})") from error


class _Generation(Extension):
    """A _Generation reads the tag that marks an assistant's words for training, and leaves what stands inside."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def read_template(path: Path, field: str) -> Template:
    """Return the template in a file of the folder."""
    return Template(read_text(path, field, MOST_SOURCE), str(path))


def chat_template(folder: Path) -> Template | None:
    """Return a folder's chat template: chat_template.jinja, else that of tokenizer_config.json; None without one."""
    if os.path.lexists(folder / TEMPLATE_FILE):
        return read_template(folder / TEMPLATE_FILE, "template")
    said = _tokenizer_config(folder).get("chat_template")
    if isinstance(said, list):  # several by name
        said = next(
            (one.get("template") for one in said if isinstance(one, dict) and one.get("name") == "default"), None
        )
    if said is not None and (not isinstance(said, str) or len(said) > MOST_SOURCE):
        raise InputError(f"{folder / TOKENIZER_CONFIG}: chat_template", said, "must be the text of a jinja template")
    return None if said is None else Template(said, f"{folder / TOKENIZER_CONFIG}: chat_template")


def special_tokens(folder: Path) -> dict[str, str]:
    """Return the texts that a template knows as bos_token, eos_token, pad_token and unk_token."""
    found = {}
    for key in SPECIAL_TOKENS:
        said = _tokenizer_config(folder).get(key)
        said = said.get("content") if isinstance(said, dict) else said
        if isinstance(said, str):
            found[key] = said
    return found


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / TOKENIZER_CONFIG
    return read_json(path, "tokenizer", FILE_BYTES) if os.path.lexists(path) else {}
