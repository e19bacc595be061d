"""What people read of an A/B report on a terminal and in a pipe."""

import dataclasses
import io
import math

from octorec.evaluate.online.record import Record, Stop
from octorec.evaluate.online.results import AbReport, SampleRatio
from octorec.report.ab_table import render
from octorec.terminal import PlainConsole, fitting
from tests.evaluate.online.ab_reports import STARTED, effect, look, record, report


def printed(of: AbReport, by: Record | None = None, width: int = 80) -> str:
    """The report as the command line prints it on a terminal of `width` columns without colours."""
    file = io.StringIO()
    out = PlainConsole(width=width, file=file)
    for text in render(of, by or record()):
        out.print(fitting(text, out), soft_wrap=isinstance(text, str))
    return file.getvalue()


def first(of: AbReport, by: Record | None = None) -> str:
    return printed(of, by, width=2000).splitlines()[0].rstrip()


GOOD = (effect("clicks", "not_inferior"), effect("buyers", "not_inferior"), effect("spent", "not_inferior", 0.05))


def test_the_first_line_is_the_verdict_in_the_words_of_evaluate() -> None:
    last = look(2, *GOOD, final=True)
    assert first(report("not_inferior", look(1, *GOOD), last)) == (
        "not inferior at margins of 2 % and 0.01, by clicks and buyers at the last look; spent (fp8) is better"
    )


def test_an_inferior_verdict_names_the_metrics_that_lost_and_their_margin_alone() -> None:
    bad = look(1, effect("clicks", "not_inferior"), effect("buyers", "inferior", -0.05), effect("spent", "inferior"))
    assert first(report("inferior", bad)) == ("inferior at a margin of 0.01, by buyers and spent at look 1 of 2")


def test_an_inconclusive_verdict_names_what_is_undecided() -> None:
    wide = look(1, effect("clicks", "inconclusive"), effect("buyers", "not_inferior"), effect("spent", "inconclusive"))
    assert first(report("inconclusive", wide)) == "inconclusive at a margin of 2 %, by clicks and spent at look 1 of 2"


def test_before_the_first_look_it_says_that_none_was_due() -> None:
    said = printed(report("inconclusive"))
    assert said.startswith("inconclusive at margins of 2 % and 0.01, by clicks and buyers: no look was due ")
    assert "The next look is due at 20,000 units" in said
    assert "10,000 units so far whose windows have passed" in said


def test_an_experiment_of_goals_alone_is_said_without_a_margin() -> None:
    goals = {"spent": {"kind": "mean", "event": "order", "window": "7d", "role": "goal"}}
    done = report("not_inferior", look(1, effect("spent", "not_inferior", 0.05), final=True))
    assert first(done, record(metrics=goals)) == "not inferior by spent at the last look; spent (fp8) is better"
    assert "better" in printed(done, record(metrics=goals))


def test_a_broken_experiment_says_why_before_everything_else() -> None:
    why = "6,500 units got the control where 6,000 were planned"
    ratio = SampleRatio({"control": 6500, "fp8": 5500}, {"control": 6000.0, "fp8": 6000.0}, 1.2e-20, True)
    said = printed(report("broken", broken=(why, "another reason"), sample_ratio=ratio))
    assert said.startswith(f"broken: {why}")
    assert "another reason" in said
    assert "The sample ratio is broken: p 1.2e-20" in said
    assert "No look is made while the experiment is broken" in said
    assert "due" not in said


def test_counts_requests_looks_and_power_are_told() -> None:
    said = printed(report("inconclusive", look(1, *GOOD)))
    assert "17 outcomes of units that were never exposed" in said
    assert "if nothing differs, the rest of the plan ends not inferior with a" in said
    assert "81.2 %" in said
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.split()}
    assert rows["fp8"][1:] == ["10,000", "99.00%", "1.00%", "0.00%"]
    assert rows["1"][4:] == ["10,000", "50", "%", "0.0030", "2.96"]
    assert rows["clicks"][1:] == ["not", "inferior", "+0.10%", "-0.90%", "..", "+1.10%", "-2", "%", "1.25", "1.26"]


def test_the_last_look_is_the_last() -> None:
    said = printed(report("not_inferior", look(1, *GOOD, final=True), next_look=None))
    assert "The last look has been made: nothing is judged again" in said
    assert "due" not in said


def test_a_plan_in_days_says_the_date_of_the_next_look() -> None:
    by_days = record(plan={"days": 10, "looks": [0.5, 1]})
    assert "The next look is due on 2026-09-26 14:13 UTC at the latest" in printed(
        report("inconclusive", next_look=None), by_days
    )
    assert "The last look is due on 2026-10-01 14:13 UTC at the latest" in printed(
        report("inconclusive", look(1, *GOOD), next_look=None), by_days
    )


def test_no_line_is_wider_than_a_terminal_of_80_columns() -> None:
    treatments = {"control": {"share": 0.5}, "a-recipe-that-is-per-channel": {"share": 0.5}}
    by = record(
        variants=treatments,
        metrics={
            "purchases-within-the-week": {
                "kind": "proportion", "event": "order", "window": "7d", "role": "guardrail",
                "margin": {"absolute": 0.0025},
            },
        },
    )  # fmt: skip
    one = effect(
        "purchases-within-the-week",
        "inconclusive",
        variant="a-recipe-that-is-per-channel",
        low=-math.inf,
        high=math.inf,
        why="the control's mean is so close to 0 that nothing can be said of a share of it " * 2,
    )
    done = report("inconclusive", look(1, one))
    said = printed(done, by)
    assert max(map(len, said.splitlines())) <= 80
    assert "not bounded" in said
    for whole in ("purchases-within-the-week", "a-recipe-that-is-per-channel", "95 % interval", "inconclusive"):
        assert whole in said


def test_a_pipe_gets_whole_tables_and_no_escape_codes() -> None:
    said = printed(report("not_inferior", look(1, *GOOD)), width=2000)
    assert "\x1b" not in said
    assert any({"metric", "margin", "fp8"} <= set(line.split()) for line in said.splitlines())


def test_names_are_shown_as_words_and_not_as_markup() -> None:
    said = printed(report(counts={"event [bold red]<script>\x1b[2J": 3}))
    assert "3 event [bold red]<script>\\x1b[2J" in said


def test_a_difference_without_a_value_is_said_so() -> None:
    empty = effect("clicks", "inconclusive", math.nan, low=-math.inf, high=math.inf, why="the control has no units")
    said = printed(report("inconclusive", look(1, empty)))
    assert "undefined" in said
    assert "nan" not in said
    assert "clicks: the control has no units" in said


def test_an_experiment_that_was_stopped_or_ended_is_said_to_be_so() -> None:
    stopped = dataclasses.replace(record(), stop=Stop(STARTED, "fp8", "buyers fell"))
    said = printed(report(), stopped, width=2000)
    assert "Stopped on 2026-09-21 14:13 UTC, and the control answers until it is resumed: buyers fell" in " ".join(
        said.split()
    )
    assert "Ended on 2026-09-21" in printed(report(), dataclasses.replace(stopped, ended=STARTED))


def test_what_was_done_to_the_experiment_is_told() -> None:
    assert "2026-09-21 14:13 UTC: started" in printed(report())
