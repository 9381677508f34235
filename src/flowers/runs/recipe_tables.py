"""Recipes on the terminal: the list with what was measured, or one recipe in full."""

import shlex

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.text import Text

from flowers.common import console
from flowers.common.errors import UserError
from flowers.config.edit import written
from flowers.config.recipes import recipe as recipes
from flowers.config.recipes.recipe import Measured
from flowers.reporting import measures
from flowers.reporting.document import Table, grid

_LEGEND = (
    "score: the mean over seeds; gain: points over a plain logistic regression on the same images; time: a whole "
    "`dvc repro` without cached activations."
)


def show_all() -> None:
    """Print all recipes and, for each set of images, a table of what was measured on it, the best first.

    A file with validation errors is named in a warning at the end.
    """
    out = _console()
    found, errors = [], []
    for name in recipes.names():
        try:
            found.append(recipes.load(name))
        except UserError as error:
            errors.append(str(error))
    _print(Table(["recipe", "what it is"], [[recipe.name, recipe.description] for recipe in found], left=2))
    tables: dict[str, list[tuple[str, Measured]]] = {}
    for recipe in found:
        for measured in recipe.measured:
            tables.setdefault(_title(measured), []).append((recipe.name, measured))
    for title, results in tables.items():
        out.print(Text(f"\n{title}", "bold"))
        _print(_measurements(sorted(results, key=lambda pair: pair[1].score, reverse=True)))
    if tables:
        out.print(f"\n{_LEGEND} Machine, date and command: flowers recipe show NAME")
    for message in errors:
        console.warn(message)


def show(name: str) -> None:
    """Print a recipe: description, measurements and how they were made, the keys it changes, and what to type next."""
    recipe, out = recipes.load(name), _console()
    out.print(Text(recipe.name, "bold"))
    out.print(recipe.description)
    for measured in recipe.measured:
        out.print(Text(f"\n{_title(measured)}", "bold"))
        _print(_measurements([(name, measured)]))
        out.print(f"{measured.machine}, {measured.date.isoformat()}: {measured.command}", soft_wrap=True)
    out.print(f"\n{_LEGEND}" if recipe.measured else "\nNothing was measured.")
    out.print()
    if recipe.params:
        default = recipes.defaults()
        rows = [[key, written(default[key]), written(value)] for key, value in recipe.params.items()]
        _print(Table(["parameter", "default", "recipe"], rows, left=3))
    else:
        out.print(f"It changes nothing: every value is that of {recipes.DEFAULTS}.")
    quoted = shlex.quote(name)
    before = recipes.install_command(recipe)
    out.print(f"\nNext: {before}flowers recipe use {quoted} && dvc repro", soft_wrap=True)
    out.print(f"  or: {before}dvc exp run $(flowers recipe show {quoted} --set)", soft_wrap=True)


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


def _title(measured: Measured) -> str:
    return f"{measured.photos}: {measures.NAMES[measured.measure]}"


def _measurements(results: list[tuple[str, Measured]]) -> Table:
    rows = [[name, *figures(measured)] for name, measured in results]
    return Table(["recipe", "score", "over seeds", "gain", "time", "memory"], rows)


def _print(table: Table) -> None:
    _console().print(grid(table, box=SIMPLE_HEAD, show_edge=False, pad_edge=False))


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)
