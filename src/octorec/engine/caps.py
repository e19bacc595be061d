"""Caps bound what a list holds of one kind: items of a named set, of a prefix of codes, and items that are alike.

Imports neither torch nor numpy, so that the command line can read them at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from octorec.engine.limits import MOST_ROWS
from octorec.errors import InputError
from octorec.files import parse_json
from octorec.settings import LARGE

if TYPE_CHECKING:
    from octorec.catalog.catalog import Catalog

EVERY = "*"  # stands for each named set that has no cap of its own
MOST_CAPS = 256  # named sets with a cap of their own
ALLOWED = f'must be names of item sets with integers from 1 to {MOST_ROWS}, such as {{"Sci-Fi": 3}}; "*": every set'
CAPS = 'Most items of a named set in a list, as NAME=NUMBER or a JSON object; "*" stands for every other set.'
DISTINCT_CODES = "No two items of a list share their first so many codes; as many as there are levels: no same tuple."
MAX_COSINE = "No two items of a list are more alike than this: cosine of their codebook vectors, above 0, at most 1."


@dataclass(frozen=True)
class Caps:
    """Caps are what a list may hold at most. sets: items by named set, `*` for each other one.

    distinct_codes: no two items share their first so many codes. max_cosine: no two items' vectors have a larger one.
    None: no such bound.
    """

    sets: Mapping[str, int]
    distinct_codes: int | None = None
    max_cosine: float | None = None


def read_caps(value: Any) -> dict[str, int] | None:
    """Return caps by named set of an object, or of texts such as `Sci-Fi=3`: one with commas, several, or JSON."""
    if value is None:
        return None
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = parse_json(value.encode(), "caps", value)
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple):
        value = _of_texts(value)
    if not isinstance(value, Mapping):
        raise InputError("caps", value, ALLOWED)
    if len(value) > MOST_CAPS:
        raise InputError("caps", f"{len(value)} names", f"at most {MOST_CAPS}")
    for name, most in value.items():
        if not isinstance(name, str) or not name:
            raise InputError("caps", name, ALLOWED)
        if isinstance(most, bool) or not isinstance(most, Integral) or not 1 <= int(most) <= MOST_ROWS:
            raise InputError(f"caps.{name}", most, f"must be an integer from 1 to {MOST_ROWS}")
    return {name: int(most) for name, most in value.items()}


def _of_texts(texts: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, _, most = text.rpartition("=") if isinstance(text, str) else ("", "", "")
        if not name.strip():
            raise InputError("caps", text, "must be NAME=NUMBER, such as Sci-Fi=3")
        if name.strip() in found:
            raise InputError("caps", text, f"set {name.strip()} is given twice")
        number = most.strip().removeprefix("-")
        found[name.strip()] = int(most) if number.isascii() and number.isdigit() and len(number) < 10 else most
    return found


def read_distinct_codes(value: Any) -> int | None:
    """Return how many first codes no two items may share; None for no such bound."""
    value = value.item() if hasattr(value, "item") else value
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) <= LARGE
    ):
        raise InputError("distinct_codes", value, "must be an integer from 1 to the number of the catalog's levels")
    return None if value is None else int(value)


def read_max_cosine(value: Any) -> float | None:
    """Return the largest cosine that two items of a list may have; None for no such bound."""
    value = value.item() if hasattr(value, "item") else value
    if value is not None and (isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= 1):
        raise InputError("max_cosine", value, "must be a number above 0, at most 1")
    return None if value is None else float(value)


def caps_of(
    catalog: "Catalog", sets: Mapping[str, int] | None, distinct_codes: int | None, max_cosine: float | None
) -> Caps | None:
    """Return the caps of a request, None where it has none; InputError for what `catalog` cannot say of its items."""
    if not sets and distinct_codes is None and max_cosine is None:
        return None
    if named := [name for name in sets or () if name != EVERY]:
        catalog.set_mask(named, "caps")
    if sets and not catalog.set_names:
        raise InputError("caps", EVERY, "no item of the catalog has sets")
    levels = len(catalog.codebook_sizes)
    if distinct_codes is not None and distinct_codes > levels:
        raise InputError(
            "distinct_codes", distinct_codes, f"must be an integer from 1 to {levels}, the catalog's levels"
        )
    if max_cosine is not None and catalog.codebook is None:
        allowed = "this catalog has no vectors, as its codes came from elsewhere: use distinct_codes"
        raise InputError("max_cosine", max_cosine, allowed)
    return Caps(sets or {}, distinct_codes, max_cosine)
