"""A report is looked at in Chromium: nothing is lost on a narrow screen, in the dark or on paper."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from octorec.report import judged_plots, plots
from octorec.report.page import Figure, Links, Section, SideBySide, Summary, Table, Text, write_report
from tests.report.test_demo_summary import estimate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")]

EVIL = "<img src=x onerror=\"document.title='broken'\"> (1999)"
LONG = "a reason that is never cut " * 12
NAME = "blocks.11.a_module_with_a_long_name.experts.12.gate_up_proj.weight"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    differences = {"recall@10": estimate(-0.02, 0.0, 0.02), "ndcg@10": estimate(-0.01, 0.0, 0.03)}
    picture = Figure(judged_plots.margin(differences, 0.05), "intervals")
    facts = [("Bytes", "2.41 MB to 1.44 MB"), ("Speed", "not measured here")] * 3
    summary = Summary("FP8 is safe here: not inferior", "good", [LONG], facts, [("Command", "octorec " * 30)], picture)
    dots = plots.dots([NAME] * 3, {"error": {"s": [1.0, 2.0, 3.0]}, "more": {"s": [1.0, 2.0, 3.0]}})
    table = Table(["name", *"abcdefghijklmnop", "reason"], [[NAME, *([0.123456] * 16), LONG]], "wide")
    parts = [Text(NAME * 4), table, Figure(dots, "dots"), SideBySide([("BF16", [EVIL]), ("FP8", [EVIL])], "both")]
    write_report(path, EVIL, LONG, [Section("One", parts), Section("Two", [Links([("bf16", "there")])])], summary)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, page: Path, width: int, scheme: str = "light") -> Any:
    tab = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    tab.goto(page.as_uri())
    return tab


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_is_as_wide_as_the_screen_and_what_is_wider_scrolls(browser: Any, page: Path, width: int) -> None:
    tab = opened(browser, page, width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    lost = """[...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll") &&
        e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert tab.evaluate(lost) == []
    reached = """[...document.querySelectorAll(".scroll")].map(e => {
        e.scrollLeft = 1e6; const inner = e.firstElementChild.getBoundingClientRect();
        return inner.right <= e.getBoundingClientRect().right + 1 && e.tabIndex === 0; })"""
    assert tab.evaluate(reached) == [True, True]


def test_the_first_screen_holds_badge_picture_and_facts(browser: Any, page: Path) -> None:
    tab = opened(browser, page, 1280)
    for part in (".badge", ".summary svg", ".summary dl"):
        box = tab.locator(part).first.bounding_box()
        assert box["y"] + box["height"] <= 800
    narrow = opened(browser, page, 400)
    assert narrow.locator(".badge").is_visible()


def test_titles_with_html_stay_text(browser: Any, page: Path) -> None:
    tab = opened(browser, page, 1280)
    assert tab.title() == EVIL
    assert tab.locator("img").count() == 0
    assert tab.locator(".lists li").first.inner_text() == EVIL


def test_the_dark_has_light_letters_and_paper_has_dark_ones(browser: Any, page: Path) -> None:
    tab = opened(browser, page, 1280, "dark")
    colours = "(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))"
    letters, ground = (_light(colour) for colour in tab.evaluate(colours))
    assert letters > 180
    assert ground < 60
    tab.emulate_media(media="print", color_scheme="dark")
    letters, ground = (_light(colour) for colour in tab.evaluate(colours))
    assert letters < 60
    assert ground > 200


def test_paper_loses_nothing_at_its_edge(browser: Any, page: Path) -> None:
    tab = opened(browser, page, 688)  # A4 without its margins, in CSS pixels
    tab.emulate_media(media="print")
    right = "Math.max(...[...document.querySelectorAll('table, svg')].map(e => e.getBoundingClientRect().right))"
    assert tab.evaluate(right) <= 689
    assert tab.pdf(format="A4").startswith(b"%PDF")


def _light(colour: str) -> float:
    """Return the mean of red, green and blue, 0 to 255."""
    parts = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return sum(parts) / 3
