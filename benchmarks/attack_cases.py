"""Attacks that need no token: what is sent, on how many connections, how often. Each is bounded in time."""

import json
from dataclasses import dataclass

POST = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
MB = 2**20


@dataclass(frozen=True)
class Case:
    """A Case is an attack: each connection sends `head`, then `piece` again and again until the server ends it.

    every_s: the pause between two pieces; 0 sends as fast as the server reads. most: pieces, or None for no end.
    reads: whether the attacker reads what is said to it. admin: sent to the admin port.
    """

    name: str
    says: str  # in words, for the table
    head: bytes = b""
    piece: bytes = b""
    connections: int = 1
    every_s: float = 0.0
    most: int | None = None
    reads: bool = True
    admin: bool = False


def body(raw: object) -> bytes:
    """A whole request with `raw` as its body."""
    text = json.dumps(raw, separators=(",", ":")).encode()
    return POST + f"Content-Length: {len(text)}\r\n\r\n".encode() + text


def wrong(field: str, value: object) -> bytes:
    return body({"history": ["i1"], field: value})


N = 100_000
WRONG: dict[str, bytes] = {
    "history": body({"history": [{}] * 300_000}),
    "fields": body({"history": ["i1"], **{f"x{number}": 1 for number in range(N // 2)}}),
    "user": wrong("user", {f"x{number}": [] for number in range(N // 2)}),
    "features": wrong("features", {f"x{number}": {} for number in range(N // 2)}),
    "histories": wrong("histories", {f"x{number}": [{}] for number in range(N // 2)}),
    "exclude": wrong("exclude", [None] * 180_000),
    "beam_width": wrong("beam_width", ["x"] * 250_000),
    "input_ids": wrong("input_ids", ["x"] * 250_000),
    "messages": wrong("messages", [0] * 450_000),
    "list": body([{"history": [{}] * 4_000}] * 64),
}

FLOODS = (
    Case("head_lines", "header lines without end", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-A: b\r\n" * 8192),
    Case("head_value", "one header value without end", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"x" * MB),
    Case("head_name", "one header name without end", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"x" * MB),
    Case("target", "an address without end", b"GET /", b"x" * MB),
    Case("blank_lines", "empty lines in the place of a head", b"", b"\r\n" * 32768),
    Case("trailers", "trailers without end", CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-A: b\r\n" * 8192),
    Case("trailer_value", "one trailer without end", CHUNKED + b"2\r\n{}\r\n0\r\nX-A: ", b"x" * MB),
    Case("extension", "a chunk's extension without end", CHUNKED + b"2;a=", b"x" * MB),
    Case("tiny_chunks", "chunks of one byte, on 4 connections", CHUNKED, b"1\r\n \r\n" * 8192, 4),
    Case("pipeline", "requests without end, answers not read", b"", GET * 1024, reads=False),
    Case("body_after_401", "a body without end to a wrong address", b"POST /nothing HTTP/1.1\r\nHost: localhost\r\n"
         b"Content-Length: 1000000000\r\n\r\n", b"x" * MB),
    Case("admin_body", "300 MB to the admin port, no token", b"POST /v1/items HTTP/1.1\r\nHost: localhost\r\n"
         b"Content-Type: application/json\r\nContent-Length: 314572800\r\n\r\n", b"x" * MB, most=300, admin=True),
    Case("admin_head", "header lines without end to the admin port", b"GET / HTTP/1.1\r\n", b"X-A: b\r\n" * 8192,
         admin=True),
)  # fmt: skip

SLOW = (
    Case("silent", "200 silent connections", connections=200),
    Case("slow_heads", "200 heads, a byte a second", b"GET /health HTTP/1.1\r\nHost: ", b"x", 200, 1.0),
    Case("slow_blanks", "200 connections, an empty line a second", b"", b"\r\n", 200, 1.0),
    Case("slow_bodies", "200 bodies, a byte a second", POST + b"Content-Length: 100000\r\n\r\n", b" ", 200, 1.0),
    Case("slow_trailers", "200 trailers, a byte a second", CHUNKED + b"2\r\n{}\r\n0\r\nX-A: ", b"x", 200, 1.0),
    Case("slow_404", "200 bodies to a wrong address, a byte a second",
         b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", b" ", 200, 1.0),
    Case("unread", "20 clients that ask for large pages and read nothing",
         b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8, connections=20,
         reads=False),
    Case("many", "3,000 connections", b"GET /health HTTP/1.1\r\nHost: ", b"x", 3000, 1.0),
)  # fmt: skip

DEEP = POST + b"Content-Length: 1000000\r\n\r\n" + b"[" * 1_000_000
BODIES = (
    *(Case(f"wrong_{name}", f"ten bodies of 1 MB, wrong in `{name}`", sent, b"", 10) for name, sent in WRONG.items()),
    Case("deep", "ten bodies of 1 MB, nested without end", DEEP, connections=10),
)

CASES = {case.name: case for case in (*FLOODS, *SLOW, *BODIES)}
