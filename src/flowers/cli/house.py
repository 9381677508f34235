"""Commands around the pipeline: the sample, caches, and what MLproject calls."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flowers.cli.app import HOUSE, app


@app.command(rich_help_panel=HOUSE)
def draw_sample(
    folder: Annotated[Path, typer.Argument(help="A new folder for the pictures.")],
    per_class: Annotated[int, typer.Option(help="Pictures of each of the five classes.", min=1)] = 60,
    seed: Annotated[int, typer.Option(help="Another seed draws other pictures.", min=0)] = 0,
) -> None:
    """Draw the small data set of flowers that ships with this project."""
    from flowers.datasets import sample

    sample.draw(folder, per_class, seed)


@app.command(rich_help_panel=HOUSE)
def cache(
    clear: Annotated[
        Literal["activations", "archives", "weights", "all"] | None,
        typer.Option(help="Remove these (archives: those that you put there, too)."),
    ] = None,
) -> None:
    """Show what your cache folder holds, or clear it: archives, weights and activations of all your clones."""
    from flowers import cache as user_cache

    user_cache.show() if clear is None else user_cache.clear(clear)


@app.command(rich_help_panel=HOUSE)
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
) -> None:
    """Free what no commit, no experiment and nothing here refers to: in DVC's cache, and of deleted MLflow runs."""
    from flowers import cleaning

    cleaning.run(lambda: not dry_run and (yes or typer.confirm("Remove it for good?")))


@app.command(rich_help_panel=HOUSE)
def project(
    stage: Annotated[str, typer.Argument(help="main (the whole pipeline), or the stage to bring up to date.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="section_key=value ...; an empty value changes nothing.")
    ] = None,
) -> None:
    """Run the pipeline as MLproject's entry points do, with parameters from `mlflow run -P`."""
    from flowers import mlproject

    raise typer.Exit(mlproject.run(stage, values or []))
