"""A verb's flags are made from a dataclass of settings: names, types, help and defaults stand there alone."""

import inspect
from collections.abc import Callable
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from octorec.settings import parts_of, settings_of

Verb = Callable[..., None]


def with_flags(settings: type, **shared: Any) -> Callable[[Verb], Verb]:
    """Give a verb one flag a setting of the dataclass `settings` that has a help text.

    The verb's **flags hold None where one was not given, see `given`. shared: settings without a text, each with the
    annotation of an option that other verbs have too; their flags hold the default where they were not given.
    """

    def add(verb: Verb) -> Verb:
        own = [p for p in inspect.signature(verb).parameters.values() if p.kind != p.VAR_KEYWORD]
        parts = [*parts_of(settings).values()] or [settings]
        kinds = {name: kind for part in parts for name, kind in get_type_hints(part).items()}
        for name, field in settings_of(settings).items():
            if name in shared:
                own.append(_parameter(name, field.default, shared[name]))
            elif "help" in field.metadata:
                option = typer.Option(help=field.metadata["help"] + shown(field.default), show_default=False)
                own.append(_parameter(name, None, Annotated[_typed(kinds[name]) | None, option]))
        verb.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
        verb.__annotations__ = {parameter.name: parameter.annotation for parameter in own}
        return verb

    return add


def shown(default: Any) -> str:
    """Return what the help of a flag says of its default; for None nothing, as the help itself says what that means."""
    if default is None:
        return ""
    said = ",".join(f"{part:g}" for part in default) if isinstance(default, tuple) else default
    return f" Default: {said}."


def _parameter(name: str, default: Any, kind: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _typed(kind: Any) -> Any:
    """Return the type a flag is read as: text for words of a list and for numbers with commas; settings check them."""
    given_as = next(part for part in get_args(kind) if part is not NoneType) if NoneType in get_args(kind) else kind
    return str if given_as is Any or get_origin(given_as) in (tuple, Literal) else given_as
