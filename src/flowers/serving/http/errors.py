"""Every error of the application as one line of JSON: {"error": "..."}; uvicorn's own errors are plain text."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from flowers.common.errors import UserError
from flowers.data import images

_LONGEST = 300  # characters: a message may quote what the client sent


def response(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response for an error."""
    return JSONResponse({"error": " ".join(message.split())[:_LONGEST]}, status, headers)


def _http(request: Request, error: HTTPException) -> JSONResponse:
    message = {
        "Not Found": "nothing is served at this path; see /openapi.json",
        "Method Not Allowed": f"{request.method} is not allowed here; allowed: {(error.headers or {}).get('Allow')}",
    }.get(error.detail, error.detail)
    return response(error.status_code, message, error.headers)


def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"] if part != "query")
    unknown = first["type"] == "extra_forbidden"
    return response(400, f"unknown parameter '{name}'" if unknown else f"{name}: {first['msg']}")


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Any]] = {
    HTTPException: _http,
    RequestValidationError: _invalid,
    images.UnreadableImage: lambda _, error: response(400, str(error)),
    UserError: lambda _, error: response(409, str(error)),  # this model cannot do it
    Exception: lambda _, __: response(500, "internal error"),  # starlette raises it again, for the log
}
