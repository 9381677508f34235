"""What is asked and answered: parameters, MLflow's forms of a request, and the answers, as /openapi.json shows them."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pydantic_core
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flowers.serving import results
from flowers.serving.http.limits import Limits, Refused

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Asked(BaseModel):
    """The query of /predict."""

    model_config = ConfigDict(extra="forbid")

    every_class: bool = Field(default=False, description="Also the probability of each class.")
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="An answer of a lower probability is unsure; without it, the model's own threshold holds.",
    )


class Params(BaseModel):
    """The `params` of /invocations, as in the model's MLflow signature: a negative threshold is the model's own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    every_class: bool = False
    threshold: float = Field(default=-1.0, ge=-1, le=1, allow_inf_nan=False)


class Ranked(BaseModel):
    """A class and its probability."""

    label: str
    probability: float


class Answer(BaseModel):
    """What the model says of a photo."""

    label: str = Field(description="The most probable class.")
    probability: float
    unsure: bool = Field(description="Whether the probability is below the threshold.")
    best: list[Ranked] = Field(description="The five most probable classes, fewer where there are fewer.")
    probabilities: dict[str, float] | None = Field(default=None, description="Of each class, with every_class.")


class Predictions(BaseModel):
    """What the model says of each photo; with every_class, an answer has p(<class>) of each class, too."""

    predictions: list[Answer]


class Failure(BaseModel):
    """Why there is no answer, in one line."""

    error: str


@dataclass(frozen=True)
class Invocation:
    """A request in one of MLflow's forms: encoded photos, and what is asked about them."""

    photos: list[bytes]
    every_class: bool
    threshold: float | None


def predictions(
    classes: Sequence[str], probabilities: NDArray[np.float32], threshold: float | None, every_class: bool
) -> list[dict[str, Any]]:
    """What MLflow makes of the table of the answers: a dictionary per photo; with `every_class`, p(<class>) of each.

    Without the table itself, which takes as long as reading a photo.
    """
    found = [asdict(said) for said in results.answers(classes, probabilities, threshold) if said]
    if every_class:
        for said, row in zip(found, probabilities, strict=True):
            said |= {f"p({name})": float(value) for name, value in zip(classes, row, strict=True)}
    return found


def answer(
    classes: Sequence[str], probabilities: NDArray[np.float32], threshold: float | None, every_class: bool
) -> dict[str, Any]:
    """What /predict says of one photo, of its probabilities (classes,)."""
    (found,) = predictions(classes, probabilities[None], threshold, every_class=False)
    if every_class:
        found["probabilities"] = {name: float(value) for name, value in zip(classes, probabilities, strict=True)}
    return found


_VALUES = 10_000  # told by their commas: reading more would hold up everybody for seconds


def invocation(body: bytes, limits: Limits) -> Invocation:
    """Read a request in one of MLflow's JSON forms (https://mlflow.org/docs/latest/ml/deployment/).

    Photos are base64 text: the column `image` of a data frame, the rows of instances or inputs, or their `image`.
    Raises Refused with the reason.
    """
    if body.count(b",") > _VALUES:
        raise Refused(413, f"more than {_VALUES:,} values in a request; at most {limits.photos} photos are taken")
    try:
        content = pydantic_core.from_json(body)
    except ValueError as error:
        raise Refused(400, f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise Refused(400, f"a JSON object with one of {', '.join(FORMS)} is wanted")
    _judge_keys(content, (*FORMS, "params"), "key")
    forms = [name for name in FORMS if name in content]
    if len(forms) != 1:
        raise Refused(400, f"exactly one of {', '.join(FORMS)} is wanted, not {' and '.join(forms) or 'none'}")
    params = _params(content.get("params"))
    photos = _column(content[forms[0]]) if forms[0] == "dataframe_split" else _rows(content[forms[0]], forms[0])
    if len(photos) > limits.photos:
        raise Refused(413, f"{len(photos):,} photos in a request, more than {limits.photos}; send them in several")
    return Invocation(
        [_decoded(row, photo) for row, photo in enumerate(photos)],
        params.every_class,
        None if params.threshold < 0 else params.threshold,
    )


def problem(errors: Iterable[Any]) -> str:
    """The first of pydantic's complaints, in a line."""
    first = next(iter(errors))
    place = ".".join(str(part) for part in first["loc"] if part != "query")
    return f"unknown parameter '{place}'" if first["type"] == "extra_forbidden" else f"{place}: {first['msg']}"


def _params(given: Any) -> Params:
    if given is None:
        return Params()
    if not isinstance(given, dict):
        raise Refused(400, "params: a JSON object is wanted")
    _judge_keys(given, tuple(Params.model_fields), "parameter")
    try:
        return Params.model_validate(given)
    except ValidationError as error:
        raise Refused(400, f"params.{problem(error.errors(include_url=False))}") from None


def _judge_keys(given: Mapping[str, Any], known: Sequence[str], kind: str) -> None:
    # Not left to pydantic, which would describe each of a million unknown keys.
    unknown = next((key for key in given if key not in known), None)
    if unknown is not None:
        raise Refused(400, f"unknown {kind} {unknown[:40]!r}; there are {', '.join(known)}")


def _column(frame: Any) -> list[Any]:
    """The photos of {"columns": [..., "image", ...], "data": [[...], ...]}."""
    columns, rows = (frame.get("columns"), frame.get("data")) if isinstance(frame, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise Refused(400, 'dataframe_split: {"columns": ["image"], "data": [["<base64>"], ...]} is wanted')
    if "image" not in columns:
        raise Refused(400, "dataframe_split: there is no column 'image'")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            raise Refused(400, f"dataframe_split: row {number} is no list of as many values as there are columns")
    place = columns.index("image")
    return [row[place] for row in rows]


def _rows(given: Any, form: str) -> list[Any]:
    """The photos of [{"image": ...}, ...], and of a data set of tensors also [...] and {"image": [...]}."""
    tensors = form in ("instances", "inputs")
    if form == "inputs" and isinstance(given, dict) and "image" in given:
        column = given["image"]
        given = column if isinstance(column, list) else [column]
    if not isinstance(given, list):
        raise Refused(400, f'{form}: a list, [{{"image": "<base64>"}}, ...], is wanted')
    photos = []
    for number, row in enumerate(given):
        if isinstance(row, dict) and "image" in row:
            photos.append(row["image"])
        elif tensors and not isinstance(row, dict):
            photos.append(row)
        else:
            raise Refused(400, f"{form}: row {number} has no 'image'")
    return photos


def _decoded(row: int, photo: Any) -> bytes:
    if not isinstance(photo, str):
        raise Refused(400, f"image in row {row}: base64 text of an encoded photo is wanted")
    try:
        return base64.b64decode(photo, validate=True)
    except ValueError:  # binascii.Error is one; so is text that is not ASCII
        raise Refused(400, f"image in row {row}: text that is not base64") from None
