"""The types that the sections of params.yaml are made of: bounded numbers, and the range of a searched parameter."""

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from flowers.config.architecture import STRIDE

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Side = Annotated[int, Field(ge=96, le=640, multiple_of=STRIDE)]  # of an input image, in pixels


class Section(BaseModel):
    """A section of a parameter file: unknown keys and other types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("Input should be a number")
    return value


Number = Annotated[Any, AfterValidator(_number)]  # an int stays an int


class Dimension(Section):
    """The range of one searched parameter: `low` to `high`, on a logarithmic scale or in steps; or `choices`."""

    low: Number = None
    high: Number = None
    step: Annotated[Number, Field(gt=0)] = None
    log: bool = False
    choices: Annotated[tuple[Any, ...], Field(strict=False, min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Dimension":
        if self.choices is not None:
            if self.model_fields_set != {"choices"}:
                raise ValueError("choices cannot be combined with low, high, step and log")
            if len({repr(choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("a choice is repeated")
            return self
        if self.low is None or self.high is None:
            raise ValueError("needs low and high, or choices")
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log needs a low above 0, and no step")
        return self
