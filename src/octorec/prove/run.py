"""Is FP8 safe for this model? Quantize it, compare layer by layer and answer by answer, and say one word.

Nothing here is measured for the first time: layers by `numerics.fidelity`, answers by `evaluate`.
"""

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octorec.data.interactions import Interactions
from octorec.data.splits import Example
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.engine.widths import of_one, read_beam_width
from octorec.evaluate.asked import Asked, engine_of
from octorec.evaluate.compare import Agreement, Comparison, agreement_of, compare_predictions, evaluate_baselines
from octorec.evaluate.cutoffs import lengths
from octorec.evaluate.margin import check_margin
from octorec.evaluate.paired import Estimate, estimate, mean
from octorec.evaluate.predictions import Predictions, predict, require_examples
from octorec.evaluate.unknown import askable
from octorec.evaluate.verdict import EXIT_CODES, Outcome
from octorec.kernels.device import open_device
from octorec.numerics.fidelity import LayerFidelity, edges_hold, layer_fidelity
from octorec.progress import Progress, part, silent
from octorec.prove.config import MEASURED, ProveConfig
from octorec.quant.convert import quantize_checkpoint

NLL_LOSS = 0.02  # nats that FP8 may cost a target with 95 % confidence: 2 % of its likelihood
NLL_USERS = 1000  # fewer cannot judge NLL: nothing bounds what one target can lose
NOISE = 1000  # requests on which the noise floor is measured
TIMED = 64  # batches whose time is taken on a GPU
BATCH = 32  # requests a batch
OTHER_BATCH = 24  # requests a batch, for the noise floor


@dataclass(frozen=True)
class Speed:
    """A Speed is one engine's on full batches, from item ids on the host to answers on the host. p99_ms: of a batch."""

    requests_per_s: float
    p99_ms: float
    dollars_per_million: float


@dataclass(frozen=True)
class Proof:
    """A Proof is what was found about an FP8 checkpoint.

    layers: every FP8 layer beside its 16-bit parent. edges: whether extreme activations survive quantization.

    noise: the parent beside itself in other batches, the floor of any overlap. speed: by precision, empty on a CPU.
    """

    recipe: str
    layers: Sequence[LayerFidelity]
    edges: bool
    comparison: Comparison
    noise: Agreement
    speed: Mapping[str, Speed]

    @property
    def faults(self) -> list[str]:
        return faults(self.layers, self.edges, self.comparison.nll)

    @property
    def outcome(self) -> Outcome:
        """Return `inferior` for a fault in the numbers, whatever the recall of these users could show. A loss of NLL
        that cannot be ruled out is no fault, but leaves open what recall alone would clear.
        """
        if self.faults:
            return "inferior"
        outcome = self.comparison.verdict.outcome
        return "inconclusive" if outcome == "not_inferior" and self.nll_outcome == "inconclusive" else outcome

    @property
    def nll_outcome(self) -> Outcome | None:
        return nll_outcome(self.comparison.nll)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "recipe": self.recipe,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "faults": self.faults,
            "warnings": list(self.comparison.origin.warnings) if self.comparison.origin else [],
            "layers": [layer.row() for layer in self.layers],
            "edges": self.edges,
            "noise": asdict(self.noise),
            "speed": {name: asdict(speed) for name, speed in self.speed.items()},
            "comparison": self.comparison.to_dict(),
        }


def faults(layers: Sequence[LayerFidelity], edges: bool, nll: Estimate) -> list[str]:
    """Return a sentence for each number that is wrong: the gate for sets too small for recall to decide."""
    found = [
        f"layer {layer.name}: output {layer.output:.1f} dB, its worst row {layer.worst_row:.1f} dB, "
        f"{layer.half_steps:.2g} half steps"
        for layer in layers
        if not layer.safe
    ]
    if not edges:
        found.append("activations at the edge of E4M3's range do not survive quantization")
    if math.isnan(nll.value):
        found.append("NLL is not a number for any target")
    if nll_outcome(nll) == "inferior":
        found.append(f"NLL grows by at least {nll.low:.4f} nats a target, more than {NLL_LOSS}")
    return found


def nll_outcome(nll: Estimate) -> Outcome | None:
    """Tell whether `nll`, FP8 - 16 bit, stays below NLL_LOSS; None, which blocks and clears nothing,
    where users are few.
    """
    if nll.users < NLL_USERS:
        return None
    if nll.low > NLL_LOSS:
        return "inferior"
    return "not_inferior" if nll.high <= NLL_LOSS else "inconclusive"


def gate(
    parent: Engine, child: Engine, examples: Sequence[Example], users: Mapping[str, Mapping[str, Any]] | None = None
) -> list[str]:
    """Return what is wrong with the FP8 engine `child` of `parent`, by its layers and by the NLL of `examples`: it
    needs no search, and no recall, which has no power over a few hundred users. Nothing is wrong where the list is
    empty. Unknown items are left out.
    """
    asked = users or {}
    examples, _ = askable(examples, parent.catalog.item_ids, asked)
    requests = [Request(example.history, k=1, user=asked.get(example.user_id, {})) for example in examples]
    targets = [example.target for example in examples]
    nll = [-engine.score(requests, targets).astype(np.float64).sum(1) for engine in (parent, child)]
    ids = np.array([example.user_id for example in examples], dtype=object)
    return faults(*compared_layers(parent, child, examples, asked), estimate(ids, {"nll": mean(*nll)})["nll"])


