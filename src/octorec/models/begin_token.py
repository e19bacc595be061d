"""A prompt ends with one begin token, which tells the model to write an item, and where there are several, of what.

Missing, it is appended; given, it is not doubled. docs/qwen.md has these rules in words.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from octorec.errors import InputError

ONLY = ""  # the domain of a begin token that serves all
NAME = re.compile(r"[\w.-]{0,64}")


def require_domain(domain: Any, field: str = "domain") -> None:
    """Refuse what is no name of a domain. A template may write it, and no control token is made of such names."""
    if not isinstance(domain, str) or not NAME.fullmatch(domain):
        raise InputError(field, domain, "must be a name of letters, digits, _, . and -, at most 64")


def begun(
    ids: Sequence[int],
    begin: Mapping[str, int],
    domain: str,
    catalogs: Collection[str] | None,
    text: Callable[[Sequence[int]], str],
) -> tuple[list[int], str, bool]:
    """Return a prompt with its begin token, the domain whose catalog answers, and whether the token was appended.

    begin: the begin token by domain. domain: the one that was asked for; "" for none. catalogs: the domains that have
    one; None: all. text: says what tokens are, for errors.
    Raises InputError: two begin tokens at the end, another domain's than was asked for, a domain that has no catalog
    or no begin token, and none named where there are several.
    """
    require_domain(domain)
    own = {id: whose for whose, id in begin.items()}
    ids = list(ids)
    if ids and ids[-1] in own:
        if len(ids) > 1 and ids[-2] in own:
            raise InputError("prompt", text(ids[-2:]), "ends with two begin tokens: leave the last one out")
        given = own[ids[-1]]
        if given != ONLY and domain not in ("", given):
            raise InputError("domain", domain, f"the prompt ends with {text(ids[-1:])}, the begin token of {given}")
        whose = given or domain
        _require_catalog(whose, catalogs)
        return ids, whose, False
    whose = domain or _only(begin, catalogs)
    _require_catalog(whose, catalogs)
    if not begin:
        return ids, whose, False
    token = begin.get(whose, begin.get(ONLY))
    if token is None:
        raise InputError("domain", whose, f"has no begin token; those with one: {', '.join(begin)}")
    return [*ids, token], whose, True


def _only(begin: Mapping[str, int], catalogs: Collection[str] | None) -> str:
    """Return the one domain that can be meant where none is named."""
    if not begin or ONLY in begin:
        could = [ONLY] if catalogs is None or ONLY in catalogs else list(catalogs)
    else:
        could = [one for one in begin if catalogs is None or one in catalogs]
    if len(could) != 1:
        raise InputError(
            "domain", "", f"must be named: {', '.join(could) or 'no domain with a begin token has a catalog'}"
        )
    return could[0]


def _require_catalog(domain: str, catalogs: Collection[str] | None) -> None:
    if catalogs is not None and domain not in catalogs:
        raise InputError("domain", domain, f"has no catalog; those with one: {', '.join(catalogs)}")
