"""The Typer application of all commands, and the headings of `flowers --help`."""

from typing import Annotated

import typer

STAGES = "Pipeline stages"
EXPERIMENTS = "Experiments"
INFERENCE = "Inference"
MAINTENANCE = "Maintenance"

app = typer.Typer(
    name="flowers",
    help="Train a Keras ResNet50 to recognise flowers. `dvc repro` runs the pipeline with the values of params.yaml.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")] = False,
) -> None:
    """Options of every command."""
