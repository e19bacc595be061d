"""The page in Chromium, as a reader with a keyboard, a small screen or a dark room has it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook
from octorec.engine.engine import Engine
from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.run import server_on
from octorec.serve.service import Service
from tests.serve.served import make_catalog, make_engine, save_checkpoint
from tests.serve.test_fuzz import in_a_thread
from tests.serve.tried import FILE, Loaded, parse_experiment

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]
NOTED = "Failed to load resource: the server responded with a status of 4"  # by Chromium itself, of refusals
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>Bold</b> & Söhne"
SHAPES: dict[str, Any] = {"batch_sizes": (1, 8), "beam_widths": (4, 16), "default_beam_width": 4}


def hostile_catalog() -> Catalog:
    """One of `make_catalog` whose titles are as a stranger may have written them."""
    catalog = make_catalog()
    names = catalog.items.column_names
    titles = [HOSTILE if item == "i1" else f"Title {item}" for item in catalog.item_ids]
    items = catalog.items.set_column(names.index("title"), "title", pa.array(titles))
    codebook: Codebook | None = catalog.codebook
    return Catalog.of_items(items, catalog.codebook_sizes, codebook)


@contextmanager
def shown(engine: Engine, variants: Any = None, **settings: Any) -> Iterator[str]:
    """The address of a server in a thread."""
    config = ServeConfig.of(port=0, log_requests=False, **settings)
    service = Service(lambda: engine, "first", config, variants)
    server = server_on(create_app(service), "127.0.0.1", 0, config)
    for _, (port,) in in_a_thread(service, [server]):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(browser: Any, address: str, **how: Any) -> Iterator[Any]:
    """A page without a word on its console, on which no script failed and that asked no other host."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, **how)
    context.set_default_timeout(60_000)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: asked.url.startswith((address, "data:")) or said.append(asked.url))
    page.goto(address)
    yield page
    assert [one for one in said if not one.startswith(NOTED)] == []
    context.close()


def fulfilled(answer: dict[str, Any], route: Any) -> None:
    route.fulfill(**answer)


def add(page: Any, text: str) -> None:
    """Search by the keyboard, in the field that has the focus, and take the first item."""
    page.keyboard.type(text)
    page.locator("#history-0").wait_for()
    page.keyboard.press("Enter")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with shown(make_engine(hostile_catalog(), **SHAPES)) as found:
        yield found


def test_the_keyboard_alone_finds_reorders_and_asks(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.wait_for_function("document.activeElement.id === 'history-search'")
        for text in ("title i2", "title i3", "title i4"):
            add(page, text)
            page.wait_for_function("document.getElementById('history-found').hidden")
        first = page.locator("#history .chosen li .title")
        taken = first.all_text_contents()
        assert len(taken) == 3
        page.get_by_role("button", name=f"Move up: {taken[2]}").focus()
        page.keyboard.press("Enter")
        assert first.all_text_contents() == [taken[0], taken[2], taken[1]]
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Move up: {taken[2]}"
        assert page.locator("#status").text_content() == f"{taken[2]} is now 2 of 3."
        page.get_by_role("button", name=f"Remove: {taken[0]}").focus()
        page.keyboard.press("Enter")
        assert first.all_text_contents() == [taken[2], taken[1]]
        page.keyboard.press("Control+Enter")
        page.locator(".ranked li").first.wait_for()
        assert page.locator(".ranked li").count() == 4
        page.wait_for_function("document.getElementById('status').textContent.startsWith('4 items found')")
        page.get_by_role("button", name="Draw the search").focus()
        page.keyboard.press("Enter")
        page.locator("#picture svg").wait_for()


def test_every_control_has_a_name_and_headings_go_in_order(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.locator("#history-search").wait_for()
        unnamed = page.evaluate(
            "[...document.querySelectorAll('input, select, textarea, button')].filter((one) => !(one.labels?.length"
            " || one.getAttribute('aria-label') || one.textContent.trim())).map((one) => one.outerHTML)"
        )
        assert unnamed == []
        levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]))")
        hidden_token_form = 2
        assert levels[:2] == [1, hidden_token_form]
        assert levels.count(1) == 1
        assert page.locator("[role=status][aria-live=polite]").count() == 1
        assert page.locator("html").get_attribute("lang") == "en"


