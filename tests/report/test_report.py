"""Reports stand alone, escape what they are given, and their plots show the numbers they were given."""

import re
import xml.etree.ElementTree as ElementTree
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from octorec.report import plots
from octorec.report.page import Figure, Links, Section, SideBySide, Summary, Table, Text, cell, render, write_report

SVG = "{http://www.w3.org/2000/svg}"


def octaves(**at: int) -> list[int]:
    """Counts by power of two: octaves(e3=5) has five values in [8, 16)."""
    counts = [0] * 256
    for name, count in at.items():
        counts[127 + int(name.removeprefix("e").replace("m", "-"))] = count
    return counts


DRAWN = {
    "magnitudes": lambda: plots.magnitudes(
        {"attention": octaves(em3=900, e0=100), "another": octaves(e2=7)}, "weights"
    ),
    "nothing": lambda: plots.magnitudes({"attention": [0] * 256}, "weights"),
    "absmax": lambda: plots.absmax_by_block(
        {"weights": {"ffn": {0: 0.1, 1: 30.0}, "head": {1: 2.0}}, "more": {"x": {2: 1e3}}}
    ),
    "dots": lambda: plots.dots(
        ["first", "second"], {"error": {"weights": [0.02, None], "both": [0.04, 0.05]}}, percent=True
    ),
    "roofline": lambda: plots.roofline(
        {"experts (41 %)": (400.0, 9e14), "beam step (2 %)": (2.0, 6e12)}, {"16 bit": 989e12, "FP8": 1979e12}, 3.35e12
    ),
    "intervals": lambda: plots.intervals({"Recall@10": {"BF16": (0.1, 0.125, 0.15), "FP8": (0.09, 0.12, 0.16)}}),
}


@cache
def drawn(name: str) -> str:
    return DRAWN[name]()


def texts(svg: str) -> str:
    return " ".join("".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text"))


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_svg_that_stands_alone(name: str) -> None:
    root = ElementTree.fromstring(drawn(name))
    assert root.tag == f"{SVG}svg"
    links = re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)', drawn(name))
    assert all("".join(link).startswith("#") for link in links)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("magnitudes", ["attention", "another", "magnitude of weights", "share of values", "10 %", "100 %"]),
        ("absmax", ["weights", "more", "ffn", "head", "block", "absmax"]),
        ("dots", ["first", "second", "error", "weights", "both", "0 %", "4 %"]),
        ("roofline", ["16 bit", "FP8", "experts (41 %)", "beam step (2 %)", "FLOP per byte", "TFLOP/s"]),
        ("intervals", ["Recall@10", "BF16", "FP8", "0.1250", "0.1200", "95 % interval"]),
    ],
)
def test_what_figures_say(name: str, wanted: list[str]) -> None:
    for words in wanted:
        assert words in texts(drawn(name))


def test_the_same_numbers_are_the_same_figure() -> None:
    again = plots.dots(["first", "second"], {"error": {"weights": [0.02, None], "both": [0.04, 0.05]}}, percent=True)
    assert again == drawn("dots")


def test_dots_stand_where_their_values_are() -> None:
    """Three values at equal distances lie at equal distances, under an axis from 0 on."""
    svg = plots.dots(["a", "b", "c"], {"x": {"s": [1.0, 2.0, 3.0]}})
    uses = [(float(u.get("x", 0)), float(u.get("y", 0))) for u in ElementTree.fromstring(svg).iter(f"{SVG}use")]
    rows = [p for p in uses if sum(abs(p[0] - q[0]) < 1e-3 for q in uses) == 1]  # ticks share their x or their y
    (ax, ay), (bx, by), (cx, cy) = sorted(rows)[-3:]
    assert bx - ax == pytest.approx(cx - bx, rel=1e-3)
    assert by - ay == pytest.approx(cy - by, rel=1e-3)


