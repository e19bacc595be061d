"""The verbs of the command line share options by name, and how a result is printed.

An option that names a path looks at it as it is read, so that a wrong one is refused before anything is imported.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from octorec.catalog.about import ABOUT_FILE
from octorec.catalog.domain_paths import is_named
from octorec.engine.caps import CAPS, DISTINCT_CODES, MAX_COSINE, read_caps
from octorec.engine.model_folder import BASE, CATALOGS, catalog_within, require_catalog
from octorec.errors import InputError
from octorec.evaluate.cutoffs import K, read_lengths
from octorec.evaluate.margin import check_margin
from octorec.files import json_text
from octorec.models.checkpoint_folder import require_checkpoint, require_inspectable
from octorec.models.context_file import CONTEXT_MODULE, require_module_file
from octorec.models.presets import preset
from octorec.output.claim import claimed_folder
from octorec.output.refuse import refuse_within
from octorec.quant.shipped import require_recipe
from octorec.reading import require_file, require_folder, require_there
from octorec.terminal import UNWATCHED_WIDTH, PlainConsole, fitting


def looked_at(look: Callable[[Path, str], object]) -> Callable[..., Path | None]:
    """Make the callback of an option or argument: `look` is given its path and its name, and refuses what it is not."""

    def callback(param: typer.CallbackParam, value: Path | None) -> Path | None:
        if value is not None:
            look(value, param.name or "")
        return value

    return callback


A_TABLE, A_FILE = looked_at(require_there), looked_at(require_file)  # a table may be a folder of files
A_CATALOG, A_CHECKPOINT = looked_at(require_catalog), looked_at(require_checkpoint)
A_CATALOG_FOLDER = looked_at(partial(require_folder, holding=ABOUT_FILE))
A_SHOWN = looked_at(lambda path, field: require_catalog(catalog_within(path), field))
AN_ANALYZED = looked_at(partial(require_checkpoint, bare=True))
AN_INSPECTED = looked_at(require_inspectable)


def not_negative(param: typer.CallbackParam, value: int) -> int:
    """Return the callback of an option that is a number of things, 0 or more."""
    if value < 0:
        raise InputError(param.name or "", value, "must be 0 or more")
    return value


def one_or_more(param: typer.CallbackParam, value: int | None) -> int | None:
    """Return the callback of an option that is a number of things, 1 or more, or not given."""
    if value is not None and value < 1:
        raise InputError(param.name or "", value, "must be 1 or more")
    return value


def a_margin(value: float) -> float:
    """Return the callback of --margin."""
    check_margin(value)
    return value


def a_recipe(value: str) -> str:
    """Return the callback of --recipe."""
    require_recipe(value)
    return value


def a_preset(value: str) -> str:
    """Return the callback of --preset."""
    preset(value)
    return value


def a_context_module(value: str | None) -> str | None:
    """Check what --context-module names; nothing of it is run yet."""
    if value is not None:
        require_module_file(value)
    return value


def known_device(name: str) -> str:
    """Refuse a device that is not there before anything is read; `cpu` needs no torch to be told."""
    if name != "cpu":
        from octorec.kernels.device import open_device

        open_device(name)
    return name


Device = Annotated[
    str, typer.Option(help="cpu, cuda, or cuda:N for one GPU of several.", callback=known_device, is_eager=True)
]
Force = Annotated[bool, typer.Option("--force", help="Replace what --out names, if OctoRec wrote it, at the very end.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Checkpoint = Annotated[Path, typer.Argument(help="Checkpoint folder, 16 bit or FP8.", callback=A_CHECKPOINT)]
OtherCatalog = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        help="Catalog folder, or a file of semantic IDs such as sid2pid.json; the checkpoint's own if not given.",
        callback=A_CATALOG,
    ),
]
Catalogs = Annotated[list[str] | None, typer.Option("--catalog", help=CATALOGS)]
Base = Annotated[Path | None, typer.Option(help=BASE, callback=A_CHECKPOINT)]
HoldOut = Annotated[
    int,
    typer.Option(
        help="Newest interactions of each user that are not learned from: those `evaluate` predicts.",
        callback=not_negative,
    ),
]
Predicted = Annotated[
    int,
    typer.Option(
        "--hold-out", "--last",
        help="Newest interactions of each user to predict, one at a time: as many as catalog and training held out.",
    ),
]  # fmt: skip
Limit = Annotated[
    int | None,
    typer.Option(
        help="Ask for so many users alone (evaluate --requests: requests), chosen by a hash; the result says so.",
        callback=one_or_more,
    ),
]
Ks = Annotated[
    list[str] | None,
    typer.Option("--k", help=f"Items a list, or several (10,50): all are reported, the largest decides. Default: {K}."),
]
Margin = Annotated[
    float, typer.Option(help="Relative loss of recall and NDCG that is accepted: 0.05 is 5 %.", callback=a_margin)
]
RecipeName = Annotated[str, typer.Option(help="fp8, fp8-channel, fp8-block, or a YAML file.", callback=a_recipe)]
ContextModule = Annotated[str | None, typer.Option(help=CONTEXT_MODULE, callback=a_context_module)]
Users = Annotated[
    Path | None,
    typer.Option(help="Users (Parquet, CSV, JSON lines): user_id and the fields of the model.", callback=A_TABLE),
]
UnknownItems = Annotated[
    str, typer.Option(help="drop: leave out and count item ids that the catalog lacks; refuse: an error.")
]
BeamWidths = Annotated[
    str | None,
    typer.Option(
        help="Beams at each level: a number; one a level, such as 128-256-512; or auto, as few as make answers exact. "
        "The engine's default if not given."
    ),
]
ExcludeSeen = Annotated[
    bool,
    typer.Option(
        "--exclude-seen/--no-exclude-seen",
        help="Return no item of the history; leave it off where people come back to an item.",
    ),
]
Capped = Annotated[list[str] | None, typer.Option("--caps", help=f"{CAPS} May be repeated.")]
DistinctCodes = Annotated[int | None, typer.Option(help=DISTINCT_CODES)]
MaxCosine = Annotated[float | None, typer.Option(help=MAX_COSINE)]
Domain = Annotated[
    str, typer.Option("--domain", help="Language models: whose catalog answers, where they have several.")
]
Interactions = Annotated[
    Path,
    typer.Option(
        "--data", help="Interactions (Parquet, CSV, JSON lines): user_id, item_id, timestamp.", callback=A_TABLE
    ),
]


def asked_lengths(texts: list[str] | None) -> tuple[int, ...]:
    """Return what --k asks for, once or several times."""
    return read_lengths(",".join(texts or [str(K)]))


def caps_asked(texts: list[str] | None) -> dict[str, int] | None:
    """Return what --caps says, given once or several times: an object, or NAME=NUMBER with commas."""
    return read_caps(texts[0] if texts and len(texts) == 1 else texts)


def one_or_several(catalogs: list[str] | None) -> str | list[str] | None:
    """Return what --catalog names, for `octorec.load`."""
    if not catalogs:
        return None
    return catalogs[0] if len(catalogs) == 1 and not is_named(catalogs[0]) else catalogs


def claim(command: typer.Context, out: Path, force: bool, *inputs: Path | str | None, in_place: bool = False) -> None:
    """Claim the folder `out` until the verb ends (see `claimed_folder`). inputs: what the verb reads, None where the
    user did not give it. in_place: `out` is what the user wants changed, a checkpoint's own catalog too."""
    command.with_resource(claimed_folder(out, force, [path for path in inputs if path is not None]))
    if not in_place:
        refuse_within(out)


def show(as_json: bool, result: Any, *texts: RenderableType) -> None:
    """Print a result: an object for programs, or lines and tables for people, whole where nobody watches."""
    if as_json:
        print(json_text(result))
        return
    out = PlainConsole(width=None if sys.stdout.isatty() else UNWATCHED_WIDTH)
    for text in texts:
        out.print(fitting(text, out), soft_wrap=isinstance(text, str))
