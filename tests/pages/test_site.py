"""The site of docs/: each page has its place, links and anchors hold, and no page loads anything of another host."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from studies.site.links import OUTSIDE, for_the_site
from studies.site.reference import PAGES as MADE

ROOT = Path(__file__).parents[2]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NARROW = 400  # pixels
FOREIGN = re.compile(r"^(?:\w+:)?//")


def in_a_browser(test: Any) -> Any:
    return pytest.mark.slow(pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path")(test))


class Settings(yaml.SafeLoader):
    """The loader reads mkdocs.yml, whose Python names are left out."""


Settings.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def pages_of(nav: Any) -> Iterator[str]:
    """Each page that a part of the navigation names."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(part)


def settings() -> dict[str, Any]:
    return yaml.load((ROOT / "mkdocs.yml").read_text(), Settings)


def test_each_page_has_one_place_in_the_navigation_or_is_listed_as_not_shown() -> None:
    said = settings()
    shown = [*pages_of(said["nav"])]
    hidden = [*said["not_in_nav"].split(), *said["exclude_docs"].split()]
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    there -= {page for page in there if any(page.startswith(name) for name in hidden)}
    there |= set(OUTSIDE.values()) | {f"reference/{name}" for name in MADE}
    assert len(shown) == len(set(shown))
    assert not there - set(shown), "write these pages where they belong below `nav:` in mkdocs.yml"
    assert not set(shown) - there, "these pages of mkdocs.yml are not there"
    assert said["theme"]["font"] is False


def test_links_to_pages_files_and_made_pages_hold_on_the_site() -> None:
    assert for_the_site("[a](docs/exact.md#the-bound)", "index.md") == "[a](exact.md#the-bound)"
    assert for_the_site("[a](../../CONTRIBUTING.md)", "how-to/embeddings.md") == "[a](../contributing.md)"
    assert for_the_site("[a script](../tests/conftest.py)", "online.md") == "a script (`tests/conftest.py`)"
    assert for_the_site("[conftest.py](../tests/conftest.py)", "online.md") == "`tests/conftest.py`"
    assert for_the_site("![a](docs/figures/exact.svg)", "index.md") == "![a](figures/exact.svg)"
    for text in ("[a](nowhere.md)", "[a](#here)", "[a](https://example.org/x)", "```\n[a](../README.md)\n```"):
        assert for_the_site(text, "exact.md") == text
    assert for_the_site("[docs/exact.md](docs/exact.md)", "index.md") == "[exact](exact.md)"
    assert for_the_site("That:\n- one\n- two\n", "exact.md") == "That:\n\n- one\n- two\n"
    assert for_the_site("<!-- rows: x -->\n| a |\n", "exact.md") == "\n| a |\n"


def build(*options: object) -> "subprocess.CompletedProcess[str]":
    """Build as make does. With --quiet no warning would count, and so no link that leads nowhere."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    assert f"{' '.join(command[1:])}\n" in (ROOT / "Makefile").read_text()
    return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build("--site-dir", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    small = f"INHERIT: {ROOT}/mkdocs.yml\nhooks: []\nnav: [one.md]\nnot_in_nav: ''\n"
    (tmp_path / "mkdocs.yml").write_text(small)
    (tmp_path / "docs").mkdir()
    for link, code in (("one.md#one", 0), ("two.md", 1), ("one.md#two", 1), ("#two", 1), ("two.svg", 1)):
        (tmp_path / "docs/one.md").write_text(f"# One\n\n[a link]({link})\n")
        done = build("--config-file", tmp_path / "mkdocs.yml", "--site-dir", tmp_path / "site")
        assert done.returncode == code, f"{link}: {done.stderr}"
        assert code == 0 or "two" in done.stderr


class Loads(HTMLParser):
    """Loads collects what a browser fetches for a page, in `found`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev", "alternate"):
            self.found.append(given.get("href") or "")
        elif tag in LOADED:
            self.found.append(given.get(LOADED[tag]) or "")


@pytest.mark.slow
def test_no_page_loads_anything_of_another_host(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 50
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        assert len(loads.found) > 3
        assert any(found.endswith("assets/iframe-worker.js") for found in loads.found)  # the search of pages on a disk
        assert not [found for found in loads.found if FOREIGN.match(found)], page
        assert 'class="mermaid"' not in page.read_text()  # whose script the theme fetches
    for style in site.rglob("*.css"):
        assert not re.search(r"""(?:url\(|@import )["']?(?:\w+:)?//""", style.read_text()), style


@pytest.mark.slow
def test_the_site_has_every_page_and_the_numbers_of_the_rows(site: Path) -> None:
    for name in pages_of(settings()["nav"]):
        assert (site / name).with_suffix(".html").exists(), name
    numbers = (site / "numbers.html").read_text()
    assert "<table>" in numbers
    assert "<!-- rows" not in numbers
    assert "[" not in re.sub(r"<[^>]*>|\[[\d, ]*\]", "", re.findall(r"<td>(.*?)</td>", numbers, re.S)[0])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Seen:
    """Seen opens a page and keeps what went wrong: what another host was asked for, and what the console said."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.foreign: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda asked: self._asked(asked.url))
        self.page.on("console", lambda message: self.said.append(message.text))

    def _asked(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")):
            self.foreign.append(url)


@in_a_browser
def test_the_search_of_a_page_from_the_disk_finds_a_setting(site: Path, browser: Any) -> None:
    seen = Seen(browser)
    seen.page.goto(f"{site.as_uri()}/how-to/new-items.html")
    seen.page.locator(".md-search__input").click()
    seen.page.keyboard.type("max_queue_delay_ms")
    found = seen.page.locator(".md-search-result__link[href*='serving.html']")
    found.first.wait_for()
    assert (seen.foreign, seen.said) == ([], [])


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_in_both_schemes(site: Path, browser: Any, scheme: str) -> None:
    seen = Seen(browser, viewport={"width": NARROW, "height": 800}, color_scheme=scheme)
    for name in ("index", "tutorial", "how-to/own-model", "numbers", "reference/http", "zh-CN"):
        seen.page.goto(f"{site.as_uri()}/{name}.html")
        assert seen.page.evaluate("document.documentElement.scrollWidth") == NARROW, name
        background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) > 3 * 127) == (scheme == "light"), background
    assert (seen.foreign, seen.said) == ([], [])
