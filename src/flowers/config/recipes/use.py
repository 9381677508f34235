"""Put a recipe to use: its values into params.yaml, or as options of `dvc exp run`."""

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

# Strings that the shell and DVC's grammar of overrides both take as they are, without quotes.
_PLAIN = re.compile(r"(?!(?:true|false|null|inf|nan)$)[a-z_/][\w/.+-]*", re.IGNORECASE | re.ASCII)


def use(name: str, force: bool) -> None:
    """Write a recipe's values into params.yaml, and print what changed.

    Raises UserError where the recipe or params.yaml cannot be used; without `force`, where a value would be lost that
    no commit and no recipe holds.
    """
    now = params.training_values(params.load())
    changes = _changes(recipes.load(name), now)
    if not changes:
        print(f"{paths.PARAMS} holds '{name}' already: nothing to change")
        return
    if not force:
        edit.refuse(_edits(changes, now))
    edit.write({key: new for key, (_, new) in changes.items()})
    for key, (old, new) in changes.items():
        print(f"{key}: {written(old)} -> {written(new)}")
    print("Next: dvc repro")


def _edits(names: Iterable[str], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What these keys hold beside the last commit, or beside that recipe that they are nearest to: it is not lost."""
    kept = [{name: (values[name], now[name]) for name in names} for values in _values_of_all()]
    besides = [{name: pair for name, pair in pairs.items() if pair[0] != pair[1]} for pairs in kept]
    return min(edit.uncommitted(names), *besides, key=len)


def _values_of_all() -> Iterator[dict[str, Any]]:
    for name in recipes.names():
        with contextlib.suppress(UserError):  # another recipe's mistake is told where that one is asked for
            yield recipes.values(recipes.load(name))


def print_options(name: str) -> None:
    """Print what makes `dvc exp run` a run of the recipe, whatever params.yaml holds: nothing where it holds that.

    Raises UserError where the recipe or params.yaml cannot be used, or a value is no single word.
    """
    now = params.training_values(params.load())
    print(*(f"-S {key}={_word(name, key, new)}" for key, (_, new) in _changes(recipes.load(name), now).items()))


def _changes(recipe: Recipe, now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys in which params.yaml, whose values are `now`, is not the recipe: what it holds, and the recipe."""
    return {key: (now[key], new) for key, new in recipes.values(recipe).items() if now[key] != new}


def _word(name: str, key: str, value: Any) -> str:
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise UserError(f"{key}: {value!r} is no single word to a shell; type flowers recipe use {name}")
    return written(value).replace(" ", "")
