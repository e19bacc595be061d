"""Errors of a client have the status, the outcome, the field and the message that the server gave."""

from typing import Any


class ServerError(Exception):
    """A ServerError ends a request without an answer.

    status: of HTTP, 0 where no answer came. outcome: such as `invalid` or `queue_full`, as
    `octorec_requests_total` counts it. field: what was wrong, such as `history.3`, or None.
    """

    def __init__(self, status: int, outcome: str, message: str, field: str | None = None, request_id: str = ""):
        super().__init__(message)
        self.status, self.outcome, self.message = status, outcome, message
        self.field, self.request_id = field, request_id

    def __str__(self) -> str:
        where = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.outcome}: {self.message}{where}"


class Refused(ServerError):
    """A Refused says that the request is wrong: asked again, it is refused again."""


class Unauthorized(Refused):
    """An Unauthorized says that the token is missing or wrong."""


class Unavailable(ServerError):
    """An Unavailable says that the server did not answer until the client's time was over."""


class DeadlinePassed(ServerError):
    """A DeadlinePassed says that the answer was not there in time."""


class Failed(ServerError):
    """A Failed says that the server failed on this request; its log has the reason."""


def error_of(status: int, raw: Any) -> ServerError:
    """Make the error of a response. raw: its decoded body, whatever that is."""
    found = raw.get("error") if isinstance(raw, dict) else None
    found = found if isinstance(found, dict) else {}
    outcome = str(found.get("type") or f"status {status}")
    said = str(found.get("message") or "what answers is no server of OctoRec, or a gateway before it")
    request_id = str((raw.get("request_id") if isinstance(raw, dict) else None) or "")
    return _kind(status)(status, outcome, said, found.get("field"), request_id)


def _kind(status: int) -> type[ServerError]:
    if status == 401:
        return Unauthorized
    if status in (408, 429, 502, 503):
        return Unavailable
    if status == 504:
        return DeadlinePassed
    return Failed if status >= 500 else Refused
