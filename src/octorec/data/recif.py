"""Read RecIF's test rows as OpenOneRec publishes them: `{task}/{task}_test.parquet`.

A row has a prompt, `messages`, and `metadata`, both as JSON. The metadata has the answers: `answer`, semantic IDs in
text, and the ids of their items, `answer_pid` (`answer_iid` of products), of which 0 is no item. Each prompt is one
example with several targets. Rows of one `uid` are of one user.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octorec.data.answer_sids import answer_sids
from octorec.data.splits import Example
from octorec.data.tables import as_text, one_array, read_table, refuse_nulls
from octorec.errors import InputError
from octorec.files import without_doubles

COLUMNS = ("messages", "metadata")
USERS = ("uid", "uuid")  # keys of the metadata that say whose row it is
ITEMS = ("answer_pid", "answer_iid")
ROLES = ("system", "user", "assistant")
NO_ITEM = "0"


def read_recif(path: str | Path) -> list[Example]:
    """Return the rows of a file, in its order; a row may have no target.

    Raises InputError, which names file, row and field, for what is none.
    """
    table = read_table(path, COLUMNS, COLUMNS)
    texts = []
    for name in COLUMNS:
        column, where = table.column(name), f"{path}: column {name}"
        refuse_nulls(column, where)
        texts.append(as_text(one_array(column), where).to_pylist())
    return [_example(f"{path}: row {row}", row, *pair) for row, pair in enumerate(zip(*texts, strict=True), 1)]


def _example(where: str, row: int, messages: str, metadata: str) -> Example:
    about = _json(f"{where}: metadata", metadata)
    if not isinstance(about, dict):
        raise InputError(f"{where}: metadata", metadata, "must be an object in JSON")
    name = next((name for name in ITEMS if about.get(name) is not None), None)
    if name is None:
        allowed = f"must have {' or '.join(ITEMS)}, the ids of the answers' items"
        raise InputError(f"{where}: metadata: keys", ", ".join(about) or "none", allowed)
    answer = about.get("answer", "")
    if not isinstance(answer, str):
        raise InputError(f"{where}: metadata.answer", answer, "must be a text of semantic IDs")
    target, *others = _items(f"{where}: metadata.{name}", about[name]) or [""]
    sids = answer_sids(answer, f"{where}: metadata.answer")
    user = next((str(about[key]) for key in USERS if about.get(key) is not None), f"row {row}")
    return Example(user, (), target, tuple(others), sids, _messages(f"{where}: messages", messages))


def _items(where: str, raw: Any) -> list[str]:
    """Return the ids of a list, or of a list in JSON, each once and without 0, which is no item."""
    found = _json(where, raw) if isinstance(raw, str) else raw
    if not isinstance(found, list) or any(isinstance(one, bool) or not isinstance(one, int | str) for one in found):
        raise InputError(where, raw, "must be a list of item ids")
    return [one for one in dict.fromkeys(map(str, found)) if one not in (NO_ITEM, "")]


def _messages(where: str, raw: str) -> tuple[dict[str, str], ...]:
    """Return messages with their texts; a content is a text, or a list of parts {"type": "text", "text": ...}."""
    found = _json(where, raw)
    if not isinstance(found, list) or not found:
        raise InputError(where, raw, "must be a list of one message or more, in JSON")
    out = tuple(_message(f"{where}.{place}", message) for place, message in enumerate(found))
    if out[-1]["role"] == "assistant":
        raise InputError(f"{where}.{len(out) - 1}.role", "assistant", "a prompt ends with the user's words")
    return out


def _message(where: str, raw: Any) -> dict[str, str]:
    if not isinstance(raw, Mapping) or raw.get("role") not in ROLES:
        raise InputError(where, raw, f"must be an object of role ({', '.join(ROLES)}) and content")
    content = raw.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(map(_is_text, parts)):
        raise InputError(f"{where}.content", content, 'must be a text, or a list of parts {"type": "text", "text": ..}')
    return {"role": raw["role"], "content": "".join(part["text"] for part in parts)}


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=without_doubles)
    except RecursionError as error:
        raise InputError(where, text, "is nested too deeply") from error
    except ValueError as error:
        raise InputError(where, text, f"is no JSON ({error})") from error
