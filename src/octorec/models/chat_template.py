"""Templates of prompts run in jinja's sandbox, and what a user wrote stays apart from what the template wrote.

Each character that is not the template's is written as a character of the private planes of Unicode while the template
runs, and back afterwards. So whatever a template does to a message (strips, splits or joins it), each character of the
result is known to be the user's or the template's, and no word of a user makes a template take another way. White
space stays as it is: a template strips it, and it makes no token on its own.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
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
USER, IDS, MOST_MARKS = 0xF0000, 0x100000, 0xFFFE  # the first code points of the private planes, and how many each has
RUNS = re.compile("(?P<user>[\U000f0000-\U000fffff]+)|(?P<ids>[\U00100000-\U0010ffff])|[^\U000f0000-\U0010ffff]+")
SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


class Piece(NamedTuple):
    """A Piece is a part of a prompt: text of the template's or the user's, or token ids that stand for themselves."""

    kind: Literal["template", "user", "ids"]
    text: str = ""
    ids: tuple[int, ...] = ()


class Marks:
    """Marks write a request's texts and token ids as characters that no template has, and read them back."""

    def __init__(self) -> None:
        self._mark_of: dict[int, int] = {}  # code points
        self._ids: list[tuple[int, ...]] = []

    def text(self, user: str) -> str:
        """Return the marks of a user's text, one a character."""
        for character in set(user):
            if ord(character) not in self._mark_of and not character.isspace():
                self._mark_of[ord(character)] = USER + len(self._mark_of)
        if len(self._mark_of) > MOST_MARKS:
            raise InputError("prompt", f"{len(self._mark_of):,} different characters", f"at most {MOST_MARKS:,}")
        return user.translate(self._mark_of)

    def ids(self, ids: Sequence[int]) -> str:
        """Return one mark for token ids; for none an empty text."""
        if not len(ids):
            return ""
        if len(self._ids) == MOST_MARKS:
            raise InputError("prompt", f"more than {MOST_MARKS:,} items", "leave the oldest out")
        self._ids.append(tuple(ids))
        return chr(IDS + len(self._ids) - 1)

    def pieces(self, rendered: str) -> list[Piece]:
        """Return the pieces of what a template made of marks."""
        user_of = {mark: character for character, mark in self._mark_of.items()}
        out: list[Piece] = []
        for run in RUNS.finditer(rendered):
            if run.lastgroup == "ids":
                out.append(Piece("ids", ids=self._ids[ord(run[0]) - IDS]))
            elif run.lastgroup == "user":
                out.append(Piece("user", run[0].translate(user_of)))
            else:
                out.append(Piece("template", run[0]))
        return out


class Template:
    """A Template is jinja source with the helpers that transformers gives chat templates. where: its file, for errors.

    Raises InputError for source that is no jinja, or has characters that stand for a user's here.
    """

    def __init__(self, source: str, where: str):
        self.source, self.where = source, where
        if any(ord(character) >= USER for character in set(source)):
            raise InputError("template", where, "holds characters of Unicode's private planes")
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
