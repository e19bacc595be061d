"""The page is one HTML file: its style and script stand in it, and a policy lets it load nothing else."""

import base64
from hashlib import sha256
from importlib.resources import files


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _source(inline: str) -> str:
    """Return how a Content-Security-Policy names an inline style or script (CSP level 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(sha256(inline.encode()).digest()).decode()}'"


STYLE, SCRIPT = _read("page.css"), _read("page.js")
PAGE = _read("page.html").replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT)
POLICY = (
    f"default-src 'none'; script-src {_source(SCRIPT)}; style-src {_source(STYLE)}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}
