"""A `Tiling` says how `beam_step` cuts up a request's candidates, so that each selection fits in registers.

Letters as in `kernels.beam_step`.
"""

import itertools
from dataclasses import dataclass

import triton

from octorec.errors import InputError

MOST_KEYS = 16384  # keys that a selection holds in registers at most


@dataclass(frozen=True)
class Tiling:
    """A Tiling says how the candidates are cut up, in powers of two. The choice is exact with any; block and scan_warps
    set the order in which a row's exponentials are summed, and so the last bits of its totals.

    tile, subtile: candidates each. parts: of a request's tiles, from each of which the best are chosen first. block:
    logits of a row in registers at once. chunk: children of a node looked up at once; a node with no more than a tile
    of them takes a tile.
    scan_warps, choose_warps: warps of a program of the pass over the rows, and of a selection.
    """

    tile: int = 256
    subtile: int = 16
    block: int = 8192
    chunk: int = 2048
    scan_warps: int = 8
    choose_warps: int = 16
    parts: int = 1

    def part(self, beams: int, vocabulary: int) -> int:
        """Return how many tiles of a request a part has."""
        return triton.cdiv(beams * triton.cdiv(vocabulary, self.tile), self.parts)

    @property
    def lefts(self) -> int:
        """Return how many selections tell what they leave out."""
        return 3 if self.parts == 1 else 3 + self.parts

    def keys(self, beams: int, vocabulary: int, out_width: int) -> tuple[int, int, int]:
        """Return what the three selections hold: tiles of a part, subtiles, candidates; powers of two."""
        counts = (self.part(beams, vocabulary), out_width * self.tile // self.subtile)
        tiles, subtiles, candidates = map(triton.next_power_of_2, (*counts, out_width * self.subtile))
        return tiles, subtiles, candidates


def tiling_for(beams: int, vocabulary: int, out_width: int) -> Tiling:
    """Return the fewest parts and smallest tiles whose selections fit in registers; InputError where none do."""
    for parts, tile in itertools.product((1, 2, 4), (256, 512, 1024)):
        tiling = Tiling(tile=tile, parts=parts)
        if max(tiling.keys(beams, vocabulary, out_width)) <= MOST_KEYS:
            return tiling
    allowed = f"the beam kernel has no room for {out_width} of {beams} x {vocabulary} candidates: lower the beam width"
    raise InputError("beam_width", out_width, allowed)


def check_beams(beams: int, vocabulary: int, out_width: int) -> None:
    """Raise InputError where there is no tiling for such a step."""
    tiling_for(beams, vocabulary, out_width)
