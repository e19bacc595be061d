"""The demo tells the whole story on MovieLens-100K, on a CPU: train, analyze, quantize, judge, recommend."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.data.described import described
from octorec.data.interactions import Interactions
from octorec.data.learned import read_learned
from octorec.data.movielens import MovieLens, movielens_100k
from octorec.data.splits import Example, leave_last_out
from octorec.demo.claim import claimed_demo
from octorec.demo.folder import write_examples, write_found, write_tables
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.request import Answer, Request
from octorec.evaluate.compare import compare_predictions, difference, evaluate_baselines
from octorec.evaluate.margin import MARGIN
from octorec.evaluate.origin import Side, origin_of
from octorec.evaluate.predictions import Predictions, predict
from octorec.models.presets import preset
from octorec.models.user import UserField
from octorec.numerics.analysis import Analysis
from octorec.progress_bar import counting, megabytes, training_progress
from octorec.prove.config import MEASURED
from octorec.prove.run import OTHER_BATCH, Proof, compared_layers, noise_floor
from octorec.quant.convert import quantize_checkpoint
from octorec.report.analysis import analyze
from octorec.report.demo import Findings, summary, write_demo_report
from octorec.report.demo_sections import METRICS
from octorec.report.people import people
from octorec.report.proof import render_proof
from octorec.report.verdict import render
from octorec.terminal import console, fitting, say
from octorec.training.config import TrainConfig
from octorec.training.run import train

CODEBOOK_SIZES = (256, 256, 256)
HELD_OUT = 10  # newest interactions of each user, predicted one at a time
BEAM_WIDTH = 32
PERSON = "350"  # whose recommendations are shown
TRIED = (PERSON, "13", "405", "94", "711", "59")  # whose histories the server's page offers
TRAINING = TrainConfig(
    steps=900, learning_rate=1e-3, weight_decay=0.2, label_smoothing=0.1, validate_every=150, save_every=300
)


def run_demo(
    out: Path, cache: Path, pip_args: Sequence[str] = (), force: bool = False, training: TrainConfig = TRAINING
) -> dict[str, Any]:
    """Write `out`/bf16, `out`/fp8, `out`/analysis, `out`/report.html and the tables; returns what demo.json holds.

    cache: where MovieLens-100K is kept. pip_args: for fetching it, see `movielens_100k`.
    """
    with claimed_demo(out, force, cache):
        return _stages(out, cache, pip_args, force, training)


def _stages(out: Path, cache: Path, pip_args: Sequence[str], force: bool, training: TrainConfig) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    with _stage("data", "MovieLens-100K, every rating an interaction", seconds):
        movies = movielens_100k(cache, pip_args)
        learned, examples = leave_last_out(movies.interactions, HELD_OUT)
        write_tables(out, movies)
        write_examples(out, movies, TRIED)
        say(described(movies.interactions))
        say(f"{len(learned):,} interactions to learn from, {len(examples):,} to predict")
    with _stage("catalog", f"semantic IDs by residual k-means, codebooks {CODEBOOK_SIZES}", seconds):
        with counting("building", "steps") as progress:
            catalog = build_catalog(
                movies.interactions, movies.items, CODEBOOK_SIZES, progress=progress, hold_out=HELD_OUT
            )
        say(f"{len(catalog):,} films, {catalog.n_sharing} of them on shared tuples")
    with _stage("train", "a OneRec-V2 MoE, float32 on the CPU", seconds):
        about = train_demo(learned, catalog, movies, out / "bf16", force, training)
    engines = {"bf16": demo_engine(out / "bf16")}
    with _stage("analyze", f"weights, and activations of {MEASURED} requests", seconds):
        analysis = _analyze(out / "bf16", out / "analysis", engines["bf16"], movies, examples, force)
    with _stage("quantize", "recipe fp8", seconds), counting("quantizing", "MB") as progress:
        quantized = quantize_checkpoint(out / "bf16", out / "fp8", "fp8", force, megabytes(progress))
        say(f"{quantized.quantized_ratio:.3f} of the bytes over the quantized parts")
    engines["fp8"] = demo_engine(out / "fp8")
    with _stage("evaluate", f"{len(examples):,} held-out interactions, seen films excluded", seconds):
        predictions = {name: predict_demo(name, engine, examples, movies) for name, engine in engines.items()}
        floors = evaluate_baselines(learned, examples, exclude_seen=True)
        comparison = compare_predictions(predictions["bf16"], predictions["fp8"], MARGIN, floors)
        side = Side(catalog, read_learned(out / "bf16"))
        origin = origin_of(movies.interactions, HELD_OUT, {"checkpoint": side})
        comparison = dataclasses.replace(comparison, origin=origin)
        _show(render(comparison))
    with _stage("recommend", f"user {PERSON}", seconds):
        watched, answers = _recommend(engines, movies)
        _show(_lists(answers, movies, watched))
    leads = {
        name: {metric: difference(predictions["bf16"], floor, metric) for metric in METRICS}
        for name, floor in floors.items()
    }
    chosen = people(predictions, examples, catalog, movies.users)
    found = Findings(about, analysis, quantized, predictions | floors, comparison, leads, chosen, seconds)
    write_demo_report(out / "report.html", found)
    with _stage("prove", "layers, the noise floor, and the verdict: what `octorec prove` does for your model", seconds):
        other = demo_engine(out / "bf16", OTHER_BATCH)
        noise = noise_floor(other, predictions["bf16"], examples, movies.users)
        layers, edges = compared_layers(engines["bf16"], engines["fp8"], examples, movies.users)
        proof = Proof("fp8", layers, edges, comparison, noise, {})
        _show(render_proof(proof))
    summed = {**summary(found), "proof": {"outcome": proof.outcome, "faults": proof.faults}}
    write_found(out, summed)
    return summed


@contextmanager
def _stage(name: str, what: str, seconds: dict[str, float]) -> Iterator[None]:
    """Say what begins, and keep how long it took."""
    console.print()
    say(f"{name}: {what}", style="bold")
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 1)


def _show(found: RenderableType) -> None:
    console.print(fitting(found, console))


def user_schema(users: Mapping[str, Mapping[str, Any]]) -> tuple[UserField, ...]:
    """Return MovieLens' user fields: age standardised, gender and occupation by their values."""
    ages = [float(user["age"]) for user in users.values()]
    mean = sum(ages) / len(ages)
    std = (sum((age - mean) ** 2 for age in ages) / len(ages)) ** 0.5
    categories = {
        name: tuple(sorted({str(user[name]) for user in users.values()})) for name in ("gender", "occupation")
    }
    age = UserField("age", "number", mean=round(mean, 2), std=round(std, 2))
    return (age, *(UserField(name, "category", values) for name, values in categories.items()))


