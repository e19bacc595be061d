"""The site's pages of reference have every verb, setting, field and public name, and tables that hold together."""

import dataclasses
import inspect
import re

import octorec
from octorec import client
from octorec.serve.config import ServeConfig
from octorec.settings import settings_of
from studies.site import reference
from studies.site.python_page import annotation, spoken_of
from studies.site.words import escaped, paragraphs


def test_every_verb_and_each_of_its_options_is_on_the_page_of_the_command_line() -> None:
    page = reference.command_line()
    verbs = dict(reference.verbs())
    assert {"serve", "catalog build", "ab report"} <= set(verbs)
    for name, command in verbs.items():
        section = re.split(r"^## ", page.split(f"## octorec {name}\n")[1], flags=re.M)[0]
        for one in command.params:
            shown = one.opts[0] if one.opts[0].startswith("-") else one.name.upper()
            assert one.name == "help" or f"`{shown}`" in section


def test_every_setting_of_the_server_is_on_the_page_of_settings_with_its_bounds() -> None:
    page = reference.settings()
    for name in settings_of(ServeConfig):
        assert f"\n| `{name}` | " in page
    assert "| `port` | integer, from 0, at most 65,535 | `8080` | " in page
    assert "2,147,483,647" not in page  # what bounds a number that has no bound of its own


def test_every_call_and_its_body_is_on_the_page_of_http() -> None:
    page = reference.http()
    for call in ("POST /v1/recommend", "POST /v1/outcomes", "POST /v1/items", "GET /v1/experiment", "GET /metrics"):
        assert f"\n| `{call}` | " in page
    assert "[RecommendRequest](#recommendrequest)" in page
    for name in re.findall(r"\]\(#(\w+)\)", page):
        assert re.search(rf"^### {name}$", page, re.M | re.I), name


def test_every_public_name_and_each_of_its_fields_is_on_the_page_of_python() -> None:
    page = reference.python()
    for name in set(octorec.__all__) - {"__version__"}:
        assert f"\n## octorec.{name}\n" in page
    for kind in (octorec.Request, octorec.Answer, octorec.Feature):
        for field in dataclasses.fields(kind):
            assert f"\n| `{field.name}` | " in page
    for name in inspect.signature(octorec.load).parameters:
        assert re.search(rf"^\| `(\*\*)?{name}` \| ", page, re.M), name


def test_every_name_of_the_client_and_what_it_takes_is_on_its_page() -> None:
    page = reference.client()
    for name in client.__all__:
        assert f"\n## octorec.client.{name}\n" in page
    for name in ("url", "token", "history", "timeout_s", "exclude_seen", "scores"):
        assert f"\n| `{name}` | " in page
    assert "| `token` | `str | None` | `None` | that the server asks for, if it does. |" in page
    assert "client.recommend(history, *, timeout_s, **options)" in page


def test_each_line_of_a_table_has_as_many_cells_as_its_head() -> None:
    for made in reference.PAGES.values():
        for table in re.findall(r"(?:^\|.*\n?)+", made(), re.M):
            counts = {len(re.findall(r"\|", re.sub(r"`[^`]*`", "", line))) for line in table.splitlines()}
            assert len(counts) == 1, table


def test_a_docstring_s_names_become_rows() -> None:
    said = spoken_of("It does this. k: how many. a, b: both; see c: no name. device: where.", {"k", "a", "b", "device"})
    both = "both; see c: no name."
    assert said == ("It does this.", {"k": "how many.", "a": both, "b": both, "device": "where."})
    assert spoken_of("Nothing here is a name: this.", {"k"}) == ("Nothing here is a name: this.", {})
    assert annotation(dict[str, int] | None) == "dict[str, int] | None"
    assert paragraphs("one\n  line\n\n \b two") == ["one line", "two"]
    assert escaped("a * b | `c * d` [e]") == "a &#42; b &#124; `c * d` &#91;e]"
