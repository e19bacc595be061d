"""The verb that shows all others on MovieLens-100K."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import typer

from octorec.cli import leads
from octorec.cli.command import kept
from octorec.cli.options import Force, Json, show
from octorec.demo.claim import claimed_demo
from octorec.training.config import TrainConfig


def demo(
    command: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/demo"),
    cache: Annotated[Path, typer.Option(help="Where MovieLens-100K is kept.")] = Path(".cache"),
    pip_args: Annotated[str, typer.Option(help="Arguments of pip for fetching it, such as an index.")] = "",
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = TrainConfig.seed,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Run the whole story on MovieLens-100K, on a CPU: train, analyze, quantize, judge, recommend; some minutes."""
    command.with_resource(claimed_demo(out, force, cache))

    from octorec.demo.folder import last_words
    from octorec.demo.run import TRAINING, run_demo

    with kept(lambda: leads.of_part(out)):
        found = run_demo(out, cache, shlex.split(pip_args), force, dataclasses.replace(TRAINING, seed=seed))
    show(as_json, found, *last_words(out))