@pytest.mark.filterwarnings("error")
def test_long_names_leave_room_for_their_values() -> None:
    name = "a_name_as_long_as_production_has_them." * 8
    assert name in texts(plots.dots([name], {"x": {"s": [1.0]}, "y": {"s": [2.0]}}))


class Page(HTMLParser):
    """Counts tags, and checks that they close in order."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


SECTIONS = [
    Section("One", [Text("a < b & c"), Table(["name", "x"], [["row <1>", 0.123456], ["row 2", None]], "said & done")]),
    Section("Two", [Figure(drawn("dots"), 'two "dots"'), SideBySide([("BF16", ["A", "B"]), ("FP8", ["B", "<C>"])])]),
]


def test_a_page_stands_alone_and_escapes() -> None:
    text = render("Title <&>", "lead", SECTIONS)
    page = Page(text)
    assert all(url.startswith("#") for url in page.urls)  # nothing to fetch
    assert "script" not in page.tags
    assert page.tags.count("section") == page.tags.count("h2") == 2
    assert page.tags.count("svg") == 1
    assert "Title &lt;&amp;&gt;" in text
    assert "a &lt; b &amp; c" in text
    assert "row &lt;1&gt;" in text
    assert "&lt;C&gt;" in text
    assert 'aria-label="two &#34;dots&#34;"' in text
    assert "<svg" in text


def test_tables_and_lists() -> None:
    text = render("t", "l", SECTIONS)
    assert re.findall(r'<td class="number">(.*?)</td>', text) == ["0.1235", "–"]
    assert re.findall(r'<li class="shared">(.*?)</li>', text) == ["B", "B"]
    assert re.findall(r"<li>(.*?)</li>", text) == ["A", "&lt;C&gt;"]


def test_long_texts_may_wrap() -> None:
    text = render("t", "l", [Section("s", [Table(["a", "b"], [["short", "because " * 10]])])])
    assert re.findall(r"<td>(.*?)</td>", text) == ["short"]
    assert re.findall(r'<td class="long">(.*?)</td>', text) == ["because " * 10]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(None, "–"), (1234567, "1,234,567"), (0.000012345, "1.234e-05"), (31.5504, "31.55"), ("x", "x"), (True, "True")],
)
def test_cells(value: object, wanted: str) -> None:
    assert cell(value) == wanted


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_report(tmp_path / "deep" / "report.html", "t", "l", SECTIONS)
    assert (tmp_path / "deep" / "report.html").read_text() == render("t", "l", SECTIONS)
    broken: list[Section] = [Section("bad", [object()])]  # type: ignore[list-item]
    with pytest.raises(Exception, match="kind"):
        write_report(tmp_path / "deep" / "other.html", "t", "l", broken)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_the_first_screen_comes_before_all_sections_and_is_text() -> None:
    figure = Figure(drawn("dots"), "<interval>")
    summary = Summary("<b>Safe</b>", "good", ["a < b"], [("Bytes", "1 <2>")], [("Command", "octorec 'a&b'")], figure)
    text = render("t", "l", SECTIONS, summary)
    Page(text)
    first = text[text.index('<div class="summary good">') : text.index("<nav>")]
    for words in (
        "&lt;b&gt;Safe&lt;/b&gt;",
        "a &lt; b",
        "1 &lt;2&gt;",
        "octorec &#39;a&amp;b&#39;",
        "&lt;interval&gt;",
    ):
        assert words in first
    assert first.count("<svg") == 1


def test_links_lead_to_files_beside_the_page() -> None:
    text = render("t", "l", [Section("s", [Links([("fp8/config.json", "the <model>")])])])
    assert '<a href="fp8/config.json">fp8/config.json</a>: the &lt;model&gt;' in text


def test_one_scale_for_all_figures() -> None:
    """No rule of the screen stretches a figure, so that texts in all of them are equally large."""
    style = render("t", "l", SECTIONS).split("@media print")[0]
    assert ".scroll svg { display: block; }" in style
    assert not re.search(r"(?<!max-)width: 100%", style)
