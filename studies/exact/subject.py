"""What the stages share: a checkpoint in one precision and at one temperature, and where its rows go."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks import records
from benchmarks.rows import FILES
from benchmarks.rows.exact import ExactRow, StartsRow
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.data.splits import Example, leave_last_out
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.load import load
from octorec.engine.policy import BeamStarts
from octorec.errors import InputError
from octorec.models.onerec import OneRecV2
from octorec.models.onerec_shapes import parameters
from studies.exact.asked import Asked
from studies.exact.data import HOLD_OUT
from studies.exact.settings import BATCH_SIZES, MAX_ROWS, REFERENCE, SCHEDULES, WIDTHS

R = TypeVar("R", bound=ExactRow)


def engine_settings(*widths: Any) -> EngineConfig:
    """Return an engine's settings: large batches where beams are narrow, and no item of the history is an answer."""
    return EngineConfig(
        batch_sizes=BATCH_SIZES, beam_widths=widths, default_beam_width=widths[0], max_rows=MAX_ROWS, exclude_seen=True
    )


SERVING = engine_settings(*WIDTHS, *SCHEDULES)


@dataclass(frozen=True)
class Subject:
    """Subject is one model that is measured. about: the fields of `ExactRow` that name it."""

    engine: Engine
    about: dict[str, Any]
    out: Path

    @property
    def name(self) -> str:
        return f"{self.about['precision']} at T {self.about['temperature']:g}"

    def over(self, catalog: Catalog, *widths: Any) -> Engine:
        """Return an engine of the same model with other widths, or over another catalog of the same codebook."""
        engine = self.engine
        return Engine(engine.model, catalog, engine_settings(*widths), engine.device, engine.ops, engine.checkpoint)

    def starting(self, starts: BeamStarts) -> None:
        """Let `auto` begin as `starts` says."""
        self.engine.policy = replace(self.engine.policy, starts=starts)

    def recall_starts(self) -> None:
        """Let `auto` begin as the file's newest row of this run, model, precision and temperature says."""
        if not self.out.exists():
            return
        mine = [row for row in records.read(self.out, *FILES["exact.jsonl"]) if isinstance(row, StartsRow)]
        mine = [row for row in mine if all(getattr(row, name) == value for name, value in self.about.items())]
        if mine:
            self.starting(BeamStarts({int(k): width for k, width in mine[-1].starts.items()}))

    def row(self, kind: type[R], asked: Asked, **found: Any) -> R:
        """Append a row of `kind` on these requests to the file of results."""
        items, real = len(asked.catalog), len(self.engine.catalog)
        row = kind(**self.about, requests=len(asked), items=items, made_up=items - real, **found)
        records.append(self.out, row)
        return row


def opened(checkpoint: Path, catalog: Catalog, device: str, about: dict[str, Any], out: Path) -> Subject:
    """Open a checkpoint folder as a subject."""
    fields = {name: getattr(SERVING, name) for name in vars(SERVING)}
    engine = load(checkpoint, catalog, device, **{**fields, "default_beam_width": REFERENCE})
    assert isinstance(engine.model, OneRecV2)
    return Subject(engine, {**about, "parameters": parameters(engine.model.config)}, out)


@dataclass(frozen=True)
class Targets:
    """Targets are what people took. train: all else. validation, test: an example a user each, in the same order."""

    train: Interactions
    validation: list[Example]
    test: list[Example]

    @classmethod
    def of(cls, interactions: Interactions) -> "Targets":
        """Hold out two items of each user; InputError where a user has no more than these."""
        train, examples = leave_last_out(interactions, HOLD_OUT)
        users = len(interactions.user_starts()) - 1
        if len(examples) != HOLD_OUT * users:
            raise InputError("interactions", f"{len(examples)} targets of {users} users", "each needs three or more")
        return cls(train, examples[0::2], examples[1::2])


def spread(examples: Sequence[Example], most: int) -> list[Example]:
    """Return at most so many of the examples, evenly spread over all."""
    rows = np.linspace(0, len(examples) - 1, min(most, len(examples)), dtype=int)
    return [examples[row] for row in rows]
