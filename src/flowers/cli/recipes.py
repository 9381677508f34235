"""Commands on recipes: values of params.yaml that go together, with what was measured of them."""

from typing import Annotated

import typer

from flowers.cli.app import EXPERIMENTS, app

recipe = typer.Typer(
    help="Values of params.yaml that go together, from recipes/, and what they reached: list, show, use.",
    no_args_is_help=True,
)
app.add_typer(recipe, name="recipe", rich_help_panel=EXPERIMENTS)

Name = Annotated[str, typer.Argument(help="A recipe, as `flowers recipe list` names it.")]


@recipe.command("list")
def list_all() -> None:
    """Print every recipe: what it is, and what it reached on which photos."""
    from flowers.runs import recipe_tables

    recipe_tables.show_all()


@recipe.command("show")
def show_one(
    name: Name,
    options: Annotated[
        bool, typer.Option("--set", help="Print only the options of `dvc exp run` that make it this recipe.")
    ] = False,
) -> None:
    """Print one recipe: how it was measured, the parameters that it changes, and what to type next."""
    from flowers.config.recipes import use
    from flowers.runs import recipe_tables

    use.print_options(name) if options else recipe_tables.show(name)


@recipe.command("use")
def use_one(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Even over values that no commit holds.")] = False,
) -> None:
    """Write a recipe's values into params.yaml; parameters that it does not name become the defaults again."""
    from flowers.config.recipes import use

    use.use(name, force)
