"""The search space of a study: checked ranges or choices by the dotted names of parameters, for Optuna."""

import difflib
import itertools
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.edit import written
from flowers.config.parameter_types import Dimension
from flowers.config.params import Params, Training, training_values
from flowers.config.validation_errors import words

_FIXED = {
    "model.mirror": "epochs are scored without it",
    "model.weights": "the download stage decides it",
    "train.on": "without validation images a trial has no score",
    "train.seed": "a lucky seed is not a better model; tune.repeats averages over seeds",
}


class Space:
    """The searched parameters of `settings.tune.space`, around the values of all others in `settings`."""

    def __init__(self, settings: Params) -> None:
        """Raises UserError if a name is not a parameter of the training, or does not accept a value of its range."""
        self.settings, self._values = settings, training_values(settings)
        self.dimensions = settings.tune.space
        self.names = list(self.dimensions)
        ends = {name: list(self._ends(name)) for name in self.names}
        first = {name: values[0] for name, values in ends.items()}
        for name, values in ends.items():
            for value in values:
                self._check({name: value}, first)
        # No rule of params.yaml concerns more than two keys.
        for (one, values), (other, others) in itertools.combinations(ends.items(), 2):
            for value, beside in itertools.product(values, others):
                self._check({one: value, other: beside}, first)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distribution of every parameter; a choice that is a list is its JSON text there."""
        return {name: _distribution(each, self._values[name]) for name, each in self.dimensions.items()}

    def apply(self, values: Mapping[str, Any]) -> Params:
        """The settings with the values that Optuna holds for a trial."""
        return _changed(self.settings, {name: decoded(values[name]) for name in self.names})

    def current(self) -> dict[str, Any]:
        """The values of the settings, encoded as for Optuna."""
        return {name: _encoded(self._values[name]) for name in self.names}

    def holds_current(self) -> bool:
        """Whether a trial could have the values of the settings."""
        current = self.current()
        try:
            return all(
                distribution._contains(distribution.to_internal_repr(current[name]))
                for name, distribution in self.distributions.items()
            )
        except (ValueError, TypeError):
            return False

    def depths(self) -> list[int]:
        """Every number of unfrozen blocks that a trial, or the settings themselves, may have."""
        searched: Any = self.distributions.get("model.unfreeze_blocks")
        depths = {self.settings.model.unfreeze_blocks}
        if hasattr(searched, "choices"):
            depths |= set(searched.choices)
        elif searched is not None:
            depths |= set(range(searched.low, searched.high + 1, searched.step))
        return sorted(depths)

    @cached_property
    def most_epochs(self) -> int:
        """The largest number of epochs that a training of any trial can have, those of its phases together."""
        searched_head = "head.initialization" in self.names
        most = int(searched_head or self.settings.head.initialization != "random")  # its scores are an epoch, too
        for name in ("epochs", "fine_tune_epochs"):
            searched: Any = self.distributions.get(f"train.{name}")
            current = getattr(self.settings.train, name)
            most += current if searched is None else max(getattr(searched, "choices", None) or [searched.high])
        return most

    def described(self) -> dict[str, str]:
        """Each dimension in words, for tables and tags: '0.0 … 0.6', '0.001 … 0.1 (log)', '0 | 1 | 3'."""
        return {name: _words(dimension) for name, dimension in self.dimensions.items()}

    def _ends(self, name: str) -> Iterator[Any]:
        """The values of a dimension to check: all choices, or both ends of a range and the first step of integers."""
        self._check_name(name)
        dimension, kind = self.dimensions[name], type(self._values[name])
        if dimension.choices is not None:
            yield from dimension.choices
            return
        place = f"{paths.PARAMS}: tune.space: {name}"
        numbers = [value for value in (dimension.low, dimension.high, dimension.step) if value is not None]
        if kind not in (int, float):
            raise UserError(f"{place}: takes no range; use choices")
        if kind is int and not all(isinstance(value, int) for value in numbers):
            raise UserError(f"{place}: takes integers only")
        if dimension.step is not None:
            low, high, step = (Decimal(str(value)) for value in numbers)
            if (high - low) % step:
                raise UserError(f"{place}: the range from {low} to {high} is not a multiple of its step {step}")
        yield from map(kind, numbers[:2])
        if kind is int and numbers[0] < numbers[1]:
            yield numbers[0] + (dimension.step or 1)

    def _check_name(self, name: str) -> None:
        tunable = [each for each in self._values if each not in _FIXED]
        if name in _FIXED:
            raise UserError(f"{paths.PARAMS}: tune.space: {name} cannot be searched: {_FIXED[name]}")
        if name not in tunable:
            close = difflib.get_close_matches(name, tunable, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(tunable)}"
            raise UserError(f"{paths.PARAMS}: tune.space: '{name}' is not a parameter of the training; {hint}")

    def _check(self, values: Mapping[str, Any], first: Mapping[str, Any]) -> None:
        """Raise UserError if values fit neither with those of the settings nor with the `first` ones of the space."""
        errors = [self._error({**rest, **values}) for rest in ({}, first)]
        if all(errors):
            raise UserError(f"{paths.PARAMS}: tune.space: {errors[0]}")

    def _error(self, values: Mapping[str, Any]) -> str | None:
        """What is wrong with a value, or with values together and with those of the settings."""
        try:
            _changed(self.settings, values)
        except ValidationError as error:
            details = error.errors()[0]
        else:
            return None
        if details["type"] != "value_error":
            name, value = next(iter(values.items()))
            return f"{name}: {words(details)}, not {value!r}"
        trial = " with ".join(f"{name}: {written(value)}" for name, value in values.items())
        return f"{words(details)}; a trial could have {trial}"


def decoded(value: Any) -> Any:
    """A value of params.yaml from the one that Optuna holds: a list from its JSON text."""
    return tuple(json.loads(value)) if isinstance(value, str) and value.startswith("[") else value


def _encoded(value: Any) -> Any:
    """A value for Optuna: a list as its JSON text."""
    return json.dumps(list(value)) if isinstance(value, list | tuple) else value


def _distribution(dimension: Dimension, current: Any) -> BaseDistribution:
    """The distribution of a parameter with this current value."""
    if dimension.choices is not None:
        return CategoricalDistribution([_encoded(choice) for choice in dimension.choices])
    low, high, step = dimension.low, dimension.high, dimension.step
    assert low is not None
    assert high is not None
    if type(current) is int:
        return IntDistribution(int(low), int(high), log=dimension.log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=dimension.log, step=None if step is None else float(step))


def _changed(settings: Params, values: Mapping[str, Any]) -> Params:
    """The settings with other values, checked like params.yaml. Raises pydantic's ValidationError."""
    sections = {name: getattr(settings, name).model_dump() for name in Training.model_fields}
    for name, value in values.items():
        section, key = name.split(".")
        sections[section][key] = value
    return settings.model_copy(update=dict(Training.model_validate(sections)))


def _words(dimension: Dimension) -> str:
    if dimension.choices is not None:
        return " | ".join(json.dumps(choice) for choice in dimension.choices)
    scale = " (log)" if dimension.log else f" (step {dimension.step})" if dimension.step is not None else ""
    return f"{dimension.low} … {dimension.high}{scale}"
