"""Catalogs are told apart by domain: by what is typed, or by names of files. Imports no numpy.

Domains have the names that prompts have (`models.layouts`): `product` for `<|prod_begin|>`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from octorec.catalog.about import ABOUT_FILE
from octorec.catalog.foreign_kinds import kind_of
from octorec.errors import InputError
from octorec.reading import folder_names

DOMAINS: dict[str, tuple[str, ...]] = {  # of a file's name, without endings and without sid2pid and its like
    "": ("sid",),
    "sid": ("sid",),
    "video": ("video",),
    "ad": ("ad",),
    "video_ad": ("video", "ad"),
    "prod": ("product",),
    "product": ("product",),
    "live": ("live",),
    "living": ("live",),
}
SAME = {"prod": "product", "living": "live"}  # words of begin tokens -> names of domains
MAPS = re.compile(r"(?:^|_)(sid2pid|sid2iid|pid2sid|iid2sid)(?=_|$)")


def domains_of(path: str | Path) -> tuple[str, ...]:
    """Return the domains that a file or folder is of by its name; none where the name says nothing.

    sid2pid_video_ad.json is of video and ad, product_pid2sid.parquet and sid2iid.json of product, sid2pid.json of sid.
    """
    word = Path(path).name.partition(".")[0].lower()
    if word in ("sid2iid", "iid2sid"):
        return ("product",)
    return DOMAINS.get(MAPS.sub("", word).strip("_"), ())


def is_named(text: str) -> bool:
    """Tell whether a text is `domain=path`, and no path alone."""
    return re.match(r"[a-z_]+=", text) is not None


def domain_paths(given: Sequence[str]) -> dict[str, Path]:
    """Return the path of each domain of what was typed: `domain=path`, or a path of a file or folder.

    A folder that holds several catalogs gives each domain its own; of a path, its name says the domains, or else it is
    the only catalog: domain "". What is typed with its domain wins. Raises InputError where two give one domain.
    """
    named: dict[str, Path] = {}
    other: dict[str, Path] = {}
    for text in given:
        domain, _, path = text.partition("=")
        if is_named(text):
            _put(named, SAME.get(domain, domain), Path(path))
            continue
        for domain, found in within(Path(text)).items():
            _put(other, domain, found)
    return {**other, **named}


def within(path: Path) -> dict[str, Path]:
    """Return the path of each domain of a file, of a catalog's folder, or of a folder that holds several."""
    if not path.is_dir() or (path / ABOUT_FILE).is_file():
        return dict.fromkeys(domains_of(path) or ("",), path)
    paths: dict[str, Path] = {}
    for name in folder_names(path, "catalog", "must be a folder of catalogs"):
        inside = path / name
        if domains_of(inside) and _is_catalog(inside):
            for domain in domains_of(inside):
                _put(paths, domain, inside)
    return paths


def _is_catalog(path: Path) -> bool:
    """Tell whether a path of a domain's name is a catalog; a damaged sid2pid is refused when it is read."""
    if path.is_dir():
        return (path / ABOUT_FILE).is_file()
    if MAPS.search(path.name.partition(".")[0].lower()):
        return True
    try:
        return bool(kind_of(path))
    except InputError:
        return False


def _put(paths: dict[str, Path], domain: str, path: Path) -> None:
    if domain in paths:
        both = f"{paths[domain]} and {path}"
        raise InputError(f"catalog of domain {domain}", both, f"give one of them, as {domain}=PATH")
    paths[domain] = path