def test_a_title_of_html_stays_text(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.locator("#history-search").fill("sohne bold")
        option = page.locator("#history-0")
        option.wait_for()
        assert option.text_content() == HOSTILE
        page.keyboard.press("Enter")
        assert page.locator("#history .chosen .title").text_content() == HOSTILE
        page.locator("#k").fill("16")
        page.locator("#beam").select_option("16")
        page.locator("#go").click()
        page.locator(".ranked li").first.wait_for()
        page.get_by_role("button", name="Draw the search").click()
        page.locator("#picture svg").wait_for()
        assert page.locator("img, .ranked b, .chosen b, #picture b").count() == 0
        assert page.title() == "OctoRec"


def test_the_policy_runs_nothing_that_was_put_in_later(browser: Any, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(address)
    page.locator("#history-search").wait_for()
    assert said == []
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:9/x.png'}))"
    )
    page.evaluate("try { document.body.innerHTML = '<b>x</b>' } catch (error) { console.log('refused ' + error.name) }")
    page.wait_for_function("true")
    assert any("refused TypeError" in one for one in said)
    assert any("Content Security Policy" in one for one in said)
    context.close()


def test_the_picture_has_what_the_search_kept_dropped_and_its_bound(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.locator("#history-search").wait_for()
        page.keyboard.type("title i5")
        page.locator("#history-0").wait_for()
        page.keyboard.press("Enter")
        page.locator("#k").fill("3")
        page.locator("#go").click()
        page.locator(".ranked li").first.wait_for()
        with page.expect_response("**/v1/explain") as answered:
            page.get_by_role("button", name="Draw the search").click()
        levels = answered.value.json()["levels"]
        picture = page.locator("#picture svg")
        picture.wait_for()
        assert picture.locator("circle.kept").count() == sum(len(level["kept"]) for level in levels)
        assert picture.locator("circle.dropped").count() == sum(len(level["dropped"]) for level in levels) > 0
        assert picture.locator("line.bound").count() == 1
        assert picture.locator("circle.won").count() >= 3
        bound = max(level["bound"] for level in levels if level["bound"] is not None)
        assert f"bound −{-bound:.2f}" in picture.locator("text.bound-said").text_content()
        assert page.locator("#picture table tbody tr").count() == sum(min(3, len(level["kept"])) for level in levels)


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_it_is_dark_where_the_reader_wants_that(browser: Any, address: str, scheme: str, dark: bool) -> None:
    with opened(browser, address, color_scheme=scheme) as page:
        page.locator("#history-search").wait_for()
        paint = "getComputedStyle(document.body).{}.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)"
        ground, ink = (page.evaluate(paint.format(of)) for of in ("backgroundColor", "color"))
        assert (ground < 200, ink > 500) == (dark, dark)


def test_a_narrow_screen_scrolls_in_one_direction(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.set_viewport_size({"width": 400, "height": 800})
        page.locator("#history-search").fill("sohne")
        page.locator("#history-0").wait_for()
        page.keyboard.press("Enter")
        for part in page.locator("details summary").all():
            if part.is_visible():
                part.click()
        page.locator("#go").click()
        page.locator(".ranked li").first.wait_for()
        page.get_by_role("button", name="Draw the search").click()
        page.locator("#picture svg").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_a_token_is_asked_for_and_kept_nowhere(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")
    with shown(make_engine(**SHAPES), token_file=str(tmp_path / "tokens")) as address, opened(browser, address) as page:
        page.locator("#token").wait_for()
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_role("alert").filter(has_text="does not know this token").wait_for()
        page.locator("#token").fill("secret")
        page.keyboard.press("Enter")
        page.locator("#history-search").wait_for()
        page.locator("#go").click()
        page.get_by_role("alert").filter(has_text="This cannot be asked: history").wait_for()
        kept = page.evaluate("[localStorage.length, sessionStorage.length, document.cookie, location.href]")
        assert kept == [0, 0, "", address]
        page.reload()
        page.locator("#token").wait_for()


def test_two_checkpoints_stand_beside_each_other(browser: Any, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", make_catalog(), seed=5)
    engine = make_engine(**SHAPES)
    with shown(engine, compare=str(tmp_path / "other"), **SHAPES) as address, opened(browser, address) as page:
        page.locator("#history-search").wait_for()
        page.keyboard.type("item 5")
        page.locator("#history-0").wait_for()
        page.keyboard.press("Enter")
        page.locator("#beam").select_option("16")
        page.locator("#k").fill("10")
        answers: list[Any] = []
        page.on("response", lambda one: answers.append(one) if one.request.method == "POST" else None)
        page.locator("#go").click()
        page.locator(".lists.two .ranked").nth(1).wait_for()
        found = {one.url.rpartition("/")[2]: json.loads(one.text()) for one in answers}
        first, other = found["recommend"]["items"], found["compare"]["items"]
        shared = [item for item in other if item in first]
        assert f"They share {len(shared)} of 10 items" in page.locator("#shared").text_content()
        rows = page.locator(".lists.two section").nth(1).locator("li .change").all_text_contents()
        for rank, (item, said) in enumerate(zip(other, rows, strict=True)):
            up = first.index(item) - rank if item in first else None
            expected = "new" if up is None else "same rank" if up == 0 else f"{abs(up)} place"
            assert expected in said
        assert "gone" in page.locator(".lists.two section").first.inner_text() or len(shared) == 10


def test_an_experiment_that_runs_is_shown(browser: Any, tmp_path: Path) -> None:
    settings = {"experiment": str(tmp_path / "e.yaml"), "experiment_root": str(tmp_path / "root")}
    (tmp_path / "root").mkdir()
    (tmp_path / "e.yaml").write_text(json.dumps(FILE))
    config = ServeConfig.of(**settings)
    variants = Loaded(parse_experiment(FILE), config, {})
    with shown(make_engine(**SHAPES), variants, **settings) as address, opened(browser, address) as page:
        part = page.locator("#experiment-part")
        part.locator("table").wait_for()
        assert FILE["name"] in part.inner_text()
        assert [row.split("\t")[0] for row in part.locator("tbody").inner_text().splitlines()] == ["control", "fp8"]


def test_a_refusal_is_told_in_words(browser: Any, address: str) -> None:
    busy = {"error": {"status": 503, "type": "queue_full", "field": None, "message": "9 requests are waiting already"}}
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.locator("#history-search").wait_for()
    for status, headers, said in (
        (503, {"Retry-After": "7"}, "The server is busy: 9 requests are waiting already. Ask again in 7 seconds."),
        (429, {"Retry-After": "1"}, "That was too much at once"),
    ):
        answer = {"status": status, "headers": headers, "json": busy}
        page.route("**/v1/recommend", partial(fulfilled, answer))
        page.locator("#go").click()
        page.get_by_role("alert").filter(has_text=said).wait_for()
    context.close()
