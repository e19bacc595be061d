"""Bearer tokens say who may ask. They are read again when their file changes."""

import hmac
import logging
import os
import time
from contextvars import ContextVar
from hashlib import sha256

from fastapi import Request

from octorec.errors import InputError
from octorec.reading import read_text
from octorec.serve.refusal import Refusal

logger = logging.getLogger(__name__)
CALLER: ContextVar[str] = ContextVar("CALLER", default="")  # whose request a task answers; "": nobody is asked
LOOK_EVERY_S = 1.0
OPEN = 0o027  # permissions that let others read the tokens, or anybody but the owner write them


class Tokens:
    """Tokens are the bearer tokens of a file, one a line; without a file nobody is asked for one.

    A changed file counts within `LOOK_EVERY_S`; one that cannot be read, or that holds no token, changes nothing.
    """

    def __init__(self, path: str | None):
        self.path = path
        self._digests = [] if path is None else [_digest(token) for token in _read(path)]
        self._stamp = None if path is None else _stamp(path)
        self._look_at = time.monotonic() + LOOK_EVERY_S

    def check(self, request: Request) -> str:
        """Return a name of the token's holder, empty where no token is asked for; refuse a request without one.

        Takes as long for a wrong token as for a right one. `CALLER` is that name from then on.
        """
        CALLER.set("")
        if self.path is None:
            return ""
        if time.monotonic() >= self._look_at:
            self._look(self.path)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = _digest(token.strip())
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise Refusal("unauthorized", "Authorization: Bearer TOKEN is missing or wrong", "authorization")
        CALLER.set(given.hex())
        return given.hex()

    def _look(self, path: str) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY_S
        stamp = _stamp(path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._digests = [_digest(token) for token in _read(path)]
        except InputError as error:
            logger.error("the tokens stay as they were", extra={"reason": str(error)})
            return
        logger.info("tokens were read again", extra={"path": path, "tokens": len(self._digests)})
        warn_if_open(path)


def warn_if_open(path: str) -> None:
    """Log a warning where others than its owner may read or write a token file."""
    mode = os.stat(path).st_mode & 0o777
    if mode & OPEN:
        said = "others may read or write the token file: chmod 600"
        logger.warning(said, extra={"path": path, "mode": f"{mode:o}"})


def _stamp(path: str) -> tuple[int, ...] | None:
    """Return what changes with a file, also where another is put in its place; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def _read(path: str) -> list[str]:
    tokens = [line.strip() for line in read_text(path, "token_file").splitlines() if line.strip()]
    if not tokens:
        raise InputError("token_file", path, "holds no token: one a line")
    return tokens
