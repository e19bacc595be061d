"""The proof of plan.md: BF16 beside its FP8 forms on the held-out items of all shops, in one process.

Requests are parsed once, and asked of one engine after the other over the same catalog.
Letters: n requests, k items a list, L levels.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import records
from benchmarks.rows.qwen import QwenVerdictRow
from octorec.catalog.catalog import Catalog
from octorec.data.splits import Example
from octorec.engine.batch import ParsedRequest, model_inputs
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.search import score
from octorec.evaluate.compare import compare_predictions
from octorec.evaluate.predictions import Predictions
from octorec.quant.convert import quantize_checkpoint
from studies.exact.asked import Asked, Deadline, Lists, parse_all, predictions
from studies.exact.data import shop_of
from studies.exact.searches import ask
from studies.exact.subject import Targets
from studies.quality.judge import MARGIN, columns
from studies.quality.outcomes import outcomes_of
from studies.qwen.answers import engine_settings
from studies.qwen.settings import Study
from studies.stages import release

RECIPES = ("fp8", "fp8-block")
BASELINE, NOISE, POOLED = "bf16", "bf16, other batches", "pooled"
LEAST = 40_000  # targets that may decide
NO_END = Deadline("quality", np.inf)
SLOWER = 1.25  # times BF16's searches that each recipe is given


class Answers(NamedTuple):
    """Answers are one system's to some requests. seconds: of searches and scores."""

    found: Predictions
    seconds: float


