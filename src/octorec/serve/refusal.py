"""Every way a request can end, and the body of those that end without an answer."""

import math
from typing import Any

from octorec.errors import InputError, one_line

STATUS = {  # outcome, the label of octorec_requests_total -> HTTP status
    "ok": 200,
    "malformed": 400,  # the body is not JSON
    "unauthorized": 401,
    "forbidden": 403,  # of the admin port: a web page asks
    "not_found": 404,
    "method_not_allowed": 405,
    "timeout": 408,
    "busy": 409,  # another operation of the admin port runs
    "too_large": 413,
    "unsupported_media": 415,
    "invalid": 422,
    "head_too_large": 431,
    "cancelled": 499,  # the client hung up; nobody reads it
    "failed": 500,
    "nonfinite": 500,  # the checkpoint gives this request scores that are NaN or infinity
    "queue_full": 503,
    "overloaded": 503,  # the answer would come after the deadline
    "not_ready": 503,
    "draining": 503,
    "not_live": 503,  # the process should be ended; no Retry-After, as waiting does not help
    "deadline": 504,
}
SHORTEST_S, LONGEST_S = 1, 60  # of Retry-After
LONGEST = 500  # characters of a message, and of a field


class Refusal(Exception):
    """A Refusal ends a request without an answer.

    outcome: a key of STATUS. field: what was wrong, as its sender spells it. retry_after_s: seconds until it may be
    otherwise, where they are known.
    """

    def __init__(self, outcome: str, message: str, field: str | None = None, retry_after_s: float = SHORTEST_S):
        super().__init__(message)
        self.retry_after_s = min(max(SHORTEST_S, math.ceil(retry_after_s)), LONGEST_S)
        self.outcome, self.message = outcome, one_line(message, LONGEST)
        self.field = None if field is None else one_line(field, LONGEST)

    @property
    def status(self) -> int:
        return STATUS[self.outcome]

    @property
    def headers(self) -> dict[str, str]:
        if self.outcome in ("queue_full", "overloaded", "not_ready", "draining"):
            return {"Retry-After": str(self.retry_after_s)}
        if self.outcome == "unsupported_media":
            return {"Accept": "application/json", "Accept-Encoding": "identity"}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        error = {"status": self.status, "type": self.outcome, "field": self.field, "message": self.message}
        return {"error": error, "request_id": request_id}


def invalid(error: InputError) -> Refusal:
    """Make a Refusal of what the engine says is wrong with a request."""
    return Refusal("invalid", str(error), error.field)
