"""One shape of error, for every method and status, and another at addresses of other servers' clients."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from octorec.errors import InputError, one_line
from octorec.serve.beam_schemas import IGNORED
from octorec.serve.openai_schemas import OpenAIProblem
from octorec.serve.refusal import Refusal, invalid
from octorec.serve.schemas import Problem, in_words

DESCRIPTIONS = {
    400: "The body is not JSON.",
    401: "The bearer token is missing or wrong.",
    403: "Host or Origin is foreign.",
    404: "There is no such thing here.",
    408: "The body did not arrive in time.",
    409: "Another operation is running, or the server is not ready.",
    413: "The body is too large.",
    415: "The body is encoded (gzip) or of another type than JSON.",
    422: "A field is wrong; `field` names it. Nothing was changed.",
    500: "The server failed on this request; its log has the reason.",
    503: "The server does not answer now; `type` says why. Retry-After says when to ask again.",
    504: "The deadline passed.",
}
OTHERS = ("/generate", "/v1/completions", "/v1/chat/completions", "/v1/models")  # of other servers' clients
SAYS_IGNORED = "The fields that were not obeyed, if any."
SENDERS = "The request is wrong: 400 a field or the JSON, 401, 404 no such model, 408, 413, 415 as of /v1/recommend."
OTHERS_STATUS = {"invalid": 400}
OTHERS_TYPES = {401: "authentication_error", 404: "not_found_error"}
HEADERS = {
    401: {"WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}}},
    503: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
}


def problem(refusal: Refusal, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer to what was refused at an address, in the shape that its clients read."""
    all_headers = {**(headers or {}), **refusal.headers}
    if path not in OTHERS:
        return JSONResponse(refusal.body(), refusal.status, all_headers)
    status = OTHERS_STATUS.get(refusal.outcome, refusal.status)
    kind = OTHERS_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": refusal.message, "type": kind, "param": refusal.field, "code": refusal.outcome}
    return JSONResponse({"error": error}, status, all_headers)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a FastAPI route that may end with these statuses."""
    return {
        status: {"model": Problem, "description": DESCRIPTIONS[status]}
        | ({"headers": HEADERS[status]} if status in HEADERS else {})
        for status in statuses
    }


def others_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a FastAPI route for prompts of other servers' clients; see `others_problems`."""
    return {200: {"headers": {IGNORED: {"description": SAYS_IGNORED, "schema": {"type": "string"}}}}} | others_problems(
        *statuses
    )


def others_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a FastAPI route for other servers' clients: what its sender did wrong, and statuses."""
    said: dict[int | str, dict[str, Any]] = {"4XX": {"description": SENDERS}, **problems(*statuses)}
    return {status: {**about, "model": OpenAIProblem} for status, about in said.items()}


def answer_errors(app: FastAPI) -> None:
    """Make every error of `app` a `Problem`, those that FastAPI and Starlette raise as well."""

    @app.exception_handler(Refusal)
    def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return problem(refusal, request.url.path)

    @app.exception_handler(InputError)
    def wrong(request: Request, error: InputError) -> JSONResponse:
        return refused(request, invalid(error))

    @app.exception_handler(RequestValidationError)
    def wrong_body(request: Request, error: RequestValidationError) -> JSONResponse:
        return refused(request, _of_validation(error))

    @app.exception_handler(HTTPException)
    def raised_by_a_library(request: Request, error: HTTPException) -> JSONResponse:
        refusal = _of_library(request, error)
        allow = {"Allow": _allowed(error)} if error.status_code == 405 else {}
        return problem(refusal, request.url.path, allow)

    @app.exception_handler(Exception)
    def failed(request: Request, _: Exception) -> JSONResponse:
        return refused(request, Refusal("failed", "the server failed on this request; the log has the reason"))


def _of_validation(error: RequestValidationError) -> Refusal:
    """Say the first thing that is wrong, without what was sent, which may be large."""
    first = error.errors()[0]
    parts = [str(part)[:100] for part in first["loc"][:9] if part not in ("str", "int")]
    if first["type"] == "extra_forbidden":
        parts.pop()  # the client's own word
    field = ".".join(parts[1:] or parts)  # without the leading `body`
    return Refusal("invalid", f"{field}: {in_words(first['type'], first['msg'], field)}", field)


def _of_library(request: Request, error: HTTPException) -> Refusal:
    if error.status_code == 404:
        return Refusal("not_found", "there is no such address")
    if error.status_code == 405:
        return Refusal(
            "method_not_allowed",
            f"{one_line(request.url.path, 200)}: the method is not allowed; allowed: {_allowed(error)}",
        )
    return Refusal("failed", str(error.detail))


def _allowed(error: HTTPException) -> str:
    """Name the methods of the address; HEAD works wherever GET does. Files, whose methods are not told, are for GET."""
    methods = (error.headers or {}).get("Allow", "GET").split(", ")
    return ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
