"""What /openapi.json says beyond the types, and the page that shows it without a script or another server."""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.serving.http import protocol

if TYPE_CHECKING:
    import jinja2

_REASONS = {
    400: ("No readable photo, or a parameter or form that is not known", "truncated"),
    408: ("The body took too long to arrive", "the request took more than 30 s to arrive"),
    413: ("The body, or the number of photos, is too large", "more than 16 MB in a request; send less at once"),
    415: ("Another kind of body is wanted", "send JSON, and say so: -H 'Content-Type: application/json'"),
    500: ("A mistake of the server's; its log has more", "internal error"),
    503: ("Too many photos wait: Retry-After says when to come again", "too much to do; try again in 5 s"),
}


def _failure(description: str, line: str) -> dict[str, Any]:
    content = {"application/json": {"example": {"error": line}}}
    return {"model": protocol.Failure, "description": description, "content": content}


ERRORS: dict[int | str, dict[str, Any]] = {
    # `4XX` keeps FastAPI from describing validation errors in a form that they do not have here.
    **{status: _failure(*reason) for status, reason in _REASONS.items()},
    "4XX": _failure("Any other mistake in the request", "unknown parameter 'treshold'"),
}

ALIVE: dict[int | str, dict[str, Any]] = {
    503: _failure("The model does not answer", "the model does not answer"),
}

_RAW = {"schema": {"type": "string", "format": "binary"}}

PHOTO: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An encoded photo, as in the file: curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'",
        "content": {"image/*": _RAW, "application/octet-stream": _RAW},
    }
}

_IMAGE = {"type": "string", "format": "byte", "description": "An encoded photo in base64"}
_RECORDS = {
    "type": "array",
    "items": {"type": "object", "properties": {"image": _IMAGE}, "required": ["image"]},
}
_TENSORS = {"type": "array", "items": {"anyOf": [_IMAGE, _RECORDS["items"]]}}
_FRAME = {
    "type": "object",
    "properties": {
        "columns": {"type": "array", "items": {"type": "string"}, "description": "One of them is `image`"},
        "data": {"type": "array", "items": {"type": "array", "items": {}}},
    },
    "required": ["columns", "data"],
}
_COLUMN = {
    "type": "object",
    "properties": {"image": {"anyOf": [_IMAGE, {"type": "array", "items": _IMAGE}]}},
    "required": ["image"],
}
_JSON = "/9j/4AAQSkZJRg..."

FORMS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Exactly one of the four forms, and params if wanted.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "dataframe_split": _FRAME,
                        "dataframe_records": _RECORDS,
                        "instances": _TENSORS,
                        "inputs": {"anyOf": [_TENSORS, _COLUMN]},
                        "params": protocol.Params.model_json_schema(),
                    },
                    "oneOf": [{"required": [form]} for form in protocol.FORMS],
                    "additionalProperties": False,
                },
                "examples": {
                    "dataframe_split": {
                        "value": {
                            "dataframe_split": {"columns": ["image"], "data": [[_JSON]]},
                            "params": {"every_class": True},
                        }
                    },
                    "dataframe_records": {"value": {"dataframe_records": [{"image": _JSON}]}},
                    "instances": {"value": {"instances": [_JSON]}},
                    "inputs": {"value": {"inputs": {"image": [_JSON]}}},
                },
            }
        },
    }
}


def page(description: dict[str, Any]) -> str:
    """The page of an OpenAPI description."""
    return _template().render(api=description)


@cache
def _template() -> "jinja2.Template":
    import jinja2

    text = (Path(__file__).parent / "docs.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    # Jinja's own filter writes JSON for a script, with \u0027 for a quote.
    environment.filters["json"] = lambda value, indent=None: json.dumps(value, indent=indent, ensure_ascii=False)
    return environment.from_string(text)