def prove(
    checkpoint: str | Path,
    examples: Sequence[Example],
    config: ProveConfig,
    out: str | Path | None = None,
    users: Mapping[str, Mapping[str, Any]] | None = None,
    force: bool = False,
    progress: Progress = silent,
    train: Interactions | None = None,
    domain: str = "",
) -> Proof:
    """Quantize the 16-bit `checkpoint` into `out` (None: a folder that is removed again) and compare the two on
    `examples`. train: what the floors learn from. domain: whose catalog answers, of a language model that has several.
    """
    check_margin(config.margin)
    require_examples(examples)
    open_device(config.device)
    asked = users or {}
    count = len(examples)
    total = 2 * count + min(count, NOISE)

    with ExitStack() as stack:
        if out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "fp8"
        told = part(progress, 0, total)
        parent = _engine(checkpoint, config, BATCH, told, domain)  # first, for what it refuses
        progress(0, total, "quantizing")
        quantize_checkpoint(checkpoint, out, config.recipe, force, context_module=config.context_module)
        child = _engine(out, config, BATCH, told, domain)
        few, _ = askable(examples, parent.catalog.item_ids, asked, config.unknown_items)
        how: dict[str, Any] = {"users": asked, "domain": domain}
        before = predict(parent, examples, config.k, progress=part(progress, 0, total, "16 bit"), **how)
        after = predict(child, examples, config.k, progress=part(progress, count, total, "FP8"), **how)
        other = _engine(checkpoint, config, OTHER_BATCH, part(progress, 2 * count, total), domain)
        noise = noise_floor(other, before, examples, asked, part(progress, 2 * count, total, "noise floor"), domain)
        progress(total, total, "speed and layers")
        on_gpu = {"16 bit": parent, "FP8": child} if parent.device.type == "cuda" else {}
        speed = {name: timed(engine, few, asked, config, domain) for name, engine in on_gpu.items()}
        layers, edges = compared_layers(parent, child, few, asked, domain)
    floors = evaluate_baselines(train, examples, config.k, before.exclude_seen) if train else None
    comparison = compare_predictions(before, after, config.margin, floors)
    return Proof(config.recipe, layers, edges, comparison, noise, speed)


def _engine(checkpoint: str | Path, config: ProveConfig, batch: int, progress: Progress, domain: str) -> Engine:
    """Return an engine of one bucket."""
    options: dict[str, Any] = of_one(read_beam_width("beam_width", config.beam_width))
    options |= {"batch_sizes": (batch,), "exclude_seen": config.exclude_seen, "progress": progress}
    loaded = load(checkpoint, device=config.device, context_module=config.context_module, **options)
    engine: Engine = engine_of(loaded, domain)
    return engine


def compared_layers(
    parent: Engine, child: Engine, examples: Sequence[Example], users: Mapping[str, Mapping[str, Any]], domain: str = ""
) -> tuple[list[LayerFidelity], bool]:
    """Return what `Proof` holds of layers and edges, on examples spread over all."""
    few = spread(examples, MEASURED)
    ask_for = Asked(parent, {"k": 1}, users, domain)
    requests = [ask_for.request(example, example.history) for example in few]
    batch, codes = parent.forced_batch(requests, [example.target for example in few])
    layers = layer_fidelity(parent.model, child.model, batch, codes)
    return layers, edges_hold(child.ops, str(child.device), next(parent.model.parameters()).dtype)  # type: ignore[attr-defined]


def noise_floor(
    other: Engine,
    before: Predictions,
    examples: Sequence[Example],
    users: Mapping[str, Mapping[str, Any]],
    progress: Progress = silent,
    domain: str = "",
) -> Agreement:
    """Compare `other`, the same checkpoint in batches of another size, with the answers `before` to the same examples,
    of which a part spread over all is asked again in another order.
    """
    rows = np.random.default_rng(0).permutation(len(examples))[:NOISE]
    few = [examples[row] for row in rows]
    how: dict[str, Any] = {"users": users, "domain": domain, "exclude_seen": before.exclude_seen}
    again = predict(other, few, before.k, progress=progress, **how)
    return agreement_of(before.at(rows), again)


def timed(
    engine: Engine,
    examples: Sequence[Example],
    users: Mapping[str, Mapping[str, Any]],
    config: ProveConfig,
    domain: str = "",
) -> Speed:
    few = spread(examples, TIMED * BATCH)
    ask_for = Asked(engine, {"k": lengths(config.k)[-1]}, users, domain)
    requests = [ask_for.request(example, example.history) for example in few]
    chunks = [requests[start : start + BATCH] for start in range(0, len(requests), BATCH)]
    engine.recommend(chunks[0])  # the first call captures the graph
    seconds = []
    for chunk in chunks:
        start = time.perf_counter()
        engine.recommend(chunk)
        seconds.append(time.perf_counter() - start)
    rate = len(requests) / sum(seconds)
    return Speed(rate, 1e3 * float(np.quantile(seconds, 0.99)), config.dollars_per_hour / 3600 / rate * 1e6)


def spread(examples: Sequence[Example], count: int) -> Sequence[Example]:
    """Return at most `count` of the examples, evenly over all."""
    return examples[:: max(1, len(examples) // count)][:count]
