"""Read MiniOneRec's test rows as its repository has them: a CSV with a history and one target a row.

Lists stand in it as Python writes them: `['12', '7']`. They are read as literals; nothing of the file runs.
"""

import ast
from pathlib import Path

from octorec.data.answer_sids import answer_sids
from octorec.data.splits import Example
from octorec.data.tables import read_table, text_column
from octorec.errors import InputError

COLUMNS = ("user_id", "history_item_id", "item_id", "history_item_sid", "item_sid")  # and titles, which nobody reads


def read_minionerec(path: str | Path) -> list[Example]:
    """Return the rows of a file, in its order: items by id, and the target's semantic ID.

    Raises InputError, which names file, row and field, for what is none.
    """
    table = read_table(path, COLUMNS, COLUMNS)
    columns = {name: text_column(table, name, str(path)).to_pylist() for name in COLUMNS}
    out = []
    for row in range(table.num_rows):
        at = {name: values[row] for name, values in columns.items()}
        where = f"{path}: row {row + 1}"
        history = _ids(f"{where}: history_item_id", at["history_item_id"])
        sids = answer_sids(at["item_sid"], f"{where}: item_sid")
        if len(sids) != 1:
            raise InputError(f"{where}: item_sid", at["item_sid"], "must be one semantic ID")
        out.append(Example(at["user_id"], history, at["item_id"], sids=sids))
    return out


def _ids(where: str, text: str) -> tuple[str, ...]:
    allowed = "must be a list of item ids as Python writes it, such as ['12', '7']"
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(where, text, allowed) from error
    if not isinstance(found, list) or any(isinstance(one, bool) or not isinstance(one, int | str) for one in found):
        raise InputError(where, text, allowed)
    return tuple(map(str, found))
