"""Validation errors of a parameter file as lines that name the file and the key."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

LONGEST = 200  # letters of a value in a message


def explained(model: type[BaseModel], path: Path, error: ValidationError) -> list[str]:
    """One line per error; a key that is missing because it is mistyped is reported once."""
    items = error.errors()
    meant = {(*item["loc"][:-1], _closest(model, item["loc"])) for item in items if item["type"] == "extra_forbidden"}
    return [_explain(model, path, item) for item in items if item["type"] != "missing" or item["loc"] not in meant]


def words(item: Mapping[str, Any]) -> str:
    """Pydantic's message in terms of YAML."""
    return str(item["msg"]).removeprefix("Value error, ").replace("a valid tuple", "a list")


def _explain(model: type[BaseModel], path: Path, item: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown key '{key}'{_suggestion(model, item['loc'])}"
    if item["type"] == "missing":
        return f"{path}: key '{key}' is missing"
    if item["type"] == "model_type":
        return f"{path}: {key or 'the file'} must hold keys and their values, not {_shortened(item['input'])}"
    message = words(item)
    shown = "" if isinstance(item["input"], dict) else f", not {_shortened(item['input'])}"
    return f"{path}: {key + ': ' if key else ''}{message}{shown}"


def _shortened(value: object) -> str:
    """A value as Python writes it, cut if it is very long."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _suggestion(model: type[BaseModel], location: tuple[str | int, ...]) -> str:
    close = _closest(model, location)
    known = ", ".join(_section(model, location).model_fields)
    return f"; did you mean '{close}'?" if close else f"; known here: {known}"


def _closest(model: type[BaseModel], location: tuple[str | int, ...]) -> str | None:
    """The existing key of the same section that is most similar to an unknown one."""
    return next(iter(difflib.get_close_matches(str(location[-1]), _section(model, location).model_fields, n=1)), None)


def _section(model: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel]:
    """The model that a key belongs to."""
    parts = iter(location[:-1])
    for part in parts:
        annotation = model.model_fields[str(part)].annotation
        if get_origin(annotation) in (dict, tuple):
            next(parts)  # its key or number
            annotation = next(kind for kind in get_args(annotation) if kind is not str)
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        model = annotation
    return model
