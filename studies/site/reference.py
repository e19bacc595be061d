"""The site's pages of reference, made from what the program says of itself: its verbs, settings, HTTP and Python."""

import dataclasses
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

import typer
from annotated_types import Interval

from benchmarks.tables import table
from octorec.bench.config import BenchConfig
from octorec.cli import app as cli
from octorec.engine.config import EngineConfig
from octorec.offline.config import OfflineConfig
from octorec.prove.config import ProveConfig
from octorec.serve.config import ServeConfig
from octorec.serve.ray_config import RayOptions
from octorec.settings import LARGE, LARGEST, parts_of
from octorec.training.config import TrainConfig
from studies.site.python_page import client, python
from studies.site.words import escaped, paragraphs

SETTINGS = {  # a dataclass of settings -> its title, and what takes them
    ServeConfig: ("The server", "They are flags of `octorec serve`, and keys of its `--config`."),
    EngineConfig: ("The engine", "They are arguments of `octorec.load(path, ...)`."),
    TrainConfig: ("Training", "They are flags of `octorec train`."),
    ProveConfig: ("The proof", "They are flags of `octorec prove`."),
    OfflineConfig: ("All users, offline", "They are flags of `octorec recommend-all`."),
    RayOptions: ("Replicas on Ray", "They are flags of `octorec ray config`."),
    BenchConfig: ("The load tool", "They are flags of `octorec bench serve`."),
}
WORDS = {"int": "integer", "float": "number", "str": "text", "boolean": "switch"}  # click's types
NO_BOUND = (LARGE, LARGE + 1, LARGEST, 2**32 - 1)  # what bounds a number that has no bound of its own


def verbs() -> Iterator[tuple[str, Any]]:
    """Every verb by its words."""
    root: Any = typer.main.get_command(cli.app)
    for name, command in sorted(root.commands.items()):
        inner = getattr(command, "commands", None)
        yield from ((f"{name} {verb}", found) for verb, found in inner.items()) if inner else ((name, command),)


def command_line() -> str:
    """The page of every verb with its arguments and options."""
    said = ["# Command line", "Every verb takes `--help`, which says the same. `octorec --version` shows versions."]
    for name, command in verbs():
        said += [f"## octorec {name}", *map(escaped, paragraphs(command.help or ""))]
        rows = [_parameter(one) for one in command.params if one.name != "help"]
        said.append(table(["argument or option", "is", "what it does"], rows))
    return "\n\n".join(said) + "\n"


def _parameter(one: Any) -> list[str]:
    names = [*one.opts, *one.secondary_opts] if one.param_type_name == "option" else [one.name.upper()]
    kind = WORDS.get(one.type.name, one.type.name) if not getattr(one, "is_flag", False) else "switch"
    needed = ", required" if one.required else ", may be repeated" if one.multiple else ""
    default = one.default if one.default not in (None, (), [], "") and not callable(one.default) else None
    help_text = getattr(one, "help", None) or ""
    if default is not None and kind != "switch":
        help_text += f" Default: {default}."
    return [" ".join(f"`{name}`" for name in names), f"{kind}{needed}", escaped(help_text)]


def settings() -> str:
    """The page of every dataclass of settings: names, types with bounds, defaults."""
    said = [
        "# Settings",
        "Each setting is checked where it is given, and a wrong value is refused by the setting's name. As a flag, "
        "`batch_size` is `--batch-size`. A setting without a text has no flag: it is for Python alone.",
    ]
    for kind, (title, where) in SETTINGS.items():
        said += [f"## {title}", where]
        for part in [*parts_of(kind).values()] or [kind]:
            said += [escaped(text) for text in paragraphs(part.__doc__ or "")[:1]]
            said.append(table(["setting", "is", "default", "what it does"], _fields(part)))
    return "\n\n".join(said) + "\n"


