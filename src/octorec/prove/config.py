"""A proof has these settings. This imports no torch, so that the command line can read its defaults."""

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Interval

from octorec.engine.limits import DEFAULT_BEAM_WIDTH
from octorec.engine.request import UNKNOWN_ITEMS, UnknownItems
from octorec.engine.widths import read_for
from octorec.evaluate.cutoffs import K, Lengths, lengths
from octorec.evaluate.margin import MARGIN, check_margin
from octorec.settings import DEVICE, check_types, setting

MEASURED = 256  # requests on which layers are compared, and activations measured


@dataclass(frozen=True)
class ProveConfig:
    """A ProveConfig says how a proof is made.

    k: items a list, or several lengths: every one is reported, and the largest gives the verdict.

    margin: relative loss of recall and NDCG that is accepted. dollars_per_hour: of one GPU, an assumption.
    unknown_items: drop leaves item ids that the catalog lacks out of histories and counts them; refuse is an error.
    exclude_seen: whether the lists that are judged hold no item of the history.
    context_module: FILE.py:CLASS of the checkpoint's context module, where it has one.
    """

    recipe: str = "fp8"
    k: Lengths = K
    margin: Annotated[float, Interval(ge=0, le=1)] = MARGIN
    beam_width: Any = setting(  # a `BeamWidth`
        DEFAULT_BEAM_WIDTH, "Beams at each level: a number, one a level such as 128-256-512, or auto."
    )
    device: str = DEVICE
    dollars_per_hour: Annotated[float, Interval(gt=0, le=1_000_000)] = setting(2.5, "Price of one GPU.")
    unknown_items: UnknownItems = UNKNOWN_ITEMS
    exclude_seen: bool = False
    context_module: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_margin(self.margin)
        object.__setattr__(self, "beam_width", read_for(lengths(self.k)[-1], "beam_width", self.beam_width))
