"""Parameters and responses, as /openapi.json describes them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from flowers.data import formats


class Options(BaseModel):
    """The query of /predict."""

    model_config = ConfigDict(extra="forbid")

    every_class: bool = Field(default=False, description="Add the probability of each class.")
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="A less probable prediction has low confidence; the default is the model's own threshold.",
    )


class Ranked(BaseModel):
    """A class and its probability."""

    label: str
    probability: float


class Prediction(BaseModel):
    """The prediction for an image."""

    label: str = Field(description="The most probable class.")
    probability: float
    unsure: bool = Field(description="Low confidence: the probability is below the threshold.")
    known: bool | None = Field(
        default=None, description="Whether the image is of one of the classes; missing if the model cannot tell."
    )
    novelty: float | None = Field(default=None, description="Above 0 the image is of none of the classes.")
    nearest: list[str] = Field(description="The three classes with the most similar training images.")
    best: list[Ranked] = Field(description="The five most probable classes, fewer where there are fewer.")
    probabilities: dict[str, float] | None = Field(default=None, description="Of each class, with every_class.")


class Failure(BaseModel):
    """The reason for an error, in one line."""

    error: str


FAILURES: dict[int | str, dict[str, Any]] = {
    # `4XX` also keeps FastAPI from describing validation errors in a form that they do not have here.
    "4XX": {
        "model": Failure,
        "description": "400: no readable image, or a bad parameter; 408: the body is too slow; 413: it is too large; "
        "415: it has another content type",
    },
    500: {"model": Failure, "description": "An error of the server; its log has more"},
    503: {"model": Failure, "description": "The server is busy: Retry-After has the seconds to wait"},
}

_BINARY = {"schema": {"type": "string", "format": "binary"}}

IMAGE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"An encoded image ({formats.NAMES}): "
        "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'",
        "content": {"image/*": _BINARY, "application/octet-stream": _BINARY},
    }
}
