"""The site's pages of reference, made from what the program says of itself: its verbs, settings, HTTP and Python."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

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
from octorec.settings import parts_of
from octorec.training.config import TrainConfig

SETTINGS = {  # a dataclass of settings -> what takes them
    TrainConfig: "`octorec train`",
    ServeConfig: "`octorec serve`, as flags or as keys of `--config`",
    RayOptions: "`octorec ray config`",
    OfflineConfig: "`octorec recommend-all`",
    ProveConfig: "`octorec prove`",
    BenchConfig: "`octorec bench serve`",
    EngineConfig: "`octorec.load(path, ...)`",
}
PYTHON = ("octorec.load", "octorec.Engine", "octorec.Request", "octorec.Answer", "octorec.Feature")
MEMBERS = {"octorec.Engine": "[recommend, score, replace_catalog]"}
ENTITIES = {"<": "&lt;", "*": "&#42;", "|": "&#124;", "[": "&#91;", "_": "&#95;"}
SPECIAL = re.compile(r"`[^`|]*`|[<*|\[_]")


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
        said += [f"## octorec {name}", _escaped(_paragraphs(command.help or ""))]
        rows = [_parameter(one) for one in command.params if one.name != "help"]
        said.append(table(["argument or option", "is", "what it does"], rows))
    return "\n\n".join(said) + "\n"


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\b", "").split("\n\n"))


def _parameter(one: Any) -> list[str]:
    names = [*one.opts, *one.secondary_opts] if one.param_type_name == "option" else [one.name.upper()]
    kind = one.type.name if not getattr(one, "is_flag", False) else "switch"
    needed = ", required" if one.required else ", may be repeated" if one.multiple else ""
    default = one.default if one.default not in (None, (), [], "") and not callable(one.default) else None
    help_text = getattr(one, "help", None) or ""
    if default is not None and kind != "switch":
        help_text += f" Default: {default}."
    return [" ".join(f"`{name}`" for name in names), f"{kind}{needed}", _escaped(help_text)]


def settings() -> str:
    """The page of every dataclass of settings: names, types with bounds, defaults."""
    said = ["# Settings", "A value is checked where it is given, and refused by its name. Bounds include their ends."]
    for kind, where in SETTINGS.items():
        for part in [*parts_of(kind).values()] or [kind]:
            said += [f"## {part.__name__}", f"Of {where}. {_escaped(_paragraphs(part.__doc__ or ''))}"]
            said.append(table(["setting", "is", "default", "what it does"], _fields(part)))
    return "\n\n".join(said) + "\n"


def _fields(kind: Any) -> Iterator[list[str]]:
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        default = field.default
        if default is dataclasses.MISSING:
            default = None if field.default_factory is dataclasses.MISSING else field.default_factory()
        shown = "" if default is None else f"`{default}`"
        yield [f"`{field.name}`", _kind(hints[field.name]), shown, _escaped(field.metadata.get("help", ""))]


def _kind(hint: Any) -> str:
    """An annotation in words."""
    parts, origin = get_args(hint), get_origin(hint)
    if origin is Annotated:
        bounds = next((part for part in parts[1:] if isinstance(part, Interval)), None)
        return _kind(parts[0]) + ("" if bounds is None else _bounds(bounds))
    if origin is tuple:
        return f"list of {_kind(parts[0])}"
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if parts:
        return " or ".join(_kind(part) for part in parts if part is not NoneType)
    plain = {int: "integer", float: "number", str: "text", bool: "true or false", Any: "see its text"}
    return plain.get(hint, getattr(hint, "__name__", str(hint)))


def _bounds(interval: Interval) -> str:
    low = f"above {interval.gt:g}" if interval.gt is not None else f"from {interval.ge:g}"
    high = f"below {interval.lt:g}" if interval.lt is not None else f"at most {interval.le:,}"
    return f", {low}, {high}"


def http() -> str:
    """The page of both ports' addresses, and of the fields of what is sent and answered."""
    from octorec.serve.admin import create_admin_app
    from octorec.serve.app import create_app
    from octorec.serve.service import Service

    said = ["# HTTP", "The server's own `/openapi.json` and `/docs` have the same. [Serving](../serving.md) says what it means."]
    for title, create in (("Requests", create_app), ("The admin port", create_admin_app)):
        schema = create(Service(cli.app, "none", ServeConfig.of())).openapi()  # no engine is made for its schema
        said += [f"## {title}", table(["call", "what it does", "answers"], _calls(schema["paths"]))]
        for name, kind in schema["components"]["schemas"].items():
            if rows := [*_schema_fields(kind)]:
                said += [f"### {name}", _escaped(_paragraphs(kind.get("description", "")))]
                said.append(table(["field", "is", "what it says"], rows))
    return "\n\n".join(part for part in said if part) + "\n"


def _calls(paths: dict[str, Any]) -> Iterator[list[str]]:
    for path, methods in paths.items():
        for method, call in methods.items():
            what = call.get("description") or call.get("summary", "")
            yield [f"`{method.upper()} {path}`", _escaped(_paragraphs(what)), " ".join(call["responses"])]


def _schema_fields(kind: dict[str, Any]) -> Iterator[list[str]]:
    for name, field in kind.get("properties", {}).items():
        needed = ", required" if name in kind.get("required", ()) else ""
        yield [f"`{name}`", _schema_kind(field) + needed, _escaped(_paragraphs(field.get("description", "")))]


def _schema_kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    if options := field.get("anyOf", field.get("oneOf", field.get("allOf"))):
        return " or ".join(dict.fromkeys(_schema_kind(one) for one in options))
    if field.get("type") == "array":
        return f"list of {_schema_kind(field.get('items', {}))}"
    if "enum" in field:
        return " or ".join(f"`{one}`" for one in field["enum"])
    return str(field.get("type", "any"))


def python() -> str:
    """The page of what `import octorec` gives, which mkdocstrings fills from docstrings."""
    said = ["# Python", "What `import octorec` gives. Everything else is internal, and may change with any version."]
    for name in PYTHON:
        options = f"\n    options:\n      members: {MEMBERS[name]}" if name in MEMBERS else ""
        said.append(f"::: {name}{options}")
    return "\n\n".join(said) + "\n"


def _escaped(text: str) -> str:
    """A text that Markdown shows as it stands, within a cell too, but for what is in backticks."""
    return SPECIAL.sub(lambda found: found[0] if found[0].startswith("`") else ENTITIES[found[0]], text)


PAGES: dict[str, Callable[[], str]] = {"cli.md": command_line, "settings.md": settings, "http.md": http, "python.md": python}