def _fields(kind: Any) -> Iterator[list[str]]:
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        default = field.default
        if default is dataclasses.MISSING:
            default = None if field.default_factory is dataclasses.MISSING else field.default_factory()
        shown = "" if default is None else f"`{default}`"
        yield [f"`{field.name}`", _kind(hints[field.name]), shown, escaped(field.metadata.get("help", ""))]


def _kind(hint: Any) -> str:
    """An annotation in words."""
    parts, origin = get_args(hint), get_origin(hint)
    if origin is Annotated:
        bounds = next((part for part in parts[1:] if isinstance(part, Interval)), None)
        return _kind(parts[0]) + ("" if bounds is None else _bounds(bounds))
    if origin is tuple:
        return "list" if parts[0] is Any else f"list of {_kind(parts[0])}"
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if parts:
        return " or ".join(_kind(part) for part in parts if part is not NoneType)
    plain = {int: "integer", float: "number", str: "text", bool: "true or false", Any: "as its text says"}
    return plain.get(hint, getattr(hint, "__name__", str(hint)))


def _bounds(interval: Interval) -> str:
    low = f"above {interval.gt:g}" if interval.gt is not None else f"from {interval.ge:g}"
    most = interval.le if interval.le is not None else interval.lt
    if most in NO_BOUND:
        return f", {low}"
    number = f"{most:,}" if isinstance(most, int) else f"{most:g}"
    return f", {low}, {'at most' if interval.le is not None else 'below'} {number}"


def http() -> str:
    """The page of both ports' addresses, and of the fields of what is sent and answered."""
    from octorec.serve.admin import create_admin_app
    from octorec.serve.app import create_app
    from octorec.serve.service import Service

    said = ["# HTTP", "A server's own `/openapi.json` and `/docs` have the same; [serving](../serving.md) explains it."]
    for title, create in (("Requests", create_app), ("The admin port", create_admin_app)):
        service = Service(cli.app, "none", ServeConfig.of())  # no engine is made for its schema
        service.variants = cast(Any, {})  # so that the calls of experiments are there
        schema = create(service).openapi()
        said += [f"## {title}", table(["call", "what it does", "takes", "status"], _calls(schema["paths"]))]
        said += _more(schema["paths"])
        for name, kind in schema["components"]["schemas"].items():
            if rows := [*_schema_fields(kind)]:
                said += [f"### {name}", *map(escaped, paragraphs(kind.get("description", "")))]
                said.append(table(["field", "is", "what it says"], rows))
    return "\n\n".join(said) + "\n"


def _calls(paths: dict[str, Any]) -> Iterator[list[str]]:
    for path, methods in paths.items():
        for method, call in methods.items():
            body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            takes = "" if body is None else _schema_kind(body)
            yield [f"`{method.upper()} {path}`", _said(call)[0], takes, ", ".join(call["responses"])]


def _more(paths: dict[str, Any]) -> Iterator[str]:
    """What calls say beyond their first paragraph."""
    for path, methods in paths.items():
        for method, call in methods.items():
            yield from (f"`{method.upper()} {path}`: {text}" for text in _said(call)[1:])


def _said(call: dict[str, Any]) -> list[str]:
    return [escaped(text) for text in paragraphs(call.get("description") or call.get("summary", ""))]


def _schema_fields(kind: dict[str, Any]) -> Iterator[list[str]]:
    for name, field in kind.get("properties", {}).items():
        needed = ", required" if name in kind.get("required", ()) else ""
        yield [f"`{name}`", _schema_kind(field) + needed, escaped(" ".join(paragraphs(field.get("description", ""))))]


def _schema_kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if options := field.get("anyOf", field.get("oneOf", field.get("allOf"))):
        return " or ".join(dict.fromkeys(_schema_kind(one) for one in options))
    if field.get("type") == "array":
        return f"list of {_schema_kind(field.get('items', {}))}"
    if "enum" in field:
        return " or ".join(f"`{one}`" for one in field["enum"])
    return str(field.get("type", "any"))


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": command_line,
    "settings.md": settings,
    "http.md": http,
    "python.md": python,
    "client.md": client,
}
