"""Write a recipe into params.yaml, or print it as options of `dvc exp run`."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config import edit, params
from flowers.config.edit import written
from flowers.config.recipes import recipe as recipes
from flowers.config.recipes.recipe import Recipe

# Strings that need no quotes in a shell and in the overrides of DVC.
_PLAIN = re.compile(r"(?!(?:true|false|null|inf|nan)$)[a-z_/][\w/.+-]*", re.IGNORECASE | re.ASCII)


def use(name: str, force: bool) -> None:
    """Write a recipe's values into params.yaml, and print what changed.

    Raises UserError if one of them cannot be used, or, without `force`, a value in no commit or recipe would be lost.
    """
    now = params.training_values(params.load())
    recipe = recipes.load(name)
    changes = _changes(recipe, now)
    if not changes:
        print(f"{paths.PARAMS} already holds '{name}': nothing to change")
        return
    if not force:
        edit.refuse(_edits(changes, now))
    edit.write({key: new for key, (_, new) in changes.items()})
    for key, (old, new) in changes.items():
        print(f"{key}: {written(old)} -> {written(new)}")
    print(f"Next: {recipes.install_command(recipe)}dvc repro")


def _edits(names: Iterable[str], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Of these keys, the values that neither the last commit nor the most similar recipe holds: they would be lost."""
    every = _values_of_all()
    besides = [{name: (kept[name], now[name]) for name in names if kept[name] != now[name]} for kept in every]
    return min(edit.uncommitted(names), *besides, key=len)


def _values_of_all() -> Iterator[dict[str, Any]]:
    for name in recipes.names():
        with contextlib.suppress(UserError):  # an error in another recipe is reported when that one is used
            yield recipes.values(recipes.load(name))


def print_options(name: str) -> None:
    """Print the options that make `dvc exp run` a run of the recipe, given the current params.yaml.

    Raises UserError if the recipe or params.yaml cannot be used, or if a value is no single word.
    """
    now = params.training_values(params.load())
    print(*(f"-S {key}={_word(name, key, new)}" for key, (_, new) in _changes(recipes.load(name), now).items()))


def _changes(recipe: Recipe, now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys in which the values `now` of params.yaml differ from the recipe: value now, value of the recipe."""
    return {key: (now[key], new) for key, new in recipes.values(recipe).items() if now[key] != new}


def _word(name: str, key: str, value: Any) -> str:
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise UserError(f"{key}: {value!r} is no single word in a shell; type flowers recipe use {name}")
    return written(value).replace(" ", "")
