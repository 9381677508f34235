"""Recipes on the terminal: all that there are, with what they reached, or one in full."""

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
    "score: the mean over seeds; gain: points over a plain logistic regression on the same photos; time: a whole "
    "`dvc repro` that finds no activations. flowers recipe show NAME tells machine, date and command."
)


def show_all() -> None:
    """Print what recipes there are, and of those that were measured on the same photos a table, the best first.

    A file that cannot be used is told at the end.
    """
    from rich.text import Text

    out = _console()
    found, mistakes = [], []
    for name in recipes.names():
        try:
            found.append(recipes.load(name))
        except UserError as error:
            mistakes.append(str(error))
    table = _table("recipe", "what it is", left=2)
    for recipe in found:
        table.add_row(recipe.name, recipe.description)
    out.print(table)
    results = [(recipe.name, measured) for recipe in found for measured in recipe.measured]
    for what in dict.fromkeys(_what(measured) for _, measured in results):
        alike = [(name, measured) for name, measured in results if _what(measured) == what]
        table = _table("recipe", "score", "over seeds", "gain", "time", "memory")
        for name, measured in sorted(alike, key=lambda pair: pair[1].score, reverse=True):
            table.add_row(name, *figures(measured))
        out.print(Text(f"\n{what}", "bold"))
        out.print(table)
    if results:
        out.print(f"\n{_LEGEND}")
    for mistake in mistakes:
        console.warn(mistake)


def show(name: str) -> None:
    """Print what a recipe is, what was measured of it and how, the keys it changes, and what to type next."""
    from rich.text import Text

    recipe, out = recipes.load(name), _console()
    out.print(Text(recipe.name, "bold"))
    out.print(recipe.description)
    for measured in recipe.measured:
        out.print(Text(f"\n{_what(measured)}", "bold"))
        for fact, words in _facts(measured).items():
            out.print(f"  {fact:<9}{words}", soft_wrap=True)  # a command stays one line
    if not recipe.measured:
        out.print("\nNothing was measured of it.")
    out.print()
    out.print(_changes(recipe))
    quoted = shlex.quote(name)
    out.print(f"\nNext: flowers recipe use {quoted} && dvc repro", soft_wrap=True)
    out.print(f"  or: dvc exp run $(flowers recipe show {quoted} --set)", soft_wrap=True)


def _console() -> "Console":
    import rich.console

    return rich.console.Console(highlight=False, markup=False, emoji=False)


def _table(*header: str, left: int = 1) -> "Table":
    """The first `left` columns are words, the others numbers, set flush right; names of recipes and keys stay whole."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=not number, overflow="fold")
    return table


def _changes(recipe: Recipe) -> "Table | str":
    if not recipe.params:
        return f"It changes nothing: every value is that of {recipes.DEFAULTS}."
    default = recipes.defaults()
    table = _table("parameter", "default", "recipe", left=3)
    for key, value in recipe.params.items():
        table.add_row(key, written(default[key]), written(value))
    return table


def _what(measured: Measured) -> str:
    return f"{measured.photos}: {measures.NAMES[measured.measure]}"


def figures(measured: Measured) -> list[str]:
    """Score, scores over the seeds, gain ('' where there is none), time and memory, as a person reads them."""
    low, high = measured.range
    over = "the same" if low == high else f"{100 * low:.1f} – {100 * high:.1f}"
    return [
        measures.number(measured.measure, measured.score),
        f"{over} of {measured.seeds}" if measured.seeds > 1 else "one seed",
        "" if measured.gain is None else f"{100 * measured.gain:+.1f}",
        f"{measured.wall_s:,.0f} s",
        f"{measured.memory_mib / 1024:.1f} GiB",
    ]


def _facts(measured: Measured) -> dict[str, str]:
    score, seeds, gain, time, memory = figures(measured)
    facts = {"score": f"{score}, {seeds}" + " seeds" * (measured.seeds > 1)}
    if gain:
        facts["gain"] = f"{gain} points over a plain logistic regression on the same photos"
    facts["took"] = f"{time} and {memory}, a whole `dvc repro` that found no activations"
    return facts | {"machine": measured.machine, "date": measured.date.isoformat(), "command": measured.command}
