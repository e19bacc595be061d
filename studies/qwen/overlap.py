"""How many beams OctoRec in BF16 and in FP8 shares with transformers in BF16, on a trained folder and its prompts.

    octorec quantize runs/qwen/model --recipe fp8 --out runs/qwen/fp8
    python -m studies.qwen.overlap runs/qwen/model --fp8 fp8=runs/qwen/fp8 --data runs/qwen/data

Two programs that are both right share 94 to 97 % of a wide beam in BF16, as sums are rounded in another order: what
transformers in float32 shares with itself in BF16 is that noise here. Rows are appended as they are made.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import records
from benchmarks.program import run
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import read_interactions
from octorec.data.splits import Example
from octorec.errors import InputError
from octorec.kernels.device import open_device
from octorec.models.hf_folder import Checkpoint
from octorec.models.prompts import Prompts
from octorec.parity.token_trie import TokenTrie
from studies.exact.asked import Deadline
from studies.exact.subject import Targets, spread
from studies.qwen.beside import Side, compared, our_side, their_side
from studies.qwen.run import MODEL
from studies.qwen.settings import LONGEST
from studies.stages import release

WIDTHS = (64, 128, 256)
FOLDERS = "NAME=FOLDER, such as fp8=runs/qwen/fp8"


@dataclass(frozen=True, eq=False)
class Asked:
    """What every side is asked: prompts, and the codes [n, L] of what followed each."""

    folder: Path
    catalog: Catalog
    prompts: Sequence[np.ndarray]
    codes: np.ndarray
    device: str

    @classmethod
    def of(cls, folder: Path, catalog: Catalog, examples: Sequence[Example], device: str) -> "Asked":
        """The prompts of examples' histories."""
        maker = Prompts(folder)
        codes = catalog.codes[catalog.places([one.target for one in examples])].astype(np.int64)
        histories = [catalog.codes[catalog.places(one.history[-LONGEST:])].astype(np.int64) for one in examples]
        return cls(folder, catalog, [maker.of_history(one).ids for one in histories], codes, device)

    def ours(self, name: str, folder: Path, width: int) -> Side:
        """OctoRec on a folder, named by its precision."""
        side = our_side(folder, self.catalog, self.prompts, self.codes, torch.bfloat16, self.device, width)
        release()
        return replace(side, name=f"OctoRec {name}")

    def theirs(self, dtype: torch.dtype, width: int, deadline: Deadline) -> Side:
        """The 16-bit folder in transformers."""
        sids = Prompts(self.folder).sids
        trie = TokenTrie(self.catalog.trie, sids)
        asked = self.prompts, self.codes, dtype, self.device, width, deadline
        side = their_side(self.folder, trie, sids, *asked)
        release()
        return side


def measure(
    asked: Asked, eight: Mapping[str, Path], widths: Sequence[int], about: Mapping[str, Any], out: Path,
    deadline: Deadline,
) -> None:  # fmt: skip
    """Record how each side's beams agree with those of transformers in BF16, at each width."""
    for width in widths:
        against = asked.theirs(torch.bfloat16, width, deadline)
        folders = {"bf16": asked.folder, **eight}
        sides = [asked.ours(name, folder, width) for name, folder in folders.items()]
        sides.append(asked.theirs(torch.float32, width, deadline))
        for side in sides:
            row = compared(side, against, width, dict(about))
            records.append(out, row)
            print(f"{width} beams, {row.one} and {row.other}: overlap {row.overlap:.4f}, scores of shared beams differ "
                  f"by at most {row.beam_difference:.3f} nats", flush=True)  # fmt: skip


def named_folders(given: Sequence[str]) -> dict[str, Path]:
    """The folders of `NAME=FOLDER`."""
    for one in given:
        if not all(one.partition("=")):
            raise InputError("fp8", one, f"write {FOLDERS}")
    return {one.partition("=")[0]: Path(one.partition("=")[2]) for one in given}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the 16-bit model")
    parser.add_argument("--fp8", action="append", default=[], help=f"a folder made of it: {FOLDERS}")
    parser.add_argument("--data", type=Path, required=True, help="interactions.csv and catalog")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--model", default=MODEL, help="how rows name it")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "qwen_overlap.jsonl")
    options = parser.parse_args()
    eight = named_folders(options.fp8)
    open_device(options.device)
    targets = Targets.of(read_interactions(options.data / "interactions.csv"))
    catalog = Catalog.load(options.data / "catalog")
    asked = Asked.of(options.folder, catalog, spread(targets.test, options.prompts), options.device)
    parameters = sum(tensor.numel() for _, tensor in Checkpoint(options.folder).items())
    now = datetime.now().isoformat(timespec="seconds")
    about = {"run": now, "model": options.model, "parameters": parameters}
    measure(asked, eight, options.widths, about, options.out, Deadline.within("overlap", options.seconds))


if __name__ == "__main__":
    run(main)
