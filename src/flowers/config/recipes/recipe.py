"""The files of recipes/: the keys of params.yaml that a recipe changes, checked as params.yaml is, and its scores."""

import datetime
import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from flowers.common import console, extras, paths
from flowers.common.errors import UserError
from flowers.config import params
from flowers.config.parameter_types import Fraction, Positive, Section
from flowers.config.params import Training

DEFAULTS = paths.RECIPES / "defaults.yaml"
SHIPPED = "mlp-head"  # the recipe without changes

Words = Annotated[str, Field(min_length=1)]


class Measured(Section):
    """The scores of a recipe on a data set, as fractions, the mean over seeds; and the time and memory it took."""

    photos: Words
    measure: Literal["mean_per_class_accuracy", "accuracy"]
    score: Fraction
    range: Annotated[tuple[Fraction, Fraction], Field(strict=False)]  # lowest and highest over the seeds
    seeds: Annotated[int, Field(ge=1)]
    gain: Annotated[float, Field(ge=-1, le=1)] | None = None  # over the recipe `plain` on the same data set
    wall_s: Positive  # of a whole `dvc repro` without cached activations
    memory_mib: Positive
    machine: Words
    date: datetime.date
    command: Words

    @model_validator(mode="after")
    def _score_lies_in_its_range(self) -> "Measured":
        low, high = self.range
        if not low <= self.score <= high:
            raise ValueError(f"score {self.score:g} is outside its range, from {low:g} to {high:g}")
        return self


Measurements = Annotated[
    tuple[Measured, ...], Field(strict=False), BeforeValidator(lambda value: () if value is None else value)
]


class _File(Section):
    description: Words
    measured: Measurements = ()
    params: Training


class Recipe(Section):
    """A recipe: `params` holds the keys that it changes, by dotted names ('head.units')."""

    name: str
    description: str
    measured: tuple[Measured, ...]
    params: dict[str, Any]


def names() -> list[str]:
    """The names of the recipes in alphabetical order; raises UserError if there is no folder recipes/."""
    if not paths.RECIPES.is_dir():
        raise UserError(f"{paths.RECIPES}: no such folder; run this from the root of the checkout")
    return sorted(path.stem for path in paths.RECIPES.glob("*.yaml") if path != DEFAULTS)


def load(name: str) -> Recipe:
    """Read and check a recipe; raises UserError that names the file, the key and what is wrong, or the known names."""
    path = _path(name)
    document, default = params.read(path), _defaults()
    changes: dict[str, Any] = {}
    if isinstance(document, dict) and isinstance(document.get("params"), dict):
        changes = document["params"]
        document = document | {"params": _over(default.model_dump(), changes)}
    file = params.checked(_File, document, path)
    changed = {f"{section}.{key}" for section, content in changes.items() for key in content}
    before, after = params.training_values(default), params.training_values(file.params)
    own = {key: value for key, value in after.items() if key in changed}
    if same := [key for key in own if own[key] == before[key]]:
        reason = "that is the default; a recipe holds only what differs"
        raise UserError(console.listed([f"{path}: params.{key}: {reason}" for key in same], "\n"))
    return Recipe(name=name, description=file.description, measured=file.measured, params=own)


def defaults() -> dict[str, Any]:
    """The values, by dotted names, of all keys that a recipe does not change. Raises UserError as `load` does."""
    return params.training_values(_defaults())


def values(recipe: Recipe) -> dict[str, Any]:
    """The values of all keys that decide a training, by dotted names: the recipe's, else the defaults."""
    return defaults() | recipe.params


def install_command(recipe: Recipe) -> str:
    """What to type before a training with the recipe: `make extras && ` where its precision needs OpenVINO."""
    in_int8 = values(recipe)["model.precision"] == "int8"
    return "make extras && " if in_int8 and extras.missing("openvino") else ""


def _path(name: str) -> Path:
    known = names()
    if name in known:
        return paths.RECIPES / f"{name}.yaml"
    close = difflib.get_close_matches(name, known, n=1)
    suggestion = f"; did you mean '{close[0]}'?" if close else ""
    if name == DEFAULTS.stem:
        suggestion = f"; params.yaml ships with '{SHIPPED}'"
    raise UserError(f"unknown recipe '{name}'{suggestion} (known: {console.listed(known, shown=20) or 'none'})")


def _defaults() -> Training:
    if not DEFAULTS.exists():
        raise UserError(f"{DEFAULTS}: no such file; restore it with `git checkout {DEFAULTS}`")
    return params.checked(Training, params.read(DEFAULTS), DEFAULTS)


def _over(default: dict[str, dict[str, Any]], changes: dict[str, Any]) -> dict[str, Any]:
    """The default sections with changes; what is not a section is left to the check."""
    return default | {
        section: default.get(section, {}) | content if isinstance(content, dict) else content
        for section, content in changes.items()
    }