def train_demo(
    learned: Interactions, catalog: Catalog, movies: MovieLens, out: Path, force: bool, training: TrainConfig
) -> dict[str, Any]:
    config = preset(
        "demo",
        codebook_sizes=catalog.codebook_sizes,
        codebook_fingerprint=catalog.fingerprint,
        user_fields=user_schema(movies.users),
    )
    _, validation = leave_last_out(learned, 1)
    with training_progress(training.steps) as on_step:
        return train(
            learned,
            catalog,
            config,
            training,
            out,
            users=movies.users,
            force=force,
            validation=validation,
            on_step=on_step,
        )


def demo_engine(checkpoint: Path, batch_size: int = 64) -> Engine:
    """Return an engine of one bucket; people do not rate a film twice, so that seen ones are excluded."""
    widths: dict[str, Any] = {"beam_widths": (BEAM_WIDTH,), "default_beam_width": BEAM_WIDTH}
    return load(checkpoint, batch_sizes=(batch_size,), exclude_seen=True, **widths)


def _analyze(
    checkpoint: Path, out: Path, engine: Engine, movies: MovieLens, examples: Sequence[Example], force: bool
) -> Analysis:
    sample = examples[:: len(examples) // MEASURED][:MEASURED]
    requests = [Request(example.history, user=movies.users[example.user_id]) for example in sample]
    batch = engine.forced_batch(requests, [example.target for example in sample])
    with counting("analyzing", "tensors") as progress:
        return analyze(checkpoint, out, batch, force, progress)


def predict_demo(name: str, engine: Engine, examples: Sequence[Example], movies: MovieLens) -> Predictions:
    with counting(f"asking {name}", "requests") as progress:
        return predict(engine, examples, users=movies.users, progress=progress)


def _recommend(engines: Mapping[str, Engine], movies: MovieLens) -> tuple[list[str], dict[str, Answer]]:
    """Return the person's newest films, and ten recommendations of each engine from the whole history."""
    history = movies.interactions.histories()[PERSON]
    request = Request(history, user=movies.users[PERSON])
    catalog = next(iter(engines.values())).catalog
    watched = [catalog.titles[catalog.index[item]] for item in history[-10:][::-1]]
    return watched, {name: engine.recommend([request])[0] for name, engine in engines.items()}


def _lists(answers: Mapping[str, Answer], movies: MovieLens, watched: Sequence[str]) -> Table:
    about = ", ".join(f"{name} {value}" for name, value in movies.users[PERSON].items())
    table = Table("", "watched last", *answers, title=f"User {PERSON}: {about}", title_justify="left")
    for rank, row in enumerate(zip(watched, *(answer.titles for answer in answers.values()), strict=False), 1):
        table.add_row(str(rank), *row)
    return table
