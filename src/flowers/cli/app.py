"""The program that all commands belong to, and their headings in `flowers --help`."""

from typing import Annotated

import typer

STAGES, EXPERIMENTS, INFERENCE, MAINTENANCE = (
    "Stages, as dvc.yaml runs them",
    "Experiments",
    "Inference",
    "Maintenance",
)

app = typer.Typer(
    name="flowers",
    help="Teach a Keras ResNet50 to recognise flowers. `dvc repro` runs the pipeline that params.yaml describes.",
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
