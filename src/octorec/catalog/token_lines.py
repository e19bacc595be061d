"""Read JSON lines that name the tokens of each item, as NVIDIA's sid-gr-inference does.

{"item_id": "71", "token_ids": [151670, 159861, 168060], "metadata": {"title": "..."}}
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from octorec.catalog.sid_rows import SidRows
from octorec.catalog.tokens import codes_of_tokens
from octorec.data.json_file import JsonFile
from octorec.data.tables import readable
from octorec.errors import InputError

TOKENS_OF = "are read beside the model whose tokens they are: as --catalog of a verb that is given its folder"


def read_token_lines(path: str | Path, levels: Sequence[np.ndarray] | None) -> SidRows:
    """Return the items of a file, in its order; a title is the text `title` of an item's metadata.

    levels: the token id of each code of a level (`SidTokens.levels`), which turn token ids into codes. Raises
    InputError by line for what is not of this form, for a token of no code, and where `levels` is None.
    """
    path = Path(path)
    if levels is None:
        raise InputError(str(path), "token ids", TOKENS_OF)
    ids, titles, tokens = [], [], []
    with readable(path):
        for row, line in enumerate(JsonFile(path).rows(), 1):
            where = f"{path}: line {row}"
            ids.append(_id(where, line))
            titles.append(_title(line.get("metadata")))
            tokens.extend(_tokens(where, line.get("token_ids"), len(levels)))
    if not ids:
        raise InputError(str(path), "no items", "a catalog needs at least one")
    codes = codes_of_tokens(np.array(tokens, np.int64).reshape(len(ids), len(levels)), levels, str(path))
    try:
        return SidRows(path, pa.array(ids, pa.string()), codes, pa.array(titles, pa.string()), id_field="item_id")
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise InputError(f"{path}: item_id or title", error.object, "must be UTF-8 text") from error


def _id(where: str, line: dict[str, Any]) -> str:
    found = line.get("item_id")
    if type(found) is int and -(2**63) <= found < 2**63:
        return str(found)
    if isinstance(found, str) and found:
        return found
    raise InputError(f"{where}: item_id", found, "must be text or an integer")


def _title(metadata: Any) -> str:
    title = metadata.get("title") if isinstance(metadata, dict) else None
    return title if isinstance(title, str) else ""


def _tokens(where: str, found: Any, levels: int) -> list[int]:
    whole = isinstance(found, list) and all(type(token) is int and 0 <= token < 2**31 for token in found)
    if not whole or len(found) != levels:
        raise InputError(f"{where}: token_ids", found, f"must be a list of {levels} token ids, one a level")
    return found
