"""A link between two files of the repository becomes one between pages of the site; one to another file, its path."""

import os
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUTSIDE = {  # files outside docs/ -> the site's pages that show them
    "README.md": "index.md",
    "README.zh-CN.md": "zh-CN.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "results/README.md": "results.md",
    "examples/README.md": "examples.md",
    "studies/quality/plan.md": "plans/quality.md",
    "studies/qwen/plan.md": "plans/qwen.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
NAME = re.compile(r"^(?:docs/)?([\w-]+)\.md$")  # a page's file as a link's text
FENCE = re.compile(r"^```.*?^```$", re.S | re.M)
COMMENT = re.compile(r"^<!-- .*? -->\n", re.M)
LIST = re.compile(r"(?m)^((?![-*|#>\s]|\d+\. ).+\n)(?=(?:- |1\. ))")


def page_of(path: str) -> str | None:
    """The page of the site that shows a file of the repository; None where none does."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return OUTSIDE.get(path)


def source_of(page: str) -> str:
    """The file of the repository that a page shows."""
    return next((path for path, shown in OUTSIDE.items() if shown == page), f"docs/{page}")


def for_the_site(markdown: str, page: str) -> str:
    """A page's text as the site's Markdown has it: links that hold there, no comments, an empty line before a list."""
    parts, at = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [_prose(markdown[at : fence.start()], page), fence[0]]
        at = fence.end()
    return "".join([*parts, _prose(markdown[at:], page)])


def _prose(text: str, page: str) -> str:
    text = LIST.sub(r"\1\n", COMMENT.sub("\n", text))
    return LINK.sub(lambda link: _moved(link, page), text)


def _moved(link: re.Match[str], page: str) -> str:
    mark, text, target, anchor = link[1], link[2], link[3], link[4] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source_of(page)), target))
    if "://" in target or not (ROOT / path).exists():
        return link[0]  # another host's, or a page that is made: mkdocs checks it
    to = page_of(path)
    text = NAME.sub(r"\1", text)
    if to is None:
        return f"`{path}`" if path.endswith(text.strip("`")) else f"{text} (`{path}`)"
    return f"{mark}[{text}]({os.path.relpath(to, posixpath.dirname(page) or '.')}{anchor})"
