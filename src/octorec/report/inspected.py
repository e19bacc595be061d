"""Render for a terminal what a checkpoint's folder holds: its layout of tokens as a table, then lines."""

import json
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from octorec.errors import level_name, shown
from octorec.models.inspected import Inspected


def render(found: Inspected) -> list[RenderableType]:
    """Render a table of the levels, and a line for each other fact."""
    family = found.family or "of no family that OctoRec knows"
    out: list[RenderableType] = [f"{found.folder}: {family}"]
    if found.layout is not None:
        out += [_levels(found.layout), *_around(found.layout)]
    elif isinstance(sizes := found.config.get("codebook_sizes"), list):
        out.append(f"reads codes, not tokens: {', '.join(map(str, sizes))} codes a level")
    elif found.refused is None:
        out.append("has no tokenizer's files, which say what tokens stand for codes")
    return [*out, *_weights(found), *_config(found.config), *_ignored(found.ignored)]


def _levels(layout: dict[str, Any]) -> Table:
    table = Table("level", "codes", "with a token", "gaps", "first", "last", title=f"tokens: {layout['recognised']}")
    for place, level in enumerate(layout["levels"]):
        counts = [f"{level[key]:,}" for key in ("codes", "tokens", "gaps")]
        table.add_row(
            level_name(place), *counts, *(f"{level[end]['text']} = {level[end]['id']}" for end in ("first", "last"))
        )
    return table


def _around(layout: dict[str, Any]) -> Iterator[str]:
    for domain, token in layout["begin"].items():
        yield _line("begin", f"{token['text']} = {token['id']}{f' of the domain {domain}' if domain else ''}")
    if not layout["begin"]:
        yield _line("begin", "none: a prompt ends as its template does")
    for token in layout["end"]:
        counted = "scored" if token["scored"] and layout["scores_over"] == "vocabulary" else "not scored"
        yield _line("end", f"{_quoted(token['text'])} = {token['id']}, forced, {counted}")
    if not layout["end"]:
        yield _line("end", "none: an item ends with its last code")
    yield _line("scores over", f"the {layout['scores_over']}")
    own = layout["prompt"]
    yield _line("prompts", f"the template {own}" if own else f"those of {layout['family']}")
    yield from (_line("note", note) for note in layout["notes"])


def _weights(found: Inspected) -> Iterator[str]:
    held = found.weights
    if held is None:
        yield _line("weights", "no safetensors file in the folder")
        return
    types = ", ".join(f"{count:,} {kind}" for kind, count in held["parameters"].items())
    size = f"{held['bytes'] / 1e9:,.2f} GB" if held["bytes"] >= 1e9 else f"{held['bytes']:,} bytes"
    files = f"{held['files']} file{'s' if held['files'] > 1 else ''}"
    yield _line("weights", f"{files}, {held['tensors']:,} tensors, {size}: {types}")


def _config(config: dict[str, Any]) -> Iterator[str]:
    yield from (_line(key, shown(value)) for key, value in config.items() if value is not None)


def _ignored(ignored: dict[str, Any]) -> Iterator[str]:
    if ignored:
        said = ", ".join(f"{key} {shown(value)}" for key, value in ignored.items())
        yield _line("ignored", f"of generation_config.json, in beam search: {said}")


def _line(name: str, said: str) -> str:
    return f"{name:24} {said}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
