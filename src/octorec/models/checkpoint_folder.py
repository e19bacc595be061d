"""A look at a checkpoint's folder that takes a moment: whether it can be one, and else what lies there.

Imports no torch, so that a wrong path is refused before anything is loaded. `hf_folder` reads the contents.
"""

import stat
from pathlib import Path

from octorec.errors import InputError
from octorec.reading import folder_names, listed, require_folder, require_there

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SUFFIX = ".safetensors"
PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
CONVERT = (
    "pickled files are not read, for unpickling runs the code inside: where you trust the file, "
    "`safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'model.safetensors')` "
    "converts a dictionary of tensors"
)


def require_checkpoint(path: str | Path, field: str = "checkpoint", bare: bool = False) -> None:
    """Refuse what is no folder of config.json and safetensors files, with an InputError that says what was found.

    bare: a folder without config.json will do, and so will a single file.
    """
    if bare and not stat.S_ISDIR(require_there(path, field).st_mode):
        if Path(path).suffix in PICKLED:
            raise InputError(field, str(path), CONVERT)
        return
    names = folder_names(path, field, "") if bare else require_folder(path, field, CONFIG)
    if INDEX in names or any(name.endswith(SUFFIX) for name in names):
        return
    pickled = [name for name in names if name.endswith(PICKLED)]
    if pickled:
        raise InputError(field, str(Path(path, pickled[0])), CONVERT)
    found = f"this one holds {listed(names)}" if names else "this one is empty"
    raise InputError(field, str(path), f"must be a folder that holds {SUFFIX} files; {found}")
