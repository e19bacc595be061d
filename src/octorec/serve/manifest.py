"""A manifest says what all replicas serve: versions, withdrawn items, the experiment. It lies where each reads it."""

import re
import secrets
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from octorec.errors import InputError, check_keys
from octorec.files import json_text, parse_json
from octorec.output.lock import locked
from octorec.reading import reason

FIELD = "manifest"
MOST_BYTES = 2**25
FOLLOWERS = "followers"  # the folder beside the manifest where replicas say what they have done
ALIVE_S = 30.0  # a follower that said nothing for so long is gone
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Manifest:
    """A Manifest is what is wanted of every replica.

    generation: counts the changes. model, catalog: names of folders below model_root and catalog_root; None for what
    a replica is started with. withdrawn: item ids that no answer may have. experiment: path of its YAML file; None for
    what a replica is started with.
    """

    generation: int = 0
    model: str | None = None
    catalog: str | None = None
    withdrawn: frozenset[str] = frozenset()
    experiment: str | None = None

    def changed(self, **changes: Any) -> "Manifest":
        """Return the next generation."""
        return replace(self, generation=self.generation + 1, **changes)


@dataclass(frozen=True)
class Followed:
    """A Followed is what a replica says of itself.

    generation: of the manifest that it has done, or could not do, as `fault` says. model, catalog: versions that
    answers state. withdrawn: how many items are. time: in seconds since 1970.
    """

    replica: str
    generation: int
    model: str
    catalog: str
    withdrawn: int
    fault: str | None
    time: float = field(default_factory=time.time)


def read_manifest(path: str) -> Manifest:
    """Read a manifest. Raises InputError for what cannot be read, and for a field that cannot be."""
    return parse_manifest(_read(path), path)


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """Return the manifest that `raw` holds; `where` is what an error shows."""
    found = parse_json(raw, FIELD, where)
    check_keys(f"{FIELD} {where}", found, Manifest, ["generation"])
    generation, withdrawn = found["generation"], found.get("withdrawn", [])
    if isinstance(generation, bool) or not isinstance(generation, int) or generation < 0:
        raise _wrong(where, "generation", generation, "must be an integer, 0 or more")
    for name in ("model", "catalog"):
        check_version(found.get(name), name, where)
    if not isinstance(withdrawn, list) or not all(isinstance(item, str) for item in withdrawn):
        raise _wrong(where, "withdrawn", withdrawn, "must be a list of texts")
    if not isinstance(found.get("experiment"), str | None):
        raise _wrong(where, "experiment", found["experiment"], "must be a path, or null")
    return Manifest(**{**found, "withdrawn": frozenset(withdrawn)})


def check_version(name: Any, field: str, where: str = "") -> None:
    """Refuse what cannot be the name of a version's folder; None passes."""
    if name is not None and not (isinstance(name, str) and VERSION.fullmatch(name)):
        raise _wrong(where, field, name, "must be the name of a folder: letters, digits, dots, - and _")


def write_manifest(path: str, manifest: Manifest) -> None:
    """Write a manifest so that a reader finds the old or the new as a whole."""
    content = {**asdict(manifest), "withdrawn": sorted(manifest.withdrawn)}
    _write(path, json_text(content, indent=1).encode() + b"\n")


def is_local(path: str) -> bool:
    """Tell whether a path is one of this machine's own file systems, and not another kind of URL."""
    return "://" not in path or path.startswith(("file://", "local://"))


def begin_manifest(path: str) -> None:
    """Write an empty manifest where there is none; one that is there must be one."""
    files, name = _opened(path)
    try:
        there = files.exists(name)
    except Exception as error:  # of any library that knows the kind of URL
        raise _unreachable(path, error) from error
    if there:
        read_manifest(path)
    else:
        write_manifest(path, Manifest())


def change_manifest(path: str, change: Callable[[Manifest], dict[str, Any]]) -> Manifest:
    """Write the next generation, with the fields that `change` returns for the present one.

    On a file system of this machine one writer at a time; elsewhere the last of two at once stays.
    """
    with locked(Path(path.partition("://")[2] or path), FIELD) if is_local(path) else nullcontext():
        now = read_manifest(path)
        new = now.changed(**change(now))
        write_manifest(path, new)
    return new


def say_followed(path: str, said: Followed) -> None:
    """Write what a replica says of itself, beside the manifest."""
    _write(_beside(path, said.replica), json_text(asdict(said)).encode())


def forget_followed(path: str, replica: str) -> None:
    """Remove what a replica has said, at its end."""
    files, name = _opened(_beside(path, replica))
    files.rm_file(name)


def read_followed(path: str) -> list[Followed]:
    """Return what replicas that are there say of themselves, by name."""
    files, name = _opened(path)
    folder = str(PurePosixPath(name).parent / FOLLOWERS)
    try:
        files.invalidate_cache()
        names = sorted(files.ls(folder, detail=False)) if files.exists(folder) else []
        raws = [files.cat_file(one) for one in names if one.endswith(".json")]
    except Exception as error:
        raise _unreachable(path, error) from error
    found = [Followed(**parse_json(raw, FIELD, folder)) for raw in raws]
    return [one for one in found if time.time() - one.time < ALIVE_S]


def _read(path: str) -> bytes:
    files, name = _opened(path)
    try:
        files.invalidate_cache()
        raw = files.cat_file(name, end=MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(FIELD, path, "is missing") from error
    except Exception as error:
        raise _unreachable(path, error) from error
    if len(raw) > MOST_BYTES:
        raise InputError(FIELD, path, f"has more than {MOST_BYTES:,} bytes")
    return bytes(raw)


def _write(path: str, raw: bytes) -> None:
    files, name = _opened(path)
    try:
        if not is_local(path):
            files.pipe_file(name, raw)  # a store of objects has the old one or the new one
            return
        files.makedirs(str(PurePosixPath(name).parent), exist_ok=True)
        scratch = f"{name}.{secrets.token_hex(8)}.new"  # two threads of a process may write at once
        files.pipe_file(scratch, raw)
        files.mv(scratch, name)  # a rename within one folder
    except Exception as error:
        raise InputError(FIELD, path, f"cannot be written ({reason(error)})") from error


def _opened(path: str) -> tuple[Any, str]:
    """Return the file system of a path or URL, and the name there. Credentials are those of its library."""
    from fsspec.core import url_to_fs

    try:
        files, name = url_to_fs(path)
    except Exception as error:  # an unknown kind of URL, a library that is not installed
        raise _unreachable(path, error) from error
    return files, str(name)


def _beside(path: str, replica: str) -> str:
    parent = path.rpartition("/")[0]
    return f"{parent}/{FOLLOWERS}/{replica}.json" if parent else f"{FOLLOWERS}/{replica}.json"


def _wrong(where: str, field: str, value: Any, allowed: str) -> InputError:
    return InputError(f"{FIELD} {where}: {field}" if where else field, value, allowed)


def _unreachable(path: str, error: Exception) -> InputError:
    return InputError(FIELD, path, f"cannot be read ({reason(error)})")
