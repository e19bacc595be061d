"""The most that an engine can be built for. Imports no torch, so that settings can be checked before anything loads."""

from typing import Annotated

from annotated_types import Interval

MOST_ROWS = 2**16  # requests of a batch, beams of a request
MOST_CONTEXT = 2**20  # items of a history
MOST_TOKENS = 2**22  # tokens of a prompt
MOST_EXCLUDE = 2**20  # items that a request may exclude
DEFAULT_EXCLUDE = 10_000  # items that a request may exclude where no setting says how many
DEFAULT_TOKENS = 4096  # tokens of a prompt where no setting says how many
DEFAULT_BATCH_TOKENS = 2**15  # tokens of a batch's prompts where no setting says how many
DEFAULT_BEAM_WIDTH = 128
DEFAULT_BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32)
MOST_SEEN = 2**16  # newest items of a history that a search can leave out; older ones are left out of the answer alone
MOST_ITEMS = 2**30 - 2  # twice as many nodes have int32 numbers, of which the largest means a dead beam

MostRows = Annotated[int, Interval(ge=1, le=2**31 - 1)]
Rows = Annotated[int, Interval(ge=1, le=MOST_ROWS)]
Context = Annotated[int, Interval(ge=1, le=MOST_CONTEXT)]
Tokens = Annotated[int, Interval(ge=1, le=MOST_TOKENS)]
CacheBytes = Annotated[int, Interval(ge=0, le=2**50)]
Excluded = Annotated[int, Interval(ge=1, le=MOST_EXCLUDE)]
Items = Annotated[int, Interval(ge=1, le=MOST_ITEMS)]
