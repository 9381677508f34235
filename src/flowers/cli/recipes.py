"""Commands on recipes: values of params.yaml that go together, with their measured scores."""

from typing import Annotated

import typer

from flowers.cli.app import EXPERIMENTS, Overwrite, app

recipe = typer.Typer(
    help="Values of params.yaml that go together, from recipes/, with their measured scores: list, show, use.",
    no_args_is_help=True,
)
app.add_typer(recipe, name="recipe", rich_help_panel=EXPERIMENTS)

Name = Annotated[str, typer.Argument(help="A recipe, as `flowers recipe list` names it.")]


@recipe.command("list")
def list_all() -> None:
    """Print every recipe: its description, and its scores on each data set."""
    from flowers.runs import recipe_tables

    recipe_tables.show_all()


@recipe.command("show")
def show_one(
    name: Name,
    options: Annotated[bool, typer.Option("--set", help="Print only the options for `dvc exp run`.")] = False,
) -> None:
    """Print one recipe: its measurements, the parameters that it changes, and what to type next."""
    from flowers.config.recipes import use
    from flowers.runs import recipe_tables

    use.print_options(name) if options else recipe_tables.show(name)


@recipe.command("use")
def use_one(
    name: Name,
    force: Overwrite = False,
) -> None:
    """Write a recipe's values into params.yaml; all other parameters are reset to their defaults."""
    from flowers.config.recipes import use

    use.use(name, force)
