"""What a proof is made with. Imports no torch, so that the command line can read its defaults."""

from dataclasses import dataclass

from octorec.errors import InputError
from octorec.evaluate.margin import MARGIN


@dataclass(frozen=True)
class ProveConfig:
    """margin: relative loss of recall and NDCG that is accepted. dollars_per_hour: of one GPU, an assumption."""

    recipe: str = "fp8"
    k: int = 10
    margin: float = MARGIN
    beam_width: int = 128
    device: str = "cpu"
    dollars_per_hour: float = 2.5

    def __post_init__(self) -> None:
        if not self.dollars_per_hour > 0:
            raise InputError("dollars_per_hour", self.dollars_per_hour, "must be above 0")
