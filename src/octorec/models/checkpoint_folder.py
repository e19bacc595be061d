"""A look at a checkpoint's folder that takes a moment: whether it can be one, and else what lies there.

Imports no torch, so that a wrong path is refused before anything is loaded. `hf_folder` reads the contents.
"""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import octorec
from octorec import formats
from octorec.errors import InputError
from octorec.files import read_json
from octorec.reading import folder_names, listed, require_folder, require_there

CONFIG = "config.json"
VERSION = "octorec.json"  # beside config.json, which is Hugging Face's
INDEX = "model.safetensors.index.json"
SUFFIX = ".safetensors"
ADAPTER_CONFIG, ADAPTER = "adapter_config.json", "adapter_model.safetensors"  # of a LoRA adapter, PEFT's names
PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
CONVERT = (
    "pickled files are not read, for unpickling runs the code inside: where you trust the file, "
    "`safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'model.safetensors')` "
    "converts a dictionary of tensors"
)


def require_checkpoint(path: str | Path, field: str = "checkpoint", bare: bool = False) -> None:
    """Refuse what is no folder of config.json and safetensors files, with an InputError that says what was found.

    bare: a folder without config.json will do, and so will a single file. A folder of a newer format is refused too.
    """
    if bare and not stat.S_ISDIR(require_there(path, field).st_mode):
        if Path(path).suffix in PICKLED:
            raise InputError(field, str(path), CONVERT)
        return
    adapter = is_adapter(path)
    names = (
        folder_names(path, field, "") if bare else require_folder(path, field, ADAPTER_CONFIG if adapter else CONFIG)
    )
    if adapter and ADAPTER not in names:
        old = "adapter_model.bin" in names
        raise InputError(field, str(path), CONVERT if old else f"has {ADAPTER_CONFIG} and no {ADAPTER}")
    _check_version(Path(path, VERSION))
    if INDEX in names or any(name.endswith(SUFFIX) for name in names):
        return
    pickled = [name for name in names if name.endswith(PICKLED)]
    if pickled:
        raise InputError(field, str(Path(path, pickled[0])), CONVERT)
    found = f"this one holds {listed(names)}" if names else "this one is empty"
    raise InputError(field, str(path), f"must be a folder that holds {SUFFIX} files; {found}")


def is_adapter(path: str | Path) -> bool:
    """Tell whether a folder holds a LoRA adapter: it then needs a base, whatever else lies there."""
    return isinstance(path, str | os.PathLike) and os.path.isfile(Path(path, ADAPTER_CONFIG))


def require_inspectable(path: str | Path, field: str = "checkpoint") -> None:
    """Refuse what is no folder with config.json, or with an adapter's; weights need not be there."""
    if not os.path.lexists(Path(path, ADAPTER_CONFIG)):
        require_folder(path, field, CONFIG)
    _check_version(Path(path, VERSION))


def write_version(folder: Path, kept: Mapping[str, Any] | None = None) -> None:
    """Say in `folder` which format it has and which OctoRec wrote it. kept: what else its octorec.json says."""
    about = {**(kept or {}), **formats.CHECKPOINT.stamp(), "written_by": octorec.__version__}
    (folder / VERSION).write_text(json.dumps(about, indent=1))


def _check_version(path: Path) -> None:
    """Refuse a newer format. A folder without the file is a foreign one, or of an OctoRec that said no version."""
    if os.path.lexists(path):
        formats.CHECKPOINT.check(str(path), read_json(path, "checkpoint"))
