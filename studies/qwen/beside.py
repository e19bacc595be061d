"""OctoRec and transformers on the same checkpoint and prompts, each in float32 and in bfloat16.

On a GPU both differ from float32; by how much transformers does is the noise that a comparison cannot go below.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import records
from benchmarks.rows.qwen import QwenParityRow
from octorec.catalog.catalog import Catalog
from octorec.data.splits import Example
from octorec.kernels import reference
from octorec.kernels.device import open_device, ops_for
from octorec.models.prompts import Prompts
from octorec.models.sid_tokens import SidTokens
from octorec.parity.beams import Beam
from octorec.parity.compare import compare_beams, compare_scores, summed
from octorec.parity.limits import TOLERANCE
from octorec.parity.ours import Ours
from octorec.parity.theirs import constrained_beams, open_model, teacher_forced
from octorec.parity.token_trie import TokenTrie
from octorec.quant.load import load_model
from studies.exact.asked import Deadline

TYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class Side:
    """A Side is what one program in one precision says. scores [n, L]: of each prompt's target. beams: a list each."""

    name: str
    scores: np.ndarray
    beams: list[list[Beam]]


def our_side(
    folder: Path, catalog: Catalog, prompts: Sequence[np.ndarray], codes: np.ndarray, dtype: torch.dtype, device: str,
    width: int,
) -> Side:  # fmt: skip
    """Ask OctoRec: in bfloat16 with the operations that serve on the device, in float32 with the references."""
    opened = open_device(device)
    ops = ops_for(opened) if dtype == torch.bfloat16 else reference
    model = load_model(folder, ops, device, dtype)
    ours = Ours(model, catalog, model.config.sids, ops, opened)
    return Side(_name("OctoRec", dtype), ours.scores(prompts, codes), [ours.beams(one, width) for one in prompts])


def their_side(
    folder: Path, trie: TokenTrie, sids: SidTokens, prompts: Sequence[np.ndarray], codes: np.ndarray,
    dtype: torch.dtype, device: str, width: int, deadline: Deadline,
) -> Side:  # fmt: skip
    """Ask transformers, constrained to the same items."""
    model: Any = open_model(folder, device).to(dtype)
    beams = []
    for prompt in prompts:
        deadline.check()
        beams.append(constrained_beams(model, prompt, trie, sids, width))
    return Side(_name("transformers", dtype), teacher_forced(model, prompts, codes, sids), beams)


def measure(
    folder: Path, catalog: Catalog, examples: Sequence[Example], width: int, longest: int, device: str,
    about: dict[str, Any], out: Path, deadline: Deadline,
) -> None:  # fmt: skip
    """Record how each two of the four sides differ on prompts of examples."""
    maker = Prompts(folder)
    sids, trie = maker.sids, TokenTrie(catalog.trie, maker.sids)
    codes = catalog.codes[catalog.places([one.target for one in examples])].astype(np.int64)
    histories = [catalog.codes[catalog.places(one.history[-longest:])].astype(np.int64) for one in examples]
    prompts = [maker.of_history(one).ids for one in histories]
    sides = [our_side(folder, catalog, prompts, codes, dtype, device, width) for dtype in TYPES]
    sides += [their_side(folder, trie, sids, prompts, codes, dtype, device, width, deadline) for dtype in TYPES]
    for one, other in itertools.combinations(sides, 2):
        row = compared(one, other, width, about)
        records.append(out, row)
        print(f"  {row.one} and {row.other}: scores {row.score_difference:.2g}, beams {row.beam_difference:.2g} nats, "
              f"overlap {row.overlap:.4f}, identical {row.identical} of {row.prompts}", flush=True)  # fmt: skip


def compared(one: Side, other: Side, width: int, about: dict[str, Any]) -> QwenParityRow:
    """Return the row of two sides."""
    scores = compare_scores(one.scores, other.scores)
    each = [compare_beams(mine, theirs) for mine, theirs in zip(one.beams, other.beams, strict=True)]
    beams = summed("constrained", 0.0, each)
    return QwenParityRow(
        **about, one=one.name, other=other.name, prompts=len(each), beam_width=width,
        score_difference=scores.difference, beam_difference=beams.difference, overlap=round(beams.overlap, 6),
        identical=beams.identical, tolerance=TOLERANCE,
    )  # fmt: skip


def _name(program: str, dtype: torch.dtype) -> str:
    return f"{program} {str(dtype).removeprefix('torch.')}"
