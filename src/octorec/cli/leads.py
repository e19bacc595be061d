"""A long verb says on stderr, before it begins, what was read, and where it is interrupted what it leaves."""

from pathlib import Path
from typing import TYPE_CHECKING

from octorec.data.table_format import TableFormat
from octorec.terminal import say

if TYPE_CHECKING:  # the command line starts without numpy
    from octorec.data.interactions import Interactions


def reading(data: Path, form: TableFormat) -> "Interactions":
    """Read interactions and say how many there are, of whom and from when to when."""
    from octorec.cli.tables import read_log
    from octorec.data.described import described

    say(f"reading {data}")
    interactions = read_log(data, form)
    say(described(interactions))
    return interactions


def of_training(interactions: "Interactions", hold_out: int) -> None:
    """Say what is learned from, and what is not."""
    from octorec.data.splits import targets_of

    held_out = int(targets_of(interactions, hold_out).sum()) if hold_out else 0
    said = f"; {held_out:,} held out, {newest(hold_out)} of each user" if hold_out else ""
    say(f"to learn from: {len(interactions) - held_out:,} interactions{said}")


def of_quantizing(checkpoint: Path, recipe: str, base: Path | None = None) -> None:
    """Say how much is read."""
    from octorec.models.lora import open_checkpoint

    headers = open_checkpoint(checkpoint, base).headers
    size = sum(header.nbytes for header in headers.values()) / 1e6
    say(f"{checkpoint}: {len(headers):,} tensors, {size:,.1f} MB; ahead: recipe {recipe}, tensor by tensor")


def newest(hold_out: int) -> str:
    return "the newest" if hold_out == 1 else f"the newest {hold_out}"


def of_saved_state(out: Path) -> str:
    """Return what an interrupted training leaves."""
    from octorec.training.run import state_folder
    from octorec.training.trainer import saved_step

    state = state_folder(out)
    step = saved_step(state)
    return f"{state} keeps step {step}: go on with --resume" if step else "no state was saved yet, nothing is kept"


def of_part(out: Path) -> str:
    """Return what an interrupted demo leaves."""
    parts = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    return f"{out} keeps {', '.join(parts)}: begin again with --force" if parts else "nothing was written"
