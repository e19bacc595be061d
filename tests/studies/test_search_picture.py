"""The picture of docs/exact.md is that of two real searches: what it says of them holds."""

import re
from pathlib import Path

import pytest

from studies.search_picture import SIZES, WIDTHS, Drawn, K, draw, made_engine, searched

FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "exact.svg"


@pytest.fixture(scope="module")
def searches() -> list[Drawn]:
    engine = made_engine()
    return [searched(engine, width) for width in WIDTHS]


def words(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def best(search: Drawn) -> list[str]:
    whole = [codes for codes in search.scores if len(codes) == len(SIZES)]
    return [search.names[codes] for codes in sorted(whole, key=lambda codes: -search.scores[codes])[:K]]


def test_the_narrow_search_misses_an_item_and_the_wider_one_is_exact(searches: list[Drawn]) -> None:
    narrow, wide = searches
    assert (narrow.answer.exact, wide.answer.exact) == (False, True)
    assert wide.answer.items == best(wide) != narrow.answer.items
    assert narrow.answer.bound is not None
    (missed,) = set(best(narrow)) - set(narrow.answer.items)
    codes = next(codes for codes, name in narrow.names.items() if name == missed)
    assert any(codes[:level] in narrow.dropped for level in range(1, len(SIZES) + 1))
    assert narrow.scores[codes] <= narrow.answer.bound


def test_no_line_goes_up(searches: list[Drawn]) -> None:
    scores = searches[0].scores
    assert all(score <= scores[codes[:-1]] for codes, score in scores.items() if codes)


def test_the_figure_in_docs_is_what_the_program_draws(searches: list[Drawn]) -> None:
    assert words(FIGURE.read_text()) == words(draw(searches)), "run python -m studies.search_picture"
