"""The HTML page of an A/B report: whole in itself, with every name escaped, and all that the terminal says."""

import dataclasses
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from octorec.evaluate.online.results import AbReport, Look
from octorec.evaluate.online.sections import parts_of, verdict
from octorec.report.ab_page import page
from octorec.report.ab_plots import over_time, power_curves
from octorec.report.ab_signs import PAGE
from tests.evaluate.online.ab_reports import STARTED, effect, experiment, look, record, report

GOOD = (effect("clicks", "not_inferior"), effect("buyers", "not_inferior"), effect("spent", "not_inferior", 0.05))
FETCHING = ("src", "href", "data", "srcset", "poster", "action", "xlink:href")


class Page(HTMLParser):
    """Tags, the addresses that they would fetch, and the text outside of styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in FETCHING]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def made(of: AbReport) -> str:
    return page(of, record(), STARTED + 15 * 86400)


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    text = made(report("not_inferior", look(1, *GOOD), look(2, *GOOD, final=True)))
    found = Page(text)
    assert "script" not in found.tags
    assert "link" not in found.tags
    assert all(address.startswith("#") for address in found.fetched), found.fetched
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_page_says_all_that_the_terminal_says() -> None:
    done = report("inconclusive", look(1, *GOOD))
    found = Page(made(done)).text
    assert PAGE in found
    assert "".join(verdict(done, experiment())) in found
    for part in parts_of(done, record()):
        for said in (part.title, *part.lines, *part.columns, *(cell for row in part.rows for cell in row)):
            assert " ".join(said.split()) in found, said
    assert "must not fall by 2 % of the control's mean or more" in found


def test_each_metric_has_a_chart_once_there_was_a_look() -> None:
    assert Page(made(report("inconclusive"))).tags.count("svg") == 0
    assert Page(made(report("inconclusive", look(1, *GOOD)))).tags.count("svg") == 3


def test_every_name_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    one = dataclasses.replace(GOOD[0], why=evil)
    done = report("broken", look(1, one), broken=(evil,), counts={evil: 3}, ended={evil: {evil: 1}}, power={evil: 0.5})
    text = made(done)
    assert "<script>" not in text
    assert "script" not in Page(text).tags
    assert text.count("&lt;script&gt;") >= 6


def looks_with(**changes: float) -> list[Look]:
    first = look(1, effect("clicks", "inconclusive", **changes))
    return [first, look(2, effect("clicks", "not_inferior"))]


@pytest.mark.parametrize(
    "changes",
    [{}, {"low": -math.inf}, {"low": -math.inf, "high": math.inf, "value": math.nan}, {"value": 0.0, "reach": 0.0}],
)
def test_a_chart_is_drawn_of_whatever_a_look_found(changes: dict[str, float]) -> None:
    by = experiment()
    axes = over_time(looks_with(**changes), by, by.metrics["clicks"], STARTED).axes[0]
    low, high = axes.get_ylim()
    assert low < -0.02 < 0 < high  # margin and zero are in sight
    assert math.isfinite(low)
    assert math.isfinite(high)
    for line in axes.lines:
        assert all(low <= y <= high for y in line.get_ydata())


def test_a_metric_that_is_to_go_down_has_its_margin_above_zero() -> None:
    late = {"kind": "mean", "event": "late", "window": "7d", "role": "guardrail", "margin": 0.02, "direction": "down"}
    by = experiment(metrics={"clicks": late})
    axes = over_time(looks_with(), by, by.metrics["clicks"], STARTED).axes[0]
    (margin,) = (line for line in axes.lines if line.get_label() == "margin")
    assert list(margin.get_ydata()) == [0.02, 0.02]


def test_power_curves_have_a_line_a_metric_and_the_plan_marked() -> None:
    figure = power_curves({"clicks": ([100, 1000], [0.1, 0.9]), "a$b$<i>": ([100, 1000], [0.2, 0.8])}, 500)
    assert len(figure.axes[0].lines) == 3
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["clicks", r"a\$b\$<i>", "plan: 500 units"]


def test_charts_are_well_formed_and_their_words_are_text() -> None:
    charts = re.findall(r"<svg.*?</svg>", made(report("inconclusive", look(1, *GOOD))), re.S)
    said = [{node.text for node in ET.fromstring(chart).iter() if node.tag.endswith("text")} for chart in charts]
    assert [("margin" in words, "fp8" in words) for words in said] == [(True, True), (True, True), (False, True)]
