"""What a study searches: dotted names of parameters with ranges or choices, checked, as Optuna's distributions."""

import difflib
import itertools
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.edit import written
from flowers.config.params import Dimension, Params, Training, check_together
from flowers.config.validation_errors import words

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SECTIONS = tuple(Training.model_fields)
_FIXED = {
    "model.mirror": "epochs are scored without it",
    "model.weights": "the download stage decides it",
    "train.on": "without validation photos a trial has no score",
    "train.seed": "a lucky seed is no better model; tune.repeats averages over seeds",
}


class Space:
    """The searched parameters of `settings.tune.space`, around the values of all others in `settings`."""

    def __init__(self, settings: Params) -> None:
        """Raises UserError where a name is no parameter of the training, or it does not take a value of its range."""
        self.settings = settings
        self.dimensions = settings.tune.space
        self.names = list(self.dimensions)
        for name in self.names:
            _check_name(name)
        ends = {name: list(_ends(name, dimension)) for name, dimension in self.dimensions.items()}
        first = {name: values[0] for name, values in ends.items()}
        for name, value in ((name, value) for name, values in ends.items() for value in values):
            self._check({name: value}, first)
        # No rule of params.yaml is about more than two keys.
        for (one, values), (other, others) in itertools.combinations(ends.items(), 2):
            for value, beside in itertools.product(values, others):
                self._check({one: value, other: beside}, first)

    @property
    def distributions(self) -> "dict[str, BaseDistribution]":
        """Optuna's distribution of every parameter; a choice that is a list is its JSON text there."""
        return {name: self._distribution(name, dimension) for name, dimension in self.dimensions.items()}

    def apply(self, values: Mapping[str, Any]) -> Params:
        """The settings with the values that Optuna holds for a trial."""
        return _changed(self.settings, {name: decoded(values[name]) for name in self.names})

    def current(self) -> dict[str, Any]:
        """The values that the settings hold, as Optuna would."""
        return {name: encoded(_value(self.settings, name)) for name in self.names}

    def holds_current(self) -> bool:
        """Whether a trial could have the values of the settings."""
        current = self.current()
        for name, distribution in self.distributions.items():
            try:
                inside = distribution._contains(distribution.to_internal_repr(current[name]))
            except (ValueError, TypeError):
                return False
            if not inside:
                return False
        return True

    def depths(self) -> list[int]:
        """Every number of unfrozen blocks that a trial, or the settings themselves, may have."""
        current = self.settings.model.unfreeze_blocks
        dimension = self.dimensions.get("model.unfreeze_blocks")
        if dimension is None:
            return [current]
        if dimension.choices is not None:
            found = [int(value) for value in dimension.choices if isinstance(value, int)]
        else:
            found = list(range(int(dimension.low or 0), int(dimension.high or 0) + 1, int(dimension.step or 1)))
        return sorted({*found, current})

    def described(self) -> dict[str, str]:
        """Each dimension in words, for tables and tags: '0.0 ... 0.6', '0.001 ... 0.1 (log)', '0 | 1 | 3'."""
        return {name: _words(dimension) for name, dimension in self.dimensions.items()}

    def _check(self, values: Mapping[str, Any], first: Mapping[str, Any]) -> None:
        """Refuse values that fit neither beside the settings' own nor, where these are searched, beside the space's."""
        refusals = [self._refusal({**rest, **values}) for rest in ({}, first)]
        if all(refusals):
            raise UserError(f"{paths.PARAMS}: tune.space: {refusals[0]}")

    def _refusal(self, values: Mapping[str, Any]) -> str | None:
        """What is wrong with a value, or with values beside each other and those of the settings."""
        try:
            _changed(self.settings, values)
        except ValidationError as error:
            mistake = error.errors()[0]
            if mistake["type"] != "value_error":
                name, value = next(iter(values.items()))
                return f"{name}: {words(mistake)}, not {value!r}{_hint(self.dimensions[name], value)}"
            rule = words(mistake)
        except ValueError as error:
            rule = str(error)
        else:
            return None
        trial = " with ".join(f"{name}: {written(value)}" for name, value in values.items())
        return f"{rule}; a trial could have {trial}"

    def _distribution(self, name: str, dimension: Dimension) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if dimension.choices is not None:
            return CategoricalDistribution([encoded(choice) for choice in dimension.choices])
        low, high, step = dimension.low, dimension.high, dimension.step
        assert low is not None
        assert high is not None
        if _is_whole(name):
            return IntDistribution(int(low), int(high), log=dimension.log, step=int(step or 1))
        return FloatDistribution(float(low), float(high), log=dimension.log, step=None if step is None else float(step))


