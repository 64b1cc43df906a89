"""Errors as clients see them: always a code, a sentence and a hint."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from imbalanceseg.errors import Cancelled, DependencyError, ImbalanceSegError, OutputError
from imbalanceseg.reading import printable
from imbalanceseg.server.responses import ErrorView

_STATUS = {
    "annotation-unknown": 404,
    "base-unknown": 404,
    "case-unknown": 404,
    "image-unknown": 404,
    "job-unknown": 404,
    "label-unknown": 404,
    "model-not-deletable": 404,
    "model-unknown": 404,
    "preview-unknown": 404,
    "result-unknown": 404,
    "session-unknown": 404,
    "strategy-unknown": 404,
    "training-unknown": 404,
    "base-unfinished": 409,
    "case-busy": 409,
    "job-all-or-nothing": 409,
    "job-needed": 409,
    "job-unfinished": 409,
    "result-gone": 410,
    "model-not-adapted": 403,
    "upload-stalled": 408,
    "model-too-large": 413,
    "upload-too-large": 413,
    "volume-too-large": 413,
    "queue-full": 429,
    "stopping": 503,
    "uploads-busy": 429,
    "disk-full": 507,
}
_OF_HTTP = {
    400: ("body-unreadable", "The request cannot be read."),
    404: ("not-found", "There is nothing at this address."),
    405: ("method-not-allowed", "This cannot be done at this address."),
}
_MOST_FAULTS = 5
_log = logging.getLogger(__name__)

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorView, "description": "Refused, with the reason."},
    "5XX": {"model": ErrorView, "description": "Not possible now, with the reason."},
}
"""Of every route, for the OpenAPI document."""


def add_error_handlers(app: FastAPI) -> None:
    """Turn every error of the app into a body that says what to do."""
    app.add_exception_handler(ImbalanceSegError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(AnyHTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)


def error_response(
    status: int, code: str, message: str, hint: str = "", headers: dict[str, str] | None = None
) -> JSONResponse:
    """An error as a response."""
    body = {"code": code, "message": _sound(message), "hint": _sound(hint)}
    return JSONResponse(body, status, headers)


def status_of(error: ImbalanceSegError) -> int:
    """The HTTP status of an error."""
    if error.code in _STATUS:
        return _STATUS[error.code]
    return 500 if isinstance(error, OutputError | DependencyError | Cancelled) else 422


def unexpected(error: Exception) -> JSONResponse:
    """The response to what nobody foresaw; the log gets where, not what."""
    places = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{place.name}:{place.lineno}" for place in reversed(places[-6:]))
    _log.error("%s in %s", type(error).__name__, where)
    return error_response(
        500,
        "internal",
        f"Something unexpected happened ({type(error).__name__}).",
        "Try again; if it happens again, report it with the log of the engine.",
    )


def too_large(limit: int) -> HTTPException:
    """A request that is longer than it may be."""
    detail = {
        "code": "request-too-large",
        "message": f"A request of this kind has at most {limit} bytes.",
        "hint": "",
    }
    return HTTPException(413, detail)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ImbalanceSegError)
    return error_response(status_of(error), error.code, error.message, error.hint)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(422, "request-invalid", _faults(error.errors()), "See the documentation.")


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AnyHTTPException)
    headers = dict(error.headers) if error.headers else None
    if isinstance(error.detail, dict):
        return error_response(error.status_code, **error.detail, headers=headers)
    other = ("http-error", f"The request was answered with status {error.status_code}.")
    code, message = _OF_HTTP.get(error.status_code, other)
    return error_response(error.status_code, code, message, headers=headers)


async def _gone(request: Request, error: Exception) -> JSONResponse:
    return error_response(400, "upload-truncated", "The connection ended before the upload did.")


def _faults(errors: Sequence[Any]) -> str:
    faults = []
    for one in errors[:_MOST_FAULTS]:
        where = ".".join(str(part) for part in one["loc"] if part != "body")
        faults.append(f"{printable(where, 80) or 'body'}: {printable(one['msg'], 160)}")
    return f"The request is not valid: {'; '.join(faults)}."


def _sound(text: str) -> str:
    """Without halves of characters, which no body can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
