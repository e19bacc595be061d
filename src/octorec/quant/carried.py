"""Say what comes along with the tensors of a checkpoint: small files, chat templates and the catalog, by name.

No link is followed out of a folder.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from octorec.files import is_own_file, read_json
from octorec.formats import CATALOG_FILES
from octorec.models.chat_template import TEMPLATE_FILE
from octorec.models.checkpoint_folder import ADAPTER_CONFIG, CONFIG, INDEX, SUFFIX, VERSION
from octorec.models.hf_folder import Checkpoint
from octorec.models.layout_file import FILE_BYTES as LAYOUT_BYTES
from octorec.models.vocabulary import ADDED, BASE, FILE_BYTES, SPECIAL_MAP, TOKENIZER, TOKENIZER_CONFIG
from octorec.output.marker import MARKER

REPORT = "quantization.json"
COPIED_BYTES = 2**26  # other files up to this size come along; what is larger is training state
TOKENIZER_FILES = (TOKENIZER, TOKENIZER_CONFIG, ADDED, BASE, SPECIAL_MAP, "merges.txt", TEMPLATE_FILE)
WRITTEN = (CONFIG, VERSION, INDEX, REPORT, MARKER, ADAPTER_CONFIG)  # of the new folder, or of what was merged
# of folders inside a checkpoint's, which files come along
INNER = {
    "catalog": lambda name: name in CATALOG_FILES,
    "additional_chat_templates": lambda name: name.endswith(".jinja"),
}


def layout_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what octorec.json says beside the tokenizer of a checkpoint; nothing where there is none."""
    path = checkpoint.tokenizer_folder / VERSION
    return read_json(path, VERSION, LAYOUT_BYTES) if os.path.lexists(path) else {}


def copy_rest(checkpoint: Checkpoint, scratch: Path) -> list[str]:
    """Copy all but tensors and what the new folder has of its own; return the names of what was left behind.

    Of an adapter's folder and its base's the adapter's files come first; tokenizer files are of one folder alone.
    """
    left_behind = []
    for path in _paths(checkpoint):
        if path.suffix == SUFFIX or os.path.realpath(path) == os.path.realpath(scratch):
            continue
        if os.path.lexists(scratch / path.name):
            continue
        if path.name in INNER:
            left_behind += _copy_inner(path, scratch / path.name)
        elif path.is_dir() and not path.is_symlink():
            left_behind.append(f"{path.name}/")
        elif is_own_file(path) and path.stat().st_size <= _most_bytes(path):
            shutil.copyfile(path, scratch / path.name)
        else:
            left_behind.append(path.name)
    return left_behind


def _paths(checkpoint: Checkpoint) -> Iterator[Path]:
    """Yield what may come along, the catalog first."""
    for folder in dict.fromkeys((checkpoint.path, checkpoint.folder)):
        names = {path.name for path in folder.iterdir()}.difference(WRITTEN)
        if folder != checkpoint.tokenizer_folder:
            names.difference_update(TOKENIZER_FILES, ("additional_chat_templates",))
        yield from (folder / name for name in sorted(names, key=lambda name: (name != "catalog", name)))


def _most_bytes(path: Path) -> int:
    return FILE_BYTES if path.name in TOKENIZER_FILES else COPIED_BYTES


def _copy_inner(folder: Path, out: Path) -> list[str]:
    """Copy the files that are known of a folder inside the checkpoint's; return the names of what lies beside them."""
    if folder.is_symlink() or not folder.is_dir():
        return [folder.name]
    out.mkdir()
    left_behind = []
    for path in sorted(folder.iterdir()):
        if INNER[folder.name](path.name) and is_own_file(path):
            shutil.copyfile(path, out / path.name)
        elif path.name != MARKER:
            left_behind.append(f"{folder.name}/{path.name}{'/' * (path.is_dir() and not path.is_symlink())}")
    return left_behind
