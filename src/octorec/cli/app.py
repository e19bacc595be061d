"""The command line: one verb a stage, each in a file of this room.

Rooms are imported inside the verbs, after what was typed is checked: `--help` and a wrong path are answered at once.
"""

import sys
from typing import Annotated

import typer

import octorec
from octorec.cli.ab import ab_app
from octorec.cli.catalog import catalog_app
from octorec.cli.command import run
from octorec.cli.data import data_app
from octorec.cli.demo import demo
from octorec.cli.doctor import doctor
from octorec.cli.evaluate import evaluate
from octorec.cli.import_checkpoint import import_checkpoint
from octorec.cli.inspect import inspect
from octorec.cli.parity import parity
from octorec.cli.prove import prove
from octorec.cli.quantize import analyze, quantize
from octorec.cli.ray import ray_app
from octorec.cli.recommend import recommend
from octorec.cli.recommend_all import recommend_all
from octorec.cli.serve import bench_serve, serve
from octorec.cli.train import train
from octorec.cli.version import print_version
from octorec.cli.widths import widths

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=octorec.__doc__)
app.add_typer(catalog_app, name="catalog")
app.add_typer(ab_app, name="ab")
app.add_typer(data_app, name="data")
app.add_typer(ray_app, name="ray")
bench_app = typer.Typer(no_args_is_help=True, help="Put what was built under load.")
bench_app.command("serve")(bench_serve)
app.add_typer(bench_app, name="bench")
for verb in (train, analyze, quantize, recommend, widths, serve):
    app.command()(verb)
app.command("recommend-all")(recommend_all)
app.command("import")(import_checkpoint)
app.command(no_args_is_help=True)(inspect)
for verb in (evaluate, prove, parity, demo, doctor):
    app.command()(verb)


@app.callback()
def every_verb(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print versions and exit.")
    ] = False,
) -> None:
    """What comes before a verb."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: what a user caused is one line on stderr and exit code 2."""
    run(app, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    main()
