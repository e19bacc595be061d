"""Texts of docstrings and of the command line's help, as the site's Markdown shows them."""

import re

ENTITIES = {"<": "&lt;", "*": "&#42;", "|": "&#124;", "[": "&#91;", "_": "&#95;"}
SPECIAL = re.compile(r"`[^`|]*`|[<*|\[_]")


def paragraphs(text: str) -> list[str]:
    """A text's paragraphs, each in one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.replace("\b", "").strip()) if part.strip()]


def escaped(text: str) -> str:
    """A text that Markdown shows as it stands, within a cell too, but for what is in backticks."""
    return SPECIAL.sub(lambda found: found[0] if found[0].startswith("`") else ENTITIES[found[0]], text)
