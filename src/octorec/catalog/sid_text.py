"""A semantic ID as text is its codes' tokens in order, such as `<a_1><b_7><c_3>` or `<s_a_1><s_b_7><s_c_3>`.

It may stand between a begin and an end token, such as `<|sid_begin|>` and `<|sid_end|>`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.catalog.sid_pattern import AROUND, TOKEN
from octorec.errors import InputError

SHAPE = (
    "must be a semantic ID such as '<a_1><b_7><c_3>' or '<s_a_1><s_b_7><s_c_3>', with the letters a, b, ... in order"
)


def text_codes(column: pa.Array, where: str) -> np.ndarray:
    """Return the codes [n, L] int64 of a string column of semantic IDs, n > 0; L is that of the first row.

    Raises InputError about `where` for the first row that has none, or not as many.
    """
    levels = len(TOKEN.findall(column[0].as_py() or ""))
    pattern = "".join(rf"<(?:s_)?{chr(97 + level)}_(?P<l{level}>[0-9]{{1,9}})>" for level in range(levels))
    found = pc.extract_regex(column, rf"^{AROUND}{pattern}{AROUND}$") if 0 < levels <= 26 else None
    wrong = np.arange(1) if found is None else np.flatnonzero(np.asarray(found.is_null()))
    if len(wrong):
        raise InputError(f"{where}, row {wrong[0] + 1}", column[int(wrong[0])].as_py(), f"{SHAPE}, as many in each row")
    assert found is not None
    return np.stack([np.asarray(found.field(level).cast(pa.int64())) for level in range(levels)], axis=1)
