"""What people read: words without markup, whole at 80 columns, on a terminal and piped."""

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from octorec import terminal
from octorec.catalog.build import build_catalog
from octorec.cli import app as cli
from octorec.data.interactions import read_interactions
from octorec.data.items import read_items
from octorec.evaluate.verdict import EXIT_CODES
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.output.write import new_folder
from octorec.quant.convert import quantize_checkpoint
from octorec.report import bench as bench_report
from octorec.report.analysis import analyze
from octorec.report.analysis_table import render_all
from octorec.terminal import PlainConsole, fitting
from tests.cli.test_cli import octorec

WIDTH = 80
TITLE = "[bold]Film[/] :cat:"
LINKS = "─━┏┓┗┛┃│┡┩╇┳┷┴╈└┘╶╴╵╷"


class Terminal(io.StringIO):
    """A stdout on which somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.csv, items.csv, and bf16/ and fp8/: a checkpoint of random weights over them."""
    folder = tmp_path_factory.mktemp("work")
    rows = [f"u{u},{(u + t) % 30},{t}" for u in range(40) for t in range(6)]
    (folder / "data.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    (folder / "items.csv").write_text("\n".join(["item_id,title", *(f"{n},{TITLE} {n}" for n in range(30))]))
    catalog = build_catalog(read_interactions(folder / "data.csv"), read_items(folder / "items.csv"), (7, 5, 6))
    model = OneRecV2(preset("tiny", codebook_fingerprint=catalog.fingerprint, d_expert=128))
    initialize(model, seed=0)
    with new_folder(folder / "bf16") as scratch:
        save(model, scratch, torch.bfloat16)
        catalog.save(scratch / "catalog")
    quantize_checkpoint(folder / "bf16", folder / "fp8", "fp8-channel")
    (folder / "requests.jsonl").write_text(json.dumps({"history": ["1", "2"], "k": 3}))
    return folder


SLOW = ("shadow", "prove", "analyze")
VERBS: dict[str, tuple[str, ...]] = {
    "evaluate": ("evaluate", "{w}/bf16", "{w}/fp8", "--data", "{w}/data.csv", "--beam-width", "16"),
    "shadow": ("evaluate", "{w}/bf16", "{w}/fp8", "--requests", "{w}/requests.jsonl"),
    "prove": ("prove", "{w}/bf16", "--data", "{w}/data.csv", "--recipe", "fp8-channel", "--beam-width", "16"),
    "recommend": ("recommend", "{w}/bf16", "--history", "1,2", "--k", "3"),
    "quantize": ("quantize", "{w}/bf16", "--out", "{o}", "--recipe", "fp8-channel"),
    "analyze": ("analyze", "{w}/bf16", "--out", "{o}"),
    "catalog build": ("catalog", "build", "--data", "{w}/data.csv", "--codebook-sizes", "5,4,4", "--out", "{o}"),
}  # fmt: skip


@pytest.fixture(scope="module")
def said(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, type[io.StringIO]], str]:
    """A function that runs a verb of VERBS once and gives its stdout, a terminal's or a pipe's."""
    folder = tmp_path_factory.mktemp("out")

    @cache
    def run(verb: str, kind: type[io.StringIO]) -> str:
        out, stdout = folder / f"{verb} {kind.__name__}", kind()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", str(WIDTH))
            patch.setenv("TERM", "xterm-256color")
            patch.delenv("NO_COLOR", raising=False)
            patch.setattr("sys.stdout", stdout)
            patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **_: file.write("<svg></svg>"))
            patch.setattr(terminal.console, "_file", io.StringIO())
            with pytest.raises(SystemExit) as exit_:
                cli.main([part.format(w=work, o=out) for part in VERBS[verb]])
            assert exit_.value.code in (0, 3, 4), verb
        return stdout.getvalue().replace(str(out), "OUT").replace(str(work), "WORK")

    return run


def words(text: str) -> set[str]:
    return set("".join(" " if letter in LINKS else letter for letter in text).split())


@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=pytest.mark.slow) if verb in SLOW else verb for verb in VERBS]
)
def test_a_terminal_shows_the_words_that_a_pipe_gets_and_breaks_none(
    verb: str, said: Callable[[str, type[io.StringIO]], str]
) -> None:
    piped = said(verb, io.StringIO)
    shown = Text.from_ansi(said(verb, Terminal)).plain
    assert "\x1b" not in piped
    for text in (piped, shown):
        assert "[bold " not in text
        assert "[red]" not in text
        assert "inferior_" not in text
        assert "_inferior" not in text
        assert "…" not in text
    assert words(shown) == words(piped)


@pytest.mark.parametrize("verb", ["evaluate", pytest.param("prove", marks=pytest.mark.slow)])
def test_a_verdict_ends_with_words_that_are_coloured_on_a_terminal_alone(
    verb: str, said: Callable[[str, type[io.StringIO]], str]
) -> None:
    outcomes = tuple(outcome.replace("_", " ") for outcome in EXIT_CODES)
    assert said(verb, io.StringIO).strip().splitlines()[-1].startswith(outcomes)
    assert "\x1b[1;3" in said(verb, Terminal)  # bold, in a colour


