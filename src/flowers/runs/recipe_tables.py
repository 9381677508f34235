"""Recipes on the terminal: the list with what was measured, or one recipe in full."""

import shlex
from typing import TYPE_CHECKING

from flowers.common import console
from flowers.common.errors import UserError
from flowers.config.edit import written
from flowers.config.recipes import recipe as recipes
from flowers.config.recipes.recipe import Measured, Recipe
from flowers.reporting import measures

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LEGEND = (
    "score: the mean over seeds; gain: points over a plain logistic regression on the same images; time: a whole "
    "`dvc repro` without cached activations."
)


def show_all() -> None:
    """Print all recipes and, for each set of images, a table of what was measured on it, the best first.

    A file with validation errors is named in a warning at the end.
    """
    from rich.text import Text

    out = _console()
    found, errors = [], []
    for name in recipes.names():
        try:
            found.append(recipes.load(name))
        except UserError as error:
            errors.append(str(error))
    table = _table("recipe", "what it is", left=2)
    for recipe in found:
        table.add_row(recipe.name, recipe.description)
    out.print(table)
    tables: dict[str, list[tuple[str, Measured]]] = {}
    for recipe in found:
        for measured in recipe.measured:
            tables.setdefault(_title(measured), []).append((recipe.name, measured))
    for title, results in tables.items():
        out.print(Text(f"\n{title}", "bold"))
        out.print(_measurements(sorted(results, key=lambda pair: pair[1].score, reverse=True)))
    if tables:
        out.print(f"\n{_LEGEND} Machine, date and command: flowers recipe show NAME")
    for message in errors:
        console.warn(message)


def show(name: str) -> None:
    """Print a recipe: description, measurements and how they were made, the keys it changes, and what to type next."""
    from rich.text import Text

    recipe, out = recipes.load(name), _console()
    out.print(Text(recipe.name, "bold"))
    out.print(recipe.description)
    for measured in recipe.measured:
        out.print(Text(f"\n{_title(measured)}", "bold"))
        out.print(_measurements([(name, measured)]))
        out.print(f"{measured.machine}, {measured.date.isoformat()}: {measured.command}", soft_wrap=True)
    out.print(f"\n{_LEGEND}" if recipe.measured else "\nNothing was measured.")
    out.print()
    out.print(_changes(recipe))
    quoted = shlex.quote(name)
    out.print(f"\nNext: flowers recipe use {quoted} && dvc repro", soft_wrap=True)
    out.print(f"  or: dvc exp run $(flowers recipe show {quoted} --set)", soft_wrap=True)


def figures(measured: Measured) -> list[str]:
    """Score, range over seeds, gain ('' where there is none), time and memory as text."""
    low, high = measured.range
    seeds = "the same" if low == high else f"{100 * low:.1f} – {100 * high:.1f}"
    return [
        measures.number(measured.measure, measured.score),
        f"{seeds} of {measured.seeds}" if measured.seeds > 1 else "one seed",
        "" if measured.gain is None else f"{100 * measured.gain:+.1f}",
        f"{measured.wall_s:,.0f} s",
        f"{measured.memory_mib / 1024:.1f} GiB",
    ]


def _changes(recipe: Recipe) -> "Table | str":
    if not recipe.params:
        return f"It changes nothing: every value is that of {recipes.DEFAULTS}."
    default = recipes.defaults()
    table = _table("parameter", "default", "recipe", left=3)
    for key, value in recipe.params.items():
        table.add_row(key, written(default[key]), written(value))
    return table


def _title(measured: Measured) -> str:
    return f"{measured.photos}: {measures.NAMES[measured.measure]}"


def _measurements(results: list[tuple[str, Measured]]) -> "Table":
    table = _table("recipe", "score", "over seeds", "gain", "time", "memory")
    for name, measured in results:
        table.add_row(name, *figures(measured))
    return table


def _console() -> "Console":
    import rich.console

    return rich.console.Console(highlight=False, markup=False, emoji=False)


def _table(*header: str, left: int = 1) -> "Table":
    """An empty table; the first `left` columns are text, the others flush right; the first column is never wrapped."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=not number, overflow="fold")
    return table
