"""What a proof is made with. Imports no torch, so that the command line can read its defaults."""

from dataclasses import dataclass

from octorec.errors import InputError
from octorec.evaluate.cutoffs import K, Lengths, lengths
from octorec.evaluate.margin import MARGIN


@dataclass(frozen=True)
class ProveConfig:
    """k: items a list, or several lengths: every one is reported, and the largest gives the verdict.

    margin: relative loss of recall and NDCG that is accepted. dollars_per_hour: of one GPU, an assumption.
    """

    recipe: str = "fp8"
    k: Lengths = K
    margin: float = MARGIN
    beam_width: int = 128
    device: str = "cpu"
    dollars_per_hour: float = 2.5

    def __post_init__(self) -> None:
        if lengths(self.k)[-1] > self.beam_width:
            raise InputError("k", self.k, f"at most beam_width = {self.beam_width}")
        if not self.dollars_per_hour > 0:
            raise InputError("dollars_per_hour", self.dollars_per_hour, "must be above 0")
