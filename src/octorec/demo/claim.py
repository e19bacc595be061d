"""A new run of the demo may replace some of its folder, and leaves the rest alone."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from octorec.errors import InputError
from octorec.output.claim import claimed_file, claimed_folder
from octorec.output.lock import LOCK
from octorec.output.refuse import exists, refuse_foreign, refuse_within

TABLES = INTERACTIONS, ITEMS, USERS = "interactions.csv", "items.csv", "users.csv"
FOUND, EXAMPLES = "demo.json", "examples.json"
FOLDERS = ("bf16", "bf16.training", "analysis", "fp8")
FILES = {
    "report.html": b"<title>OctoRec on MovieLens-100K",
    FOUND: b'"quantized_ratio"',
    EXAMPLES: b'"histories"',
}  # and what stands in the first bytes of each
SEEN = 2**16  # first bytes of a file that are looked at


@contextmanager
def claimed_demo(out: Path, force: bool, cache: Path) -> Iterator[None]:
    """Hold the right to write the demo's folders and files in `out`; what else lies beside them stays as it is.

    Raises InputError: `out` exists and `force` is off, is no folder, or holds things and no earlier demo; or something
    in it has a name of the demo's and is not what the demo wrote; and else as `claimed_folder`.
    """
    if out.name in ("", ".."):
        raise InputError("out", str(out), "must name a folder to make")
    refuse_within(out)
    if exists(out, "out") and not _only_locks(out):
        if not force:
            raise InputError("out", str(out), "it exists already: choose another name, or --force to replace it")
        if not out.is_dir():
            raise InputError("out", str(out), "is a file, and a folder is to be written there: choose another name")
        if not any((out / name).exists() for name in (*FOLDERS, *FILES, *TABLES)):
            refuse_foreign(out, out)
    with ExitStack() as stack:
        for name in FOLDERS:
            stack.enter_context(claimed_folder(out / name, force, [cache]))
        for name, sign in FILES.items():
            stack.enter_context(claimed_file(out / name, [cache], partial(_begins_with, sign)))
        yield


def _only_locks(out: Path) -> bool:
    """Tell whether `out` holds only locks of what is to be written in it, such as those of a claim around this one."""
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    return bool(names) and all(name.endswith(LOCK) for name in names)


def _begins_with(sign: bytes, path: Path) -> bool:
    with path.open("rb") as file:
        return sign in file.read(SEEN)
