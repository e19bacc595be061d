"""The recommenders of the comparison: a traditional ranker of two inputs, and OneRec-V2, on the same data."""

import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.rows.families import Auc, Effect
from octorec.data.movielens import MovieLens
from octorec.data.splits import Example, leave_last_out
from octorec.demo.run import HELD_OUT, MEASURED, demo_engine
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.evaluate.compare import compare_predictions
from octorec.evaluate.predictions import Predictions, predict
from octorec.kernels import reference
from octorec.kernels.fp8 import Granularity, dequantize, quantize
from octorec.models.names import disk_tensors
from octorec.models.onerec import OneRecV2
from octorec.models.presets import preset
from octorec.numerics.activations import SCHEMES, activation_stats, watch
from octorec.numerics.advice import LayerAdvice, judge
from octorec.numerics.distribution import distribution
from octorec.numerics.intensity import Roofline, Workload
from octorec.numerics.roles import role
from octorec.numerics.stats import TensorStats, weight_stats
from octorec.numerics.workload import speed
from octorec.progress_bar import counting
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import empty_model, load_dequantized
from octorec.quant.recipe import Group, Recipe, load_recipe, matrices
from studies.families.auc import auc_intervals
from studies.families.ranker import Ranker, RankerConfig, folded, load_ranker, save_ranker
from studies.families.ranker_data import NUMBERS, RankerSet, ranker_set
from studies.families.ranker_training import RankerTraining, click_scores, floor_scores, split, train_ranker
from studies.families.weights import Family, rounded

CANDIDATES = 512  # scored a request: the ranker's serving batch
LOGIT, BOTTOM = "top_mlp.4.proj", "bottom_mlp.0.proj"
PRODUCTS = r"blocks\.\d+\.((cross|self)_attn\.[qkvo]|ffn\.((shared_)?experts\.\d+\.)?(gate|up|down))_proj"
TENSOR = Recipe("tensor/tensor", (Group((PRODUCTS,), "tensor", "tensor"),))


def rankers(movies: MovieLens, out: Path) -> tuple[list[Family], dict[str, Auc]]:
    """One training, two networks of the same function: one reads raw numbers, one standardises them.

    And AUC with intervals: of both, of a network trained on raw numbers directly, and of the floors.
    """
    training = RankerTraining()
    examples = ranker_set(movies, RankerConfig.history)
    learned, judged = split(examples, training)
    config = RankerConfig(examples.rows, NUMBERS)
    models = {}
    for name, standardised in (("standardised numbers", True), ("trained on raw numbers", False)):
        with counting(f"ranker, {name}") as progress:
            changed = dataclasses.replace(config, standardised=standardised)
            models[name] = train_ranker(learned, changed, training, progress)
    models["raw numbers"] = folded(models["standardised numbers"])
    scores = {name: click_scores(model, judged, CANDIDATES) for name, model in models.items()}
    scores |= floor_scores(learned, judged)
    clicks = judged.clicks.numpy()
    known = auc_intervals(scores, clicks, judged.user_ids, "logistic regression on two rates")
    families = []
    for name in ("raw numbers", "standardised numbers"):
        folder = out / f"ranker-{name.partition(' ')[0]}"
        save_ranker(models[name], folder, {"training": dataclasses.asdict(training), "auc": known[name]}, force=True)
        families.append(_ranker_family(name, folder, judged))
    return families, {name: Auc(**{key: round(x, 5) for key, x in found.items()}) for name, found in known.items()}


