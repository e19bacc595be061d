"""Every user of a table is answered in this way: one dataclass is the flags of `octorec recommend-all`."""

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Interval

from octorec.engine.caps import CAPS, DISTINCT_CODES, MAX_COSINE, read_caps, read_distinct_codes, read_max_cosine
from octorec.engine.limits import DEFAULT_BEAM_WIDTH, Context, Rows
from octorec.engine.request import UNKNOWN_ITEMS, Request, UnknownItems
from octorec.engine.widths import of_one, read_for
from octorec.settings import check_types, setting

Users = Annotated[int, Interval(ge=1, le=10_000_000)]


@dataclass(frozen=True)
class OfflineConfig:
    """An OfflineConfig says what each user is asked for.

    exclude_seen: return no item of the history. unknown_items: drop leaves item ids that the catalog lacks out of
    histories and counts them; refuse is an error. allow: named item sets to return from, their union.
    """

    k: Rows = setting(Request.k, "Items a user, at most the beam width.")
    beam_width: Any = DEFAULT_BEAM_WIDTH  # a `BeamWidth`
    exclude_seen: bool = False
    unknown_items: UnknownItems = UNKNOWN_ITEMS
    allow: tuple[str, ...] = ()
    domain: str = Request.domain
    task: str | None = setting(None, "Language models: which of the family's prompts a history gets.")
    caps: Any = setting(None, CAPS)
    distinct_codes: int | None = setting(None, DISTINCT_CODES)
    max_cosine: float | None = setting(None, MAX_COSINE)
    max_context: Context | None = setting(
        None, "Items of a history that are read, the newest; as many as the model reads if not given."
    )
    batch_size: Rows = setting(32, "Users that go through the model together.")
    block_users: Users = setting(8192, "Users of a block: one file, in memory at a time, and lost at most by a kill.")

    def __post_init__(self) -> None:
        check_types(self)
        object.__setattr__(self, "caps", read_caps(self.caps))
        read_distinct_codes(self.distinct_codes)
        read_max_cosine(self.max_cosine)
        object.__setattr__(self, "beam_width", read_for(self.k, "beam_width", self.beam_width))

    def engine(self) -> dict[str, Any]:
        """Return the options of `octorec.load` for these answers."""
        sizes = sorted({max(1, self.batch_size // 4), self.batch_size})
        return {"batch_sizes": tuple(sizes), "max_context": self.max_context, **of_one(self.beam_width)}

    def request(self, **more: Any) -> Request:
        """Return what a user without anything of their own is asked for. more: fields of `Request`."""
        caps = {"caps": self.caps, "distinct_codes": self.distinct_codes, "max_cosine": self.max_cosine}
        about: dict[str, Any] = {**caps, "domain": self.domain, "task": self.task}
        return Request(k=self.k, allow=self.allow, exclude_seen=self.exclude_seen, **about, **more)
