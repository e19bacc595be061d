"""People say in `octorec.json`, beside config.json, what a folder's tokenizer does not: docs/qwen.md has each key."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from octorec.errors import InputError, check_known
from octorec.files import read_json
from octorec.models.checkpoint_folder import VERSION
from octorec.models.sid_tokens import ScoresOver
from octorec.settings import settings_of

if TYPE_CHECKING:
    from pydantic import TypeAdapter

STAMP = ("format", "written_by")  # what OctoRec writes there of a folder of its own
FILE_BYTES = 2**26
PLACE = "{}"  # where a number stands in a token's text, and an item's codes in a history

Prompts = Literal["openonerec", "onereason", "minionerec", "chat"]


@dataclass(frozen=True)
class End:
    """An End is a token that follows an item's codes, by its text. scored: it counts in the item's score."""

    token: str
    scored: bool = True


@dataclass(frozen=True)
class LayoutFile:
    """A LayoutFile holds the keys of `octorec.json`; None stands for what the tokenizer says.

    family: whose prompts are made. levels: for each level a text with `{}` where the number of the code stands, or the
    tokens of its codes in order. numbers: whether a level's numbers begin at 0, or go on after the level before.
    codebook_sizes: codes of each level. begin: the token that a prompt ends with, or an object of them by domain.
    end: tokens after the last code. item: how an item stands in a history, `{}` for its codes. separator: between
    items. prompt: the name of a jinja template in the folder.
    """

    family: Prompts | None = None
    levels: tuple[str | tuple[str, ...], ...] | None = None
    numbers: Literal["each_level", "run_on"] | None = None
    codebook_sizes: tuple[int, ...] | None = None
    begin: str | dict[str, str] | None = None
    end: tuple[str | End, ...] | None = None
    scores_over: ScoresOver | None = None
    item: str | None = None
    separator: str | None = None
    prompt: str | None = None


KEYS = (*settings_of(LayoutFile), *STAMP)


def read_layout_file(folder: str | Path) -> LayoutFile:
    """Return what `octorec.json` of a folder says of its tokens and prompts; nothing where there is no such file.

    Raises InputError for unknown keys, which it answers with the known ones, and for values of another kind.
    """
    path = Path(folder, VERSION)
    if not os.path.lexists(path):
        return LayoutFile()
    return layout_file(read_json(path, VERSION, FILE_BYTES), VERSION)


def layout_file(raw: Mapping[str, Any], where: str) -> LayoutFile:
    """Return the LayoutFile of an object; `where` stands before the names of keys in errors."""
    check_known(where, raw, KEYS)
    given = {key: value for key, value in raw.items() if key not in STAMP and value is not None}
    from pydantic import ValidationError

    try:
        found = _adapter().validate_json(json.dumps(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:  # no text that UTF-8 can write
            raise InputError(where, dict(given), "must be text that UTF-8 can write") from None
        key = str(first["loc"][0])
        raise InputError(f"{where}: {key}", given[key], f"must be {ALLOWED[key]}") from None
    if found.item is not None and found.item.count(PLACE) != 1:
        raise InputError(f"{where}: item", found.item, f"must be {ALLOWED['item']}, once")
    return found


@cache
def _adapter() -> "TypeAdapter[LayoutFile]":
    from pydantic import ConfigDict, TypeAdapter, with_config

    return TypeAdapter(with_config(ConfigDict(strict=True, extra="forbid"))(LayoutFile))


ALLOWED = {
    "family": "openonerec, onereason, minionerec or chat",
    "levels": "a list with, for each level, a text such as '<a_{}>', or the list of its tokens",
    "numbers": "each_level or run_on",
    "codebook_sizes": "a list with the number of codes of each level",
    "begin": "the text of a token, or an object of such texts by domain",
    "end": "a list of texts of tokens, or of objects such as {'token': '<|im_end|>', 'scored': true}",
    "scores_over": "vocabulary or level",
    "item": "a text with {} where an item's codes stand",
    "separator": "a text",
    "prompt": "the name of a file in the folder",
}
