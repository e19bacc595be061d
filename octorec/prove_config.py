"""What a proof is made with. Imports no torch, so that the command line can read its defaults."""

from dataclasses import dataclass

from octorec.errors import InputError


@dataclass(frozen=True)
class ProveConfig:
    """margin: largest relative loss of recall and NDCG to accept. dollars_per_hour: of one GPU, an assumption."""

    recipe: str = "fp8"
    k: int = 10
    margin: float = 0.01
    beam_width: int = 128
    device: str = "cpu"
    dollars_per_hour: float = 2.5

    def __post_init__(self) -> None:
        if not self.dollars_per_hour > 0:
            raise InputError("dollars_per_hour", self.dollars_per_hour, "must be above 0")
