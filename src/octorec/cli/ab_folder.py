"""Four verbs of `octorec ab` read or change an experiment's folder: report, stop, resume, end."""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.cli.ab_words import OutcomeColumns, a_reason, each_a_table, outcome_format, time_of
from octorec.cli.options import Json, looked_at, show
from octorec.cli.tables import Sep, TimeFormat
from octorec.output.claim import claimed_file
from octorec.progress_bar import counting
from octorec.reading import require_folder
from octorec.report.ab_signs import is_page
from octorec.terminal import say

folder_app = typer.Typer()
A_FOLDER = looked_at(partial(require_folder, holding="record.json"))

Folder = Annotated[Path, typer.Argument(help="The experiment's folder, ROOT/NAME.", callback=A_FOLDER)]


@folder_app.command("report")
def ab_report(
    command: typer.Context,
    folder: Folder,
    outcomes: Annotated[
        list[Path] | None,
        typer.Option(help="Outcomes besides the folder's own, Parquet or CSV; may be repeated.", callback=each_a_table),
    ] = None,
    sep: Sep = None,
    columns: OutcomeColumns = None,
    time_format: TimeFormat = None,
    now: Annotated[
        str | None, typer.Option(help="When to judge, such as 2026-11-30T12:00 in UTC; the clock's time if not given.")
    ] = None,
    final: Annotated[
        bool,
        typer.Option(
            "--final", help="Make this look the last: it decides by the error that a look so early may spend."
        ),
    ] = False,
    empty: Annotated[
        bool,
        typer.Option(
            "--empty", help="Make a look though a metric has no row, or outcomes end early: nothing happened."
        ),
    ] = False,
    html: Annotated[Path | None, typer.Option(help="HTML page to write; replaces an earlier report's.")] = None,
    as_json: Json = False,
) -> None:
    """Judge an experiment: exit code 0 not inferior, 3 inferior, 4 inconclusive, 5 broken; 2: something cannot be read.

    A look that is due is recorded in the folder; between looks the last one's verdict is told again.
    """
    moment = time.time() if now is None else time_of("now", now)
    form = outcome_format(sep, columns, time_format)
    if html is not None:
        command.with_resource(claimed_file(html, [folder, *(outcomes or [])], is_page, "html"))

    from octorec.evaluate.online.look import look
    from octorec.report.ab_table import render

    with counting("joining"):
        report, record = look(folder, outcomes or [], form, now=moment, final=final, empty=empty)
    if html is not None:
        from octorec.output.write import new_file
        from octorec.report.ab_page import page

        with new_file(html, [folder, *(outcomes or [])], is_page, "html") as scratch:
            scratch.write_text(page(report, record, moment), "utf-8")
        say(f"wrote {html}")
    show(as_json, asdict(report) | {"exit_code": report.exit_code}, *render(report, record))
    raise typer.Exit(report.exit_code)


@folder_app.command("stop")
def ab_stop(
    folder: Folder,
    why: Annotated[str, typer.Option(help="The reason, for the record.", callback=a_reason)],
    as_json: Json = False,
) -> None:
    """Give all traffic to the control, until `octorec ab resume`; units stay counted in the variant they were given."""
    from octorec.evaluate.online.record import stop

    _changed(folder, as_json, "stopped: the control answers all units", lambda: stop(folder, "", why, time.time()))


@folder_app.command("resume")
def ab_resume(folder: Folder, as_json: Json = False) -> None:
    """Let the variants of a stopped experiment answer again."""
    from octorec.evaluate.online.record import resume

    _changed(folder, as_json, "resumed: the variants answer again", lambda: resume(folder, time.time()))


@folder_app.command("end")
def ab_end(folder: Folder, as_json: Json = False) -> None:
    """End an experiment permanently, so that another may start; it can still be reported, and never be resumed."""
    from octorec.evaluate.online.record import end

    _changed(folder, as_json, "ended for good", lambda: end(folder, time.time()))


def _changed(folder: Path, as_json: bool, said: str, change: Callable[[], Any]) -> None:
    record = change()
    told = {"experiment": record.name, "ended": record.ended, "stop": record.stop and asdict(record.stop)}
    why = f" ({record.stop.why}, since {_moment(record.stop.time)})" if record.stop and record.ended is None else ""
    show(as_json, told, f"{record.name} is {said}{why}")


def _moment(seconds: float) -> str:
    from octorec.evaluate.online.words import moment

    return moment(seconds)
