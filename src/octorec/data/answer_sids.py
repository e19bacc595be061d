"""The answers of a benchmark's row are semantic IDs in text: `<s_a_1><s_b_7><s_c_3>`, or `<a_1><b_7><c_3>`.

Begin and end tokens such as `<|sid_begin|>` may stand around each; two SIDs may also follow each other directly.
"""

import re

from octorec.errors import InputError

TOKEN = re.compile(r"<(?:s_)?([a-z])_([0-9]{1,9})>")
AROUND = re.compile(r"<\|[a-z_]+\|>|[\s,;]+")
FORM = "must hold semantic IDs alone, such as <s_a_1><s_b_7><s_c_3>, with the letters a, b, ... in order"


def answer_sids(text: str, where: str) -> tuple[tuple[int, ...], ...]:
    """Return the codes of each semantic ID of a text, in its order and each once; none for an empty text.

    Raises InputError about `where` for other words, and for SIDs of unlike lengths.
    """
    found: list[list[int]] = []
    for letter, number in TOKEN.findall(text):
        if letter == "a":
            found.append([])
        if not found or ord(letter) - ord("a") != len(found[-1]):
            raise InputError(where, text, FORM)
        found[-1].append(int(number))
    if AROUND.sub("", TOKEN.sub("", text)) or len({len(codes) for codes in found}) > 1:
        raise InputError(where, text, FORM)
    return tuple(dict.fromkeys(map(tuple, found)))
