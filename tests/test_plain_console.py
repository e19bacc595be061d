"""What a console of ours sends to a terminal: texts as they are, and nothing that the terminal would obey."""

import io
import re

import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from octorec.progress_bar import counting
from octorec.terminal import PlainConsole

NASTY = "\x1b[2J\x1b]0;title\x07[bold]x[/] [link=http://a]:bomb: a\rb\x9b31m\u202ec\nerror"
SHOWN = r"\x1b[2J\x1b]0;title\x07[bold]x[/] [link=http://a]:bomb: a\rb\x9b31m\u202ec\nerror"


def printed(*what: object, terminal: bool = False) -> str:
    out = io.StringIO()
    PlainConsole(file=out, width=300, force_terminal=terminal, color_system="auto").print(*what)
    text = out.getvalue()
    return re.sub(r"\x1b\[[0-9;]*m", "", text) if terminal else text  # the styles that the console itself sets


@pytest.mark.parametrize("terminal", [False, True])
def test_a_text_is_shown_and_not_obeyed(terminal: bool) -> None:
    table = Table(NASTY, title=NASTY, caption=NASTY)
    table.add_row(NASTY)
    for what, times in ((NASTY, 1), (Group(NASTY, NASTY), 2), (table, 4)):
        text = printed(what, terminal=terminal)
        assert text.count(SHOWN) == times
        assert not set(text) & {*map(chr, range(32)), *map(chr, range(127, 160)), "\u202e"} - {"\n"}


@pytest.mark.parametrize("terminal", [False, True])
def test_a_styled_text_keeps_its_line_breaks_alone(terminal: bool) -> None:
    text = printed(Text.assemble(("a\x1b[2J", "bold red"), "\nb\u202e[/]"), terminal=terminal)
    assert text == "a\\x1b[2J\nb\\u202e[/]\n"


def test_a_bar_shows_names_and_does_not_obey_them(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    shown = PlainConsole(file=out, width=200, force_terminal=True, color_system=None)
    monkeypatch.setattr("octorec.terminal.console", shown)
    with counting("asking [bold]") as progress:
        progress(1, 2, "[/] \x1b[2J\x07")
    assert "asking [bold]" in out.getvalue()
    assert r"[/] \x1b[2J" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
