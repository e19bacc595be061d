"""What an engine is built for, and whether its model and operations can serve that."""

from dataclasses import dataclass

from octorec.catalog.catalog import Catalog
from octorec.engine.limits import DEFAULT_BEAM_WIDTH, DEFAULT_EXCLUDE, Context, Excluded, Items, Rows
from octorec.errors import InputError
from octorec.kernels.ops import Ops
from octorec.models.model import Choose, Model
from octorec.settings import check_ascending, check_types


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is built for. A batch runs in the smallest bucket (batch size, beam width) that holds it."""

    max_context: Context | None = None  # items of a history that are read, the newest; None: as many as the model reads
    batch_sizes: tuple[Rows, ...] = (1, 8, 32)
    beam_widths: tuple[Rows, ...] = (32, 128, 512)
    default_beam_width: int = DEFAULT_BEAM_WIDTH
    max_exclude: Excluded = DEFAULT_EXCLUDE  # ids in a request's `exclude`
    exclude_seen: bool = False  # whether requests that do not say are given no item of their history
    max_items: Items | None = None  # room for a catalog that grows; None: a tenth more than it has

    def __post_init__(self) -> None:
        check_types(self)
        check_ascending(self, "batch_sizes", "beam_widths")
        if not 1 <= self.default_beam_width <= self.beam_widths[-1]:
            raise InputError("default_beam_width", self.default_beam_width, f"1 to {self.beam_widths[-1]}")

    @property
    def buckets(self) -> list[tuple[int, int]]:
        """Every (batch size, beam width), the largest first: its capture makes the memory pool of the others."""
        return [(size, width) for size in self.batch_sizes[::-1] for width in self.beam_widths[::-1]]

    def longest(self, model: Model) -> int:
        """How many items of a history `model` is given, the newest."""
        return model.max_history if self.max_context is None else self.max_context

    def room(self, catalog: Catalog) -> int:
        """How many items a version of `catalog` may have."""
        return len(catalog) + len(catalog) // 10 if self.max_items is None else self.max_items

    def check(self, model: Model, ops: Ops) -> None:
        """Raise InputError for a context that `model` does not read, and for beams that `ops` have no room for."""
        if self.max_context is not None and self.max_context > model.max_history:
            allowed = f"at most the model's max_history, {model.max_history}: it reads no older items"
            raise InputError("max_context", self.max_context, allowed)
        for width in self.beam_widths:
            beams = 1
            for step in model.steps:
                if isinstance(step, Choose):
                    self._check_step(ops, beams, model.codebook_sizes[step.level], width)
                    beams = width

    def _check_step(self, ops: Ops, beams: int, vocabulary: int, width: int) -> None:
        try:
            ops.check_beams(beams, vocabulary, width)
        except InputError as error:
            raise InputError("beam_widths", self.beam_widths, error.allowed) from None