@dataclass(frozen=True)
class Proof:
    """A Proof asks a folder and its FP8 forms. about: what rows are of. out: where they go."""

    folder: Path
    catalog: Catalog
    study: Study
    device: str
    about: dict[str, Any]
    out: Path

    def measure(self, targets: Targets, seconds: float, most: int | None = None) -> None:
        """Ask BF16 for as many targets as `seconds` leave room for, `most` at most, then the others for the same."""
        start = time.perf_counter()
        examples = in_order(targets)[:most]
        engine = self.engine(self.folder)
        self.answers(engine, parse_all(engine, examples[: engine.config.batch_sizes[-1]], NO_END))  # compiles
        asked, before = self.baseline(engine, examples, start + seconds)
        print(f"  {len(asked):,} of {len(examples):,} targets, BF16 {before.seconds:.1f} s", flush=True)
        systems = {BASELINE: before.found}
        del engine
        release()
        self.noise(asked, before)
        with tempfile.TemporaryDirectory() as scratch:
            for recipe in RECIPES:
                quantize_checkpoint(self.folder, Path(scratch) / recipe, recipe)
                after = self.answers(self.engine(Path(scratch) / recipe), asked)
                release()
                systems[recipe] = after.found
                for scope, rows in scopes(asked.examples).items():
                    self.record(scope, recipe, before.found.at(rows), after.found.at(rows), after.seconds)
        outcomes_of(systems).save(self.out.with_name("outcomes-quality.parquet"))

    def engine(self, folder: Path, **changes: Any) -> Engine:
        """Open a folder over the one catalog, so that requests that are parsed fit every engine."""
        study = replace(self.study, widths=(self.study.quality_width,))
        return load(folder, self.catalog, self.device, **(engine_settings(study) | changes))

    def baseline(self, engine: Engine, examples: Sequence[Example], end: float) -> tuple[Asked, Answers]:
        """Ask BF16 chunk by chunk, while what is left until `end` holds its next chunk and all of FP8's searches."""
        parsed: list[ParsedRequest] = []
        parts: list[Answers] = []
        longest = searched = 0.0
        for first in range(0, len(examples), self.study.quality_chunk):
            start = time.perf_counter()
            if parts and start + longest + len(RECIPES) * SLOWER * (searched + longest) > end:
                break
            some = examples[first : first + self.study.quality_chunk]
            asked = parse_all(engine, some, NO_END)
            parsed += asked.parsed
            parts.append(self.answers(engine, asked))
            searched += parts[-1].seconds
            longest = max(longest, time.perf_counter() - start)
        return Asked(self.catalog, examples[: len(parsed)], parsed), joined(parts)

    def answers(self, engine: Engine, asked: Asked) -> Answers:
        """Ask an engine for lists, and for the log-probabilities of the targets."""
        start = time.perf_counter()
        lists: Lists = ask(engine, asked, self.study.quality_width, self.study.k, NO_END)
        found = predictions(asked, lists, self.study.k, log_probs(engine, asked))
        return Answers(found, time.perf_counter() - start)

    def noise(self, asked: Asked, before: Answers) -> None:
        """Ask BF16 again in batches of half the size and another order: the floor of any overlap."""
        count = min(self.study.quality_noise, len(asked))
        rows = np.random.default_rng(0).permutation(len(asked))[:count]
        some = Asked(self.catalog, [asked.examples[row] for row in rows], [asked.parsed[row] for row in rows])
        half = max(1, self.study.most_beams // self.study.quality_width // 2)
        again = self.answers(
            self.engine(self.folder, batch_sizes=(half,), max_rows=half * self.study.quality_width), some
        )
        release()
        self.record(POOLED, NOISE, before.found.at(rows), again.found, again.seconds)

    def record(self, scope: str, recipe: str, before: Predictions, after: Predictions, seconds: float) -> None:
        """Judge a candidate by the plan, and append its row."""
        found = compare_predictions(before, after, MARGIN)
        on_gpu = torch.device(self.device).type == "cuda"
        sixteen, eight = ("bf16", "fp8 kernels") if on_gpu else ("float32", "fp8 reference operations")
        row = QwenVerdictRow(
            **self.about, **columns(found), scope=scope, recipe=recipe, beam_width=self.study.quality_width,
            arithmetic=sixteen if recipe == NOISE else eight,
            bf16={name: round(value, 6) for name, value in found.baseline.items()},
            enough=scope == POOLED and recipe != NOISE and found.targets >= LEAST, seconds=round(seconds, 2),
        )  # fmt: skip
        records.append(self.out, row)
        ratio = row.relative_difference["recall@10"]
        ends = "" if ratio.low is None or ratio.high is None else f" [{ratio.low:+.4f}, {ratio.high:+.4f}]"
        print(f"  {scope}, {recipe}: {row.targets:,} targets, recall@10 {row.recall_10:.4f} ({ratio.value:+.4f}{ends})"
              f", NLL {row.nll_difference.value:+.5f}, 10 shared {row.top10_overlap:.4f}: {row.verdict}",
              flush=True)  # fmt: skip


def in_order(targets: Targets) -> list[Example]:
    """Return the test targets of all users, then the validation targets, each in the plan's order."""
    order = np.random.default_rng(0).permutation(len(targets.test))
    return [side[row] for side in (targets.test, targets.validation) for row in order]


def scopes(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """Return the rows of each shop's examples, and of all."""
    shops = np.array([shop_of(example.user_id) for example in examples])
    return {str(shop): np.flatnonzero(shops == shop) for shop in np.unique(shops)} | {POOLED: np.arange(len(examples))}


@torch.inference_mode()
def log_probs(engine: Engine, asked: Asked) -> np.ndarray:
    """Return the log-probabilities [n, L] float32 of the targets' codes, of requests that are parsed."""
    codes = torch.from_numpy(asked.catalog.codes[asked.targets].astype(np.int64)).to(engine.device)
    size, found = engine.config.batch_sizes[-1], []
    for start in range(0, len(asked), size):
        some = asked.parsed[start : start + size]
        inputs = model_inputs(engine.model, some, len(some), engine.longest, engine.device)
        found.append(score(engine.model, inputs, codes[start : start + size]).cpu().numpy())
    return np.concatenate(found)


def joined(parts: Sequence[Answers]) -> Answers:
    """Return the answers to several runs of examples as those to all."""

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(one.found, name) for one in parts])

    known, seen, scores = column("known"), column("seen"), column("log_probs")
    whole = Predictions(column("user_ids"), column("targets"), column("ranked"), known, seen, scores, exclude_seen=True)
    return Answers(whole, sum(one.seconds for one in parts))