def test_a_title_is_shown_as_it_is(said: Callable[[str, type[io.StringIO]], str]) -> None:
    assert TITLE in said("recommend", io.StringIO)
    assert TITLE in said("recommend", Terminal)


def test_an_error_is_shown_as_it_is() -> None:
    done = octorec("recommend", "/nowhere/[red]:cat:[/]", "--history", "1", expect=2)
    assert "/nowhere/[red]:cat:[/]" in done.stderr


@pytest.mark.slow
def test_a_real_terminal_ends_with_the_verdict_in_words(work: Path) -> None:
    arguments = [part.format(w=work, o="") for part in VERBS["evaluate"]]
    main, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    environment = {**{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}, "TERM": "xterm"}
    running = subprocess.Popen(
        [sys.executable, "-m", "octorec", *arguments], stdout=child, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(child)
    shown = b""
    try:
        while part := os.read(main, 4096):
            shown += part
    except OSError:  # Linux says so that the other end is closed
        pass
    assert running.wait(60) in (0, 3, 4)
    text = Text.from_ansi(shown.decode().replace("\r\n", "\n")).plain.strip()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    assert "[" not in text
    outcomes = "|".join(outcome.replace("_", " ") for outcome in EXIT_CODES)
    assert re.search(rf"^({outcomes})", text.rpartition("log-probabilities")[2], re.M)


def row() -> bench_report.Row:
    times = {"queue_ms": 1.1, "device_ms": 9.0, "encode_ms": 0.1, "outside_device_ms": 3.0}
    return {
        "bound_ms": 150.0, "request_rate": 12.5, "requests_per_s": 12.4, "goodput_per_s": 12.4, "within": True,
        "e2el_ms": {"p50": 12.3, "p90": 20.1, "p99": 30.2}, "late_ms": {"p99": 1.0}, "answered": 9,
        "errors": {"deadline_exceeded": 3}, **{name: {"p50": value} for name, value in times.items()},
    }  # fmt: skip


def printed(found: RenderableType, width: int) -> str:
    console = PlainConsole(width=width)
    with console.capture() as capture:
        console.print(fitting(found, console))
    return capture.get()


def test_the_load_tools_table_is_several_where_one_is_too_wide() -> None:
    whole, narrow = (printed(bench_report.render([row()]), width) for width in (terminal.UNWATCHED_WIDTH, WIDTH))
    assert words(whole) == words(narrow)
    assert whole.count("asked/s") == 1
    assert narrow.count("asked/s") == 2
    assert narrow.count("good: within") == 1
    assert "3 x deadline exceeded" in narrow


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_an_analysis_breaks_no_name_and_no_word(work: Path, tmp_path: Path) -> None:
    found = render_all(analyze(work / "bf16", tmp_path / "analysis"))
    whole, narrow = (printed(found, width) for width in (terminal.UNWATCHED_WIDTH, WIDTH))
    assert "blocks.1.ffn.shared_experts.0.down_proj.weight" in narrow
    assert words(narrow) - words(str(work)) <= words(whole)
    assert max(map(len, narrow.splitlines())) <= WIDTH


def test_every_cell_of_a_table_that_was_split_is_there_once() -> None:
    table = Table("name", *(f"column{n}" for n in range(20)), title="all")
    for line in range(3):
        table.add_row(f"row{line}", *(f"cell{line}.{n}" for n in range(20)))
    text = printed(table, WIDTH)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert all(text.count(f"cell{line}.{n} ") == 1 for line in range(3) for n in range(20))
    assert text.count("row1") == text.count("name") > 3
    assert printed(table, terminal.UNWATCHED_WIDTH).count("name") == 1


@pytest.mark.parametrize(
    "asked",
    [
        ("--k", "3,16"),
        *(pytest.param(flags, marks=pytest.mark.slow) for flags in (("--k", "3", "--k", "16"), ("--k", "16,3,3"))),
    ],
)
@pytest.mark.parametrize("verb", ["evaluate", pytest.param("prove", marks=pytest.mark.slow)])
def test_every_k_asked_for_is_shown_and_the_largest_decides(work: Path, verb: str, asked: tuple[str, ...]) -> None:
    arguments = [part.format(w=work, o="") for part in VERBS[verb]]
    done = octorec(*arguments, *asked, "--json", expect=None)
    found = json.loads(done.stdout)
    found = found.get("comparison", found)
    assert (found["k"], found["cutoffs"]) == (16, [3, 5, 10, 16])
    assert found["verdict"]["metrics"] == ["recall@16", "ndcg@16"]
    assert set(found["baseline"]) >= {"recall@3", "ndcg@16"}


@pytest.mark.parametrize("verb", ["evaluate", "prove"])
@pytest.mark.parametrize("k", ["17", "3,17", "0", "3,0", "x", "", "3,", "2.5"])
def test_a_k_that_cannot_be_judged_is_refused_in_a_line(work: Path, tmp_path: Path, verb: str, k: str) -> None:
    arguments = [part.format(w=work, o="") for part in VERBS[verb]]
    arguments += [] if verb == "evaluate" else ["--out", str(tmp_path / "fp8")]
    done = octorec(*arguments, "--k", k, expect=2)
    assert done.stderr.startswith("error: k: got")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
