"""The site's pages of what `import octorec` and `octorec.client` give, made from signatures and docstrings."""

import inspect
import re
from collections.abc import Callable, Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import octorec
from benchmarks.tables import table
from studies.site.words import escaped, paragraphs

METHODS = ("recommend", "score", "replace_catalog")  # of an engine, for those who use it
CLIENTS = ("Client", "AsyncClient")
COLUMNS = ["name", "is", "default", "what it says"]


def python() -> str:
    """The page: each public name, with a table of what it takes or holds."""
    return "\n\n".join(
        [
            "# Python",
            "This is what `import octorec` gives. Everything else is internal, and may change with any version.",
            f"## octorec.load\n\n{called('engine = octorec.load', octorec.load)}",
            *documented(octorec.load),
            "## octorec.Engine",
            *paragraphs(inspect.getdoc(octorec.Engine) or "")[:1],
            *(part for name in METHODS for part in _method(name)),
            *(part for kind in (octorec.Request, octorec.Answer, octorec.Feature) for part in _dataclass(kind)),
        ]
    )


def _method(name: str) -> Iterator[str]:
    method = getattr(octorec.Engine, name)
    yield f"### engine.{name}\n\n{called(f'engine.{name}', method)}"
    yield from documented(method)


def client() -> str:
    """The page of `octorec.client`: its two clients with their methods, and every other name that it gives."""
    from octorec import client as package

    return "\n\n".join(
        [
            "# Client",
            *paragraphs(package.__doc__ or "")[:1],
            *(part for kind in CLIENTS for part in _asking(getattr(package, kind))),
            *(part for name in package.__all__ if name not in CLIENTS for part in _held(getattr(package, name))),
        ]
    )


def _asking(kind: Any) -> Iterator[str]:
    yield f"## octorec.client.{kind.__name__}"
    yield from map(escaped, paragraphs(inspect.getdoc(kind) or ""))
    yield called(f"client = {kind.__name__}", kind)
    yield from documented(kind.__init__)
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            wait = "await " if inspect.iscoroutinefunction(method) else ""
            yield f"### {wait}client.{name}\n\n{called(f'{wait}client.{name}', method)}"
            yield from documented(method)


def _held(kind: Any) -> Iterator[str]:
    yield f"## octorec.client.{kind.__name__}"
    if not is_typeddict(kind):
        yield from documented(kind)
        return
    yield from map(escaped, paragraphs(inspect.getdoc(kind) or ""))
    yield table(["name", "is"], ([f"`{name}`", f"`{annotation(hint)}`"] for name, hint in get_type_hints(kind).items()))


def _dataclass(kind: Any) -> Iterator[str]:
    yield f"## octorec.{kind.__name__}"
    yield from documented(kind)


def called(name: str, function: Callable[..., Any]) -> str:
    """How a call is written, as a block of code."""
    said = [f"{'**' if one.kind is one.VAR_KEYWORD else ''}{one.name}" for one in parameters(function)]
    if named := [n for n, one in enumerate(parameters(function)) if one.kind is one.KEYWORD_ONLY]:
        said.insert(named[0], "*")
    return f"```python\n{name}({', '.join(said)})\n```"


def parameters(thing: Any) -> list[inspect.Parameter]:
    return [one for one in inspect.signature(thing).parameters.values() if one.name != "self"]


def documented(thing: Any) -> Iterator[str]:
    """A docstring's paragraphs; where one speaks of parameters (`name: text`), a table of them stands in its place.

    The first table also has those of which no paragraph speaks.
    """
    found = parameters(thing)
    hints = get_type_hints(thing.__init__ if isinstance(thing, type) else thing)  # type: ignore[misc]
    said = [spoken_of(text, {one.name for one in found}) for text in paragraphs(inspect.getdoc(thing) or "")]
    silent = [one for one in found if not any(one.name in texts for _, texts in said)]
    for intro, texts in said:
        if intro:
            yield escaped(intro)
        if texts or (silent and not any(texts for _, texts in said)):
            here = [one for one in found if one.name in texts or one in silent]
            yield table(COLUMNS, ([*_typed(one, hints), escaped(texts.get(one.name, ""))] for one in here))
            silent = []


def spoken_of(text: str, names: set[str]) -> tuple[str, dict[str, str]]:
    """Take a paragraph apart: what stands before the first `name: `, and each name's text; `a, b: ` speaks of both."""
    one = "(?:" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + ")"
    intro, *parts = re.split(rf"(?:^|(?<=[.;]) )({one}(?:, {one})*): ", text)
    texts = zip(parts[::2], parts[1::2], strict=True)
    return intro, {name: said for words, said in texts for name in words.split(", ")}


def _typed(one: inspect.Parameter, hints: dict[str, Any]) -> list[str]:
    """A parameter's name, type and default, as cells."""
    many = "**" if one.kind is one.VAR_KEYWORD else ""
    plain = one.default is None or isinstance(one.default, bool | int | float | str | tuple)
    default = f"`{one.default!r}`" if plain else "" if one.default is one.empty else "empty"
    if callable(one.default) and one.default is not one.empty and hasattr(one.default, "__name__"):
        default = f"`{one.default.__name__}`"
    return [f"`{many}{one.name}`", f"`{annotation(hints[one.name])}`", default]


def annotation(hint: Any) -> str:
    """A type as one writes it in code, without its module."""
    if hint is NoneType:
        return "None"
    if hint is ...:
        return "..."
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " | ".join(map(annotation, parts))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    name = getattr(origin or hint, "__name__", str(hint))
    return f"{name}[{', '.join(map(annotation, parts))}]" if parts else name