def _ranker_family(name: str, folder: Path, judged: RankerSet) -> Family:
    model = load_ranker(folder)
    weights = weight_stats(folder)
    sample = judged.batch[slice(None, None, max(1, len(judged) // CANDIDATES))]
    inputs = watch(model, lambda: model(sample))
    work = speed(weights, model.config.to_dict(), judge(weights, inputs), Workload(batch=1, beam=CANDIDATES))
    notes = {
        "raw numbers": "Trained on standardised numbers; mean and deviation were then folded into the first product, "
        "an exact change of variables, so that the served network reads the numbers as they come.",
        "standardised numbers": "The same function as the other ranker; it subtracts the mean and divides by the "
        "deviation of each number, kept in float32, before the first product.",
    }
    lost = _lost(model, judged)
    effects = _ranker_effects(model, judged)
    return Family(f"ranker, {name}", "ranker", "trained here on MovieLens-100K", True, weights, inputs, effects,
                  work.memory_bound, work.gain, (notes[name], *lost))  # fmt: skip


@torch.no_grad()
def _lost(model: Ranker, judged: RankerSet) -> list[str]:
    """What a scale a token makes of each raw number, and a scale a channel of the weights that it meets."""
    if model.config.standardised:
        return []
    x, weight = judged.batch.numbers, model.state_dict()[f"{BOTTOM}.weight"]
    rounded_x, rounded_w = dequantize(quantize(x, "token")), dequantize(quantize(weight, "channel"))
    said = []
    for what, exact, found in (("numbers", x, rounded_x), ("weights", weight, rounded_w)):
        shares = ((found == 0) & (exact != 0)).sum(0) / (exact != 0).sum(0)
        zero = ", ".join(f"{name} {share:.1%}" for name, share in zip(NUMBERS, shares.tolist(), strict=True) if share)
        said.append(f"of the {what} that are not zero become zero: {zero}")
    return [f"With a scale a token and a scale a channel, {'; '.join(said)}."]


def _ranker_effects(model: Ranker, judged: RankerSet) -> list[Effect]:
    """AUC with every product rounded but that of the logit, and with the first one of the numbers kept as well."""
    everything: Callable[[str], bool] = lambda product: product != LOGIT  # noqa: E731
    spared: Callable[[str], bool] = lambda product: product not in (LOGIT, BOTTOM)  # noqa: E731
    runs: dict[tuple[str, str], tuple[Granularity | None, Granularity | None, Callable[[str], bool]]]
    runs = {(scheme, ""): (*kinds, everything) for scheme, kinds in SCHEMES.items()}
    runs |= {(scheme, "the first product of the numbers"): (*kinds, spared) for scheme, kinds in SCHEMES.items()}
    runs["bfloat16", ""] = (None, None, everything)
    scores = {("float32", ""): click_scores(model, judged, CANDIDATES)}
    for key, (weights, activations, chosen) in runs.items():
        with rounded(model, weights, activations, chosen):
            scores[key] = click_scores(model, judged, CANDIDATES)
    names = {" | ".join(key): key for key in scores}
    found = auc_intervals({name: scores[key] for name, key in names.items()}, judged.clicks.numpy(), judged.user_ids,
                          "float32 | ")  # fmt: skip
    before = found.pop("float32 | ")["auc"]
    return [
        Effect("AUC", *names[name], before, e["auc"], e["difference"], e["difference_low"], e["difference_high"])
        for name, e in found.items()
    ]


def onerec(folder: Path, movies: MovieLens, sample: int) -> Family:
    """A OneRec-V2 checkpoint of the demo's kind: weights, inputs of real requests, FP8 on `sample` targets."""
    _, examples = leave_last_out(movies.interactions, HELD_OUT)
    asked = examples[:: max(1, len(examples) // sample)][:sample]
    weights = weight_stats(folder)
    engine = demo_engine(folder)
    few = asked[:: max(1, len(asked) // MEASURED)][:MEASURED]
    requests = [Request(example.history, user=movies.users[example.user_id]) for example in few]
    batch = engine.forced_batch(requests, [example.target for example in few])
    inputs = activation_stats(load_dequantized(folder), *batch)
    work = published_size()
    notes = (
        f"FP8 was judged on {len(asked):,} held-out interactions. Its speed is that of the published MoE 4B at batch "
        "32, beam 512, context 512, counted from shapes: the model trained here is 128 wide.",
    )
    effects = _onerec_effects(folder, engine, asked, examples, movies)
    return Family("OneRec-V2 MoE", "OneRec-V2", "trained on MovieLens-100K by octorec demo", True, weights, inputs,
                  effects, work.memory_bound, work.gain, notes)  # fmt: skip


def _onerec_effects(
    folder: Path, engine: Engine, asked: list[Example], examples: list[Example], movies: MovieLens
) -> list[Effect]:
    def answers(name: str, engine: Engine) -> Predictions:
        with counting(f"OneRec-V2, {name}") as progress:
            return predict(engine, asked, k=10, users=movies.users, progress=progress)

    before = answers("16 bit", engine)
    effects = []
    for recipe in ("fp8", "fp8-channel", "fp8-block", TENSOR):
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "fp8"
            name = quantize_checkpoint(folder, out, recipe).recipe
            found = compare_predictions(before, answers(name, demo_engine(out)))
        recall, nll = found.differences["recall@10"], found.nll
        sides = [(side["recall@10"], side["nll"]) for side in (found.baseline, found.candidate)]
        effects.append(Effect("recall@10", name, "", sides[0][0], sides[1][0], recall.value, recall.low, recall.high,
                              relative=True))  # fmt: skip
        effects.append(Effect("NLL", name, "", sides[0][1], sides[1][1], nll.value, nll.low, nll.high,
                              larger_is_better=False))  # fmt: skip
    return effects


def published_size() -> Roofline:
    """The roofline of the MoE 4B-A0.5B under recipe fp8 at the paper's shape, from its tensors' shapes alone."""
    config = preset("moe-4b-a0.5b")
    tensors = disk_tensors(empty_model(partial(OneRecV2, config, reference), None, torch.bfloat16))
    one = distribution(torch.ones(1))  # only shapes are read
    weights = [TensorStats(name, role(name), tuple(t.shape), "bfloat16", t.nbytes, one, {}, None)
               for name, t in tensors.items()]  # fmt: skip
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assigned = load_recipe("fp8").assign(matrices(shapes))
    layers = tuple(LayerAdvice(module, role(module), shapes[f"{module}.weight"], "block" if g.weights == "block" else
                                "channel", "recipe fp8", None, None, None, None, 0, 0, 0.0)
                   for module, g in assigned.items())  # fmt: skip
    advice = dataclasses.replace(judge([]), layers=layers)
    return speed(weights, config.to_dict(), advice, Workload())
