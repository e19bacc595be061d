"""What a proof is made with. Imports no torch, so that the command line can read its defaults."""

from dataclasses import dataclass

from octorec.engine.limits import MOST_ROWS
from octorec.engine.request import check_unknown_items
from octorec.errors import InputError
from octorec.evaluate.cutoffs import K, Lengths, lengths
from octorec.evaluate.margin import MARGIN
from octorec.settings import check_range, check_types


@dataclass(frozen=True)
class ProveConfig:
    """k: items a list, or several lengths: every one is reported, and the largest gives the verdict.

    margin: relative loss of recall and NDCG that is accepted. dollars_per_hour: of one GPU, an assumption.
    unknown_items: drop leaves item ids that the catalog lacks out of histories and counts them; refuse is an error.
    exclude_seen: whether the lists that are judged hold no item of the history.
    """

    recipe: str = "fp8"
    k: Lengths = K
    margin: float = MARGIN
    beam_width: int = 128
    device: str = "cpu"
    dollars_per_hour: float = 2.5
    unknown_items: str = "drop"
    exclude_seen: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, 1, MOST_ROWS, "beam_width")
        if lengths(self.k)[-1] > self.beam_width:
            raise InputError("k", self.k, f"at most beam_width = {self.beam_width}")
        check_range(self, 0, 1_000_000, "dollars_per_hour", above=True)
        check_unknown_items(self.unknown_items)
