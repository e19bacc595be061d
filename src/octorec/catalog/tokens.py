"""Codes and the tokens that a model has for them. A level may have codes without a token, which no item may need.

Letters: n items, L levels. levels: of each level the token id of every code, int64; -1 where there is none.
"""

from collections.abc import Sequence

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.catalog.sid_rows import check_fitting, refuse_codes
from octorec.errors import InputError, level_name


def check_tokens(catalog: Catalog, levels: Sequence[np.ndarray], where: str = "catalog") -> None:
    """Raise InputError where an item of `catalog` has a code without a token: which codes of which level, how many.

    Codes without a token that no item has are normal. `where` names the catalog in the error.
    """
    sizes = [len(tokens) for tokens in levels]
    check_fitting(catalog.codes, sizes, where)
    for level, tokens in enumerate(levels):
        codes = catalog.codes[:, level]
        refuse_codes(where, level, codes, np.asarray(tokens)[codes] < 0, "the model's vocabulary has no token for them")


def codes_of_tokens(tokens: np.ndarray, levels: Sequence[np.ndarray], where: str) -> np.ndarray:
    """Return the codes [n, L] int64 of token ids [n, L]; an InputError for the first row with a token of no code."""
    codes = np.empty(tokens.shape, np.int64)
    for level, of_level in enumerate(levels):
        known = np.asarray(of_level)
        order = np.argsort(known, kind="stable")
        at = order[known[order].searchsorted(tokens[:, level]).clip(max=len(known) - 1)]
        wrong = np.flatnonzero(known[at] != tokens[:, level])
        if len(wrong):
            more = f" and {len(wrong) - 1:,} more rows" if len(wrong) > 1 else ""
            allowed = f"must be the tokens of one code a level; level {level_name(level)} has no such token{more}"
            raise InputError(f"{where}: item {wrong[0] + 1}: token_ids", tokens[wrong[0]].tolist(), allowed)
        codes[:, level] = at
    return codes