def encoded(value: Any) -> Any:
    """A value as Optuna keeps it: a list as its JSON text."""
    return json.dumps(list(value)) if isinstance(value, list | tuple) else value


def decoded(value: Any) -> Any:
    """A value as params.yaml has it."""
    return tuple(json.loads(value)) if isinstance(value, str) and value.startswith("[") else value


def _check_name(name: str) -> None:
    tunable = [
        f"{section}.{key}"
        for section in SECTIONS
        for key in _section(section).model_fields
        if f"{section}.{key}" not in _FIXED
    ]
    if name in tunable:
        return
    if name in _FIXED:
        raise UserError(f"{paths.PARAMS}: tune.space: {name} cannot be searched: {_FIXED[name]}")
    close = difflib.get_close_matches(name, tunable, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(tunable)}"
    raise UserError(f"{paths.PARAMS}: tune.space: '{name}' is no parameter of the training; {hint}")


def _ends(name: str, dimension: Dimension) -> Iterator[Any]:
    """The values of a dimension that must be possible; then all between are, which are whole steps apart or any."""
    if dimension.choices is not None:
        yield from dimension.choices
        return
    place = f"{paths.PARAMS}: tune.space: {name}"
    numbers = [value for value in (dimension.low, dimension.high, dimension.step) if value is not None]
    kind = _section(name.split(".")[0]).model_fields[name.split(".")[1]].annotation
    if kind not in (int, float):
        raise UserError(f"{place}: takes no range; give it choices")
    if kind is int and not all(isinstance(value, int) for value in numbers):
        raise UserError(f"{place}: takes whole numbers only")
    if dimension.step is not None:
        low, high, step = (Decimal(str(value)) for value in numbers)
        if (high - low) % step:
            raise UserError(f"{place}: from {low} to {high} is no whole number of steps of {step}")
    for value in (dimension.low, dimension.high):
        yield value if kind is int else float(value or 0)
    if kind is int and dimension.low < dimension.high:
        yield dimension.low + (dimension.step or 1)


def _hint(dimension: Dimension, value: Any) -> str:
    between = dimension.choices is None and value not in (dimension.low, dimension.high)
    return "; give the range a step" if between and dimension.step is None else ""


def _is_whole(name: str) -> bool:
    section, key = name.split(".")
    return _section(section).model_fields[key].annotation is int


def _section(name: str) -> type[BaseModel]:
    annotation = Params.model_fields[name].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return annotation


def _value(settings: Params, name: str) -> Any:
    section, key = name.split(".")
    return getattr(getattr(settings, section), key)


def _changed(settings: Params, values: Mapping[str, Any]) -> Params:
    """The settings with other values, checked as those of params.yaml are. Raises ValueError, or ValidationError."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, key = name.split(".")
        sections.setdefault(section, getattr(settings, section).model_dump())[key] = value
    changed = {section: _section(section).model_validate(content) for section, content in sections.items()}
    together = settings.model_copy(update=changed)
    check_together(together)
    return together


def _words(dimension: Dimension) -> str:
    if dimension.choices is not None:
        return " | ".join(json.dumps(choice) for choice in dimension.choices)
    scale = " (log)" if dimension.log else f" (step {dimension.step})" if dimension.step is not None else ""
    return f"{dimension.low} … {dimension.high}{scale}"
