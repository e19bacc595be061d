"""GET /: a page to try the server with, one file that asks no other host."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path

from fastapi import FastAPI, Response

WEB = Path(__file__).parent / "web"
SCRIPTS = "page.js", "ask.js", "basket.js", "form.js", "answers.js", "picture.js", "start.js"  # in the order they run


def page_route(app: FastAPI) -> None:
    """Add the page to the public application; it needs no token, as what it asks does."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        text, headers = made_page()
        return Response(text, 200, headers, "text/html; charset=utf-8")


@cache
def made_page() -> tuple[bytes, dict[str, str]]:
    """Return the page and its headers, which let the browser run what this very page holds and nothing else."""
    style = (WEB / "page.css").read_text("utf-8")
    script = "".join((WEB / name).read_text("utf-8") for name in SCRIPTS)
    text = (WEB / "page.html").read_text("utf-8")
    for mark, content in (("/* page.css */", style), ("/* scripts */", script)):
        assert text.count(mark) == 1, mark
        text = text.replace(mark, content)
    policy = {
        "default-src": "'none'",
        "script-src": _hashed(script),
        "style-src": _hashed(style),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-cache",
    }
    return text.encode(), headers


def _hashed(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
