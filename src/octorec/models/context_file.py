"""A file of Python with a context module of the user's, named as FILE.py:CLASS.

Running it is running the user's program: it is run because a person named it, on the command line, in a settings file
or in Python, and never because something in a checkpoint's folder names it.
"""

import sys
import traceback
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from octorec.errors import InputError
from octorec.reading import require_file

CONTEXT_MODULE = "FILE.py:CLASS of the context module that the checkpoint's config.json asks for; the file is run."
FORM = "must be FILE.py:CLASS: a file of Python, and the class of its context module"


def require_module_file(text: Any) -> tuple[Path, str]:
    """Return the path and the class's name in FILE.py:CLASS, whose file is there; runs nothing."""
    file, _, name = str(text).rpartition(":")
    if not isinstance(text, str) or not file.endswith(".py") or not name.isidentifier():
        raise InputError("context_module", text, FORM)
    require_file(file, "context_module")
    return Path(file).resolve(), name


def context_class(context_module: str | type) -> type:
    """Return the class that `context_module` names or is.

    A file is run once in a process, whatever becomes of it later. Raises InputError where the file does not run,
    and where there is no such class of torch modules.
    """
    from torch import nn

    found: Any = context_module
    if not isinstance(context_module, type):
        path, name = require_module_file(context_module)
        found = getattr(_run(path), name, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise InputError("context_module", context_module, f"{FORM}, a torch.nn.Module")
    return found


def blame(field: str, kind: Any, error: Exception) -> InputError:
    """Return what goes wrong in the user's code as an InputError that says where.

    kind: the class, or the path of its file.
    """
    file = str(kind) if isinstance(kind, Path) else getattr(sys.modules.get(kind.__module__), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f"line {lines[-1]} of {file}: " if lines else ""
    return InputError(field, getattr(kind, "__name__", str(kind)), f"{where}{type(error).__name__}: {error}")


@cache
def _run(path: Path) -> Any:
    name = f"octorec context {path}"  # no import statement finds it
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for it there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise blame("context_module", path, error) from error
    return module
