"""EngineConfig says what an engine is built for, and checks that its model and operations can serve that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octorec.catalog.catalog import Catalog
from octorec.engine.buckets import Bucket, Buckets
from octorec.engine.limits import (
    DEFAULT_BATCH_SIZES,
    DEFAULT_BATCH_TOKENS,
    DEFAULT_BEAM_WIDTH,
    DEFAULT_EXCLUDE,
    DEFAULT_TOKENS,
    CacheBytes,
    Context,
    Excluded,
    Items,
    MostRows,
    Rows,
    Tokens,
)
from octorec.engine.widths import check_default_width, read_beam_width, read_widths, shown
from octorec.errors import InputError
from octorec.kernels.ops import Ops
from octorec.models.model import Choose, Model, max_tokens
from octorec.settings import check_ascending, check_types


@dataclass(frozen=True)
class EngineConfig:
    """EngineConfig is what an engine is built for. A batch runs in the smallest bucket that holds it.

    beam_widths: each a number, or a number a level. max_rows: of a bucket, batch size times widest level, so that there
    can be large batches of narrow beams without large batches of wide ones; None: of any number.
    """

    max_context: Context | None = None  # items of a history that are read, the newest; None: as many as the model reads
    batch_sizes: tuple[Rows, ...] = DEFAULT_BATCH_SIZES
    beam_widths: tuple[Any, ...] = (32, 128, 512)  # each a `Width`
    default_beam_width: Any = DEFAULT_BEAM_WIDTH  # a `BeamWidth`
    max_exclude: Excluded = DEFAULT_EXCLUDE  # ids in a request's `exclude`
    exclude_seen: bool = False  # whether requests that do not say are given no item of their history
    max_items: Items | None = None  # room for a catalog that grows; None: a tenth more than it has
    max_rows: MostRows | None = None
    max_tokens: Tokens | None = None  # of a prompt, of models that read tokens; None: as the model, at most 4096
    batch_tokens: Tokens | None = None  # of a batch's prompts; None: 32,768, or max_tokens if these are more
    prefix_cache_bytes: CacheBytes = 0  # of the beginnings of prompts that are kept on the device; 0: none are

    def __post_init__(self) -> None:
        check_types(self)
        check_ascending(self, "batch_sizes")
        object.__setattr__(self, "beam_widths", read_widths("beam_widths", self.beam_widths))
        object.__setattr__(self, "default_beam_width", read_beam_width("default_beam_width", self.default_beam_width))
        check_default_width(self.beam_widths, self.default_beam_width)

    def buckets(self, levels: int) -> Buckets:
        """Return every shape of a batch of a model with `levels` levels."""
        return Buckets.of(self.batch_sizes, self.beam_widths, levels, self.max_rows)

    def max_history(self, model: Model) -> int:
        """Return how many items of a history are read, the newest."""
        return model.max_history if self.max_context is None else self.max_context

    def longest(self, model: Model) -> int:
        """Return how much `model` is given of a request: items of a history, or tokens where it reads these."""
        if (most := max_tokens(model)) is None:
            return self.max_history(model)
        return min(most, DEFAULT_TOKENS) if self.max_tokens is None else self.max_tokens

    def most_tokens(self, model: Model) -> int:
        """Return how many tokens the prompts of a batch have at most, for a model that reads tokens."""
        return max(self.longest(model), DEFAULT_BATCH_TOKENS) if self.batch_tokens is None else self.batch_tokens

    def scored_at_once(self, longest: int, buckets: Sequence[Bucket]) -> int:
        """Return how many requests of `longest` items are scored together on a GPU, where Python launches operations.

        They have no more rows than the largest batch of a search: a row of each item of a history, and of each beam,
        of which a request that is scored has one.
        """
        rows = max(bucket.size * (longest + max(bucket.widths)) for bucket in buckets)
        most = self.batch_sizes[-1]
        return max(1, rows // (longest + 1) // most) * most

    def room(self, catalog: Catalog) -> int:
        """Return how many items a version of `catalog` may have."""
        return len(catalog) + len(catalog) // 10 if self.max_items is None else self.max_items

    def thin(self, catalog: Catalog) -> list[str]:
        """Say of each schedule that `catalog` does not fan out for: it finds fewer tuples than it has beams."""
        levels, said = catalog.trie.levels, []
        schedules = [one for one in self.beam_widths if not isinstance(one, int) and len(one) == len(levels)]
        live = [1, *(int((level.child_live > 0).sum()) for level in levels)] if schedules else []
        for widths in schedules:
            found = 1.0
            for width, above, nodes in zip(widths, live, live[1:], strict=False):
                found = min(float(width), found * nodes / above)
            if found < widths[-1]:
                why = f"prefixes of {len(widths) - 1} codes lead to {live[-1] / live[-2]:.2f} tuples each"
                said.append(f"beam_widths {shown(widths)}: finds about {found:.0f} of {widths[-1]} tuples, as {why}")
        return said

    def check(self, model: Model, ops: Ops) -> None:
        """Raise InputError for a context that `model` does not read, and for beams that `ops` have no room for."""
        if self.max_context is not None and self.max_context > model.max_history:
            allowed = f"at most the model's max_history, {model.max_history}: it reads no older items"
            raise InputError("max_context", self.max_context, allowed)
        self._check_tokens(model)
        for widths in self.buckets(len(model.codebook_sizes)).beams:
            beams = 1
            for step in model.steps:
                if isinstance(step, Choose):
                    self._check_step(ops, beams, model.codebook_sizes[step.level], widths[step.level])
                    beams = widths[step.level]

    def _check_tokens(self, model: Model) -> None:
        most = max_tokens(model)
        for name in ("max_tokens", "batch_tokens"):
            if most is None and getattr(self, name) is not None:
                raise InputError(name, getattr(self, name), "this model reads no tokens")
        if most is None:
            return
        if self.max_tokens is not None and self.max_tokens > most:
            raise InputError("max_tokens", self.max_tokens, f"at most the model's positions, {most:,}")
        if self.batch_tokens is not None and self.batch_tokens < (longest := self.longest(model)):
            allowed = f"at least the longest prompt's, {longest:,}; lower max_tokens, or raise it"
            raise InputError("batch_tokens", self.batch_tokens, allowed)

    def _check_step(self, ops: Ops, beams: int, vocabulary: int, width: int) -> None:
        try:
            ops.check_beams(beams, vocabulary, width)
        except InputError as error:
            raise InputError("beam_widths", self.beam_widths, error.allowed) from None
