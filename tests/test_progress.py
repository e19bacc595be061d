"""How far a long verb is, as people read it: on a terminal, and where nobody watches."""

import ast
import io
import threading
from pathlib import Path

import pytest
from rich.console import Console

from octorec import progress_bar, terminal
from octorec.progress import part
from octorec.progress_bar import Pace, counting, duration, training_progress


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_a_line_has_what_is_done_of_how_much_the_rate_and_the_rest() -> None:
    clock = Clock()
    pace = Pace("evaluating", "requests", clock)
    clock.time = 5.0
    assert pace.line() == "evaluating: 5 s so far"
    pace.done, pace.total, clock.time = 1024, 18860, 60.0
    assert (
        pace.line() == "evaluating: 1,024 of 18,860 requests, 1 min 0 s so far, 17.1 requests/s, about 17 min 25 s left"
    )


def test_a_slow_rate_is_said_in_a_unit_in_which_it_is_more_than_nothing() -> None:
    clock = Clock()
    pace = Pace("building", "steps", clock)
    pace.done, pace.total, pace.what, clock.time = 2, 5, "clustering level 2", 240.0
    assert pace.line().startswith(
        "building: 2 of 5 steps, clustering level 2, 4 min 0 s so far, 30.0 steps/h, about 6 min"
    )


def test_a_rate_leaves_out_what_was_done_before() -> None:
    clock = Clock()
    pace = Pace("training", "steps", clock)
    clock.time = 100.0
    pace.start(300, 900)
    pace.done, clock.time = 400, 150.0
    assert "2.0 steps/s, about 4 min 10 s left" in pace.line()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


class Lines(io.StringIO):
    """A stderr that tells when `most` lines have come."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.come = most, threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count("\n") >= self.most:
            self.come.set()
        return written


def test_where_nobody_watches_lines_come_also_while_a_single_step_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    err = Lines(3)
    monkeypatch.setattr(terminal, "console", terminal.PlainConsole(file=err))
    monkeypatch.setattr(progress_bar, "EVERY_S", 0.01)
    with counting("analyzing", "tensors") as counter:
        counter(3, 7, "a [b]name[/]\x1b[2J")
        assert err.come.wait(30)
    before = err.getvalue()
    assert before.splitlines()[-1].startswith(r"analyzing: 3 of 7 tensors, a [b]name[/]\x1b[2J, 0 s so far")
    assert "\x1b" not in before


def test_lines_end_with_the_block_also_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_bar, "EVERY_S", 0.01)
    monkeypatch.setattr(terminal, "console", terminal.PlainConsole(file=Lines(1)))
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), counting("x"):
        raise KeyboardInterrupt
    assert threading.active_count() == threads


def test_a_work_that_is_soon_done_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(terminal, "console", terminal.PlainConsole(file=err))
    with counting("quantizing", "MB") as counter:
        counter(1, 1)
    assert err.getvalue() == ""


def test_a_bar_fits_into_80_columns_with_the_count_and_what_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    err = io.StringIO()
    watched = Console(file=err, force_terminal=True, width=80, legacy_windows=False)
    monkeypatch.setattr(terminal, "console", watched)
    with counting("[b]evaluating[/b]", "requests") as counter:
        counter(9024, 18860, "blocks[11].ffn.shared_experts.0.down_proj.weight")
    shown = err.getvalue()
    assert "[b]evaluating[/b]" in shown
    assert "blocks[11].ffn" in shown
    assert "9,024 of 18,860 requests" in shown
    assert "-:--:--" in shown or "0:00" in shown


def test_training_says_a_line_a_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(terminal, "console", terminal.PlainConsole(file=err))
    with training_progress(20) as show:
        show({"step": 9, "loss": 3.0})
        show({"step": 10, "loss": 2.0, "recall@10": 0.25, "expert_load": [[0.5, 0.5]]})
    assert err.getvalue() == "step 10/20, loss 2.980, recall@10 0.2500, expert load 50%/50%\n"


def test_one_stage_counts_on_from_those_before_it_and_is_named_where_it_says_nothing() -> None:
    told: list[tuple[int, int, str]] = []
    progress = part(lambda done, total, what="", /: told.append((done, total, what)), 10, 30, "16 bit")
    progress(3, 20)
    progress(4, 20, "user 7")
    assert told == [(13, 30, "16 bit"), (14, 30, "user 7")]


def test_every_room_tells_progress_in_one_form() -> None:
    package = Path(progress_bar.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arg) and node.arg == "progress":
                assert node.annotation is not None
                assert ast.unparse(node.annotation).removesuffix(" | None") == "Progress", f"{path}: {node.lineno}"
            defined = isinstance(node, ast.ClassDef) and node.name == "Progress"
            named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "Progress"
            assert not (defined or named) or path == package / "progress.py", f"{path}: {node.lineno}"
