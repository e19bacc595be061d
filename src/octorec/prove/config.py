"""What a proof is made with. Imports no torch, so that the command line can read its defaults."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from octorec.engine.limits import DEFAULT_BEAM_WIDTH, MOST_ROWS
from octorec.engine.request import UNKNOWN_ITEMS, UnknownItems
from octorec.errors import InputError
from octorec.evaluate.cutoffs import K, Lengths, lengths
from octorec.evaluate.margin import MARGIN, check_margin
from octorec.settings import DEVICE, check_types, setting

MEASURED = 256  # requests on which layers are compared, and activations measured


@dataclass(frozen=True)
class ProveConfig:
    """k: items a list, or several lengths: every one is reported, and the largest gives the verdict.

    margin: relative loss of recall and NDCG that is accepted. dollars_per_hour: of one GPU, an assumption.
    unknown_items: drop leaves item ids that the catalog lacks out of histories and counts them; refuse is an error.
    exclude_seen: whether the lists that are judged hold no item of the history.
    context_module: FILE.py:CLASS of the checkpoint's context module, where it has one.
    """

    recipe: str = "fp8"
    k: Lengths = K
    margin: Annotated[float, Interval(ge=0, le=1)] = MARGIN
    beam_width: Annotated[int, Interval(ge=1, le=MOST_ROWS)] = setting(DEFAULT_BEAM_WIDTH, "Beams a level.")
    device: str = DEVICE
    dollars_per_hour: Annotated[float, Interval(gt=0, le=1_000_000)] = setting(2.5, "Price of one GPU.")
    unknown_items: UnknownItems = UNKNOWN_ITEMS
    exclude_seen: bool = False
    context_module: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_margin(self.margin)
        if lengths(self.k)[-1] > self.beam_width:
            raise InputError("k", self.k, f"at most beam_width = {self.beam_width}")
