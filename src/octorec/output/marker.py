"""A marker says what OctoRec wrote into a folder, so that later it can tell what is not its own.

A hidden file lists all the others with their sizes and, where they are small, their SHA-256. A folder without it was
written by somebody else, or by OctoRec before there was one, and is then known by the files of its kind.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octorec.errors import InputError
from octorec.files import read_json
from octorec.formats import CATALOG_FILES, CONTENTS

MARKER = ".octorec.json"
HASHED = 2**20  # bytes of a file up to which its content is compared, and not only its size
SEEN = 2**16  # first bytes of a file, in which a kind's sign stands
TENSORS = r"(config|octorec|training)\.json|model-\d{5}-of-\d{5}\.safetensors|model\.safetensors\.index\.json|catalog"
COPIED = (  # files of models on the Hub, which `octorec quantize` copies along
    r"generation_config\.json|tokenizer\.(json|model)|tokenizer_config\.json|special_tokens_map\.json|"
    r"added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.(jinja|json)|README\.md|LICENSE|\.gitattributes"
)


@dataclass(frozen=True)
class Kind:
    """A Kind describes a folder without a marker.

    sign: a file of it, and what stands in that file. names: of all that it may hold.
    """

    sign: tuple[str, bytes]
    names: str


KINDS = (
    Kind(("quantization.json", b'"sqnr_db"'), f"({TENSORS}|quantization\\.json|{COPIED})"),
    Kind(("training.json", b'"train_config"'), f"({TENSORS})"),
    Kind(("catalog.json", b'"fingerprint"'), "|".join(map(re.escape, CATALOG_FILES))),
    Kind(("state.json", b'"step"'), r"state\.(json|safetensors)"),
    Kind(
        ("_manifest.json", b'"recommend-all"'),
        r"_manifest\.json|part-\d{6}\.parquet|"
        r"\.(_manifest\.json|part-\d{6}\.parquet)\.octorec-(lock|new-[0-9a-f]{8}\.(json|parquet))",
    ),
    Kind(("report.html", b"<title>Numbers of "), r"(report\.html|recipe\.yaml|(stats|activations)\.parquet)"),
)


def mark(folder: Path) -> None:
    """Write the list of all that `folder` holds now, except for folders within it that have a list of their own."""
    found = {name: _about(path) for name, path in _contents(folder) if not is_marked(path)}
    (folder / MARKER).write_text(json.dumps({**CONTENTS.stamp(), "written_by": "octorec", "files": found}, indent=1))


def is_marked(path: Path) -> bool:
    """Tell whether `path` is a folder, and no link to one, with a list of its files."""
    return not path.is_symlink() and os.path.lexists(path / MARKER)


def foreign(folder: Path) -> list[str]:
    """Return the names of what in `folder` OctoRec did not write, or somebody changed since: paths from
    `folder`, sorted.

    Raises InputError where a newer OctoRec wrote the list.
    """
    if not is_marked(folder):
        return _foreign_in_unmarked(folder)
    try:
        found = read_json(folder / MARKER, "marker")
    except InputError:
        return [MARKER]
    CONTENTS.check(str(folder / MARKER), found)
    listed = found.get("files")
    return sorted(_not_listed(folder, listed)) if isinstance(listed, dict) else [MARKER]


def _not_listed(folder: Path, listed: dict[str, Any]) -> Iterator[str]:
    folders = {parent for name in listed for parent in (Path(name), *Path(name).parents)}
    for name, path in _contents(folder, folders):
        if is_marked(path):
            yield from (f"{name}/{inner}" for inner in foreign(path))
        elif name not in listed or not _is_same(path, listed[name]):
            yield name


def _contents(folder: Path, within: Set[Path] | None = None, above: str = "") -> Iterator[tuple[str, Path]]:
    """Yield every file but the marker, and as one each folder that is empty, has a marker or is not in
    `within` (None: all are).
    """
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    if above and not entries:
        yield above.rstrip("/"), folder
    for entry in entries:
        name, path = f"{above}{entry.name}", folder / entry.name
        plain_folder = entry.is_dir(follow_symlinks=False) and not is_marked(path)
        if plain_folder and (within is None or Path(name) in within):
            yield from _contents(path, within, f"{name}/")
        elif name != MARKER:
            yield name, path


def _about(path: Path) -> dict[str, Any] | None:
    """Return size and, where it is small, SHA-256 of a regular file; None for anything else."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        return None
    return {"bytes": found.st_size, **({"sha256": _sha256(path)} if found.st_size <= HASHED else {})}


def _is_same(path: Path, known: Any) -> bool:
    """Tell whether `_about` found this at `path` before; a file whose SHA-256 was not kept is known by its size."""
    found = path.lstat()
    if not isinstance(known, dict) or not stat.S_ISREG(found.st_mode):
        return known is None and stat.S_ISDIR(found.st_mode)
    return known.get("bytes") == found.st_size and ("sha256" not in known or known["sha256"] == _sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _foreign_in_unmarked(folder: Path) -> list[str]:
    """Return all that `folder` holds, unless it is of a kind that OctoRec writes."""
    names = sorted(os.listdir(folder))
    kind = next((kind for kind in KINDS if _signed(folder, kind)), None)
    if kind is None:
        return names
    return [name for name in names if not re.fullmatch(kind.names, name) or not _is_ours(folder / name)]


def _is_ours(path: Path) -> bool:
    """Tell whether what has a known name is what this name stands for: a catalog's folder, or else a file."""
    mode = path.lstat().st_mode
    return stat.S_ISDIR(mode) and not foreign(path) if path.name == "catalog" else stat.S_ISREG(mode)


def _signed(folder: Path, kind: Kind) -> bool:
    name, text = kind.sign
    if not (folder / name).is_file() or (folder / name).is_symlink():
        return False
    with (folder / name).open("rb") as file:
        return text in file.read(SEEN)
