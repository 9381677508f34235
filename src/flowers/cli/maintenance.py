"""Commands around the pipeline: the cache, and the entry points of MLproject."""

from typing import Annotated, Literal

import typer

from flowers.cli.app import MAINTENANCE, app


@app.command(rich_help_panel=MAINTENANCE)
def cache(
    clear: Annotated[
        Literal["activations", "archives", "weights", "all"] | None,
        typer.Option(help="Remove these (archives include those that you put there)."),
    ] = None,
) -> None:
    """Show the size of your cache folder, or clear it: archives, weights and activations of all your clones."""
    from flowers.common import cache as user_cache

    user_cache.show() if clear is None else user_cache.clear(clear)


@app.command(rich_help_panel=MAINTENANCE)
def project(
    stage: Annotated[str, typer.Argument(help="main (the whole pipeline), or the stage to run.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="section_key=value ...; an empty value changes nothing.")
    ] = None,
) -> None:
    """Run the pipeline as the entry points of MLproject do, with parameters from `mlflow run -P`."""
    from flowers.runs import mlproject

    raise typer.Exit(mlproject.run(stage, values or []))
