"""The Typer application of all commands, and the headings of `flowers --help`."""

from typing import Annotated

import typer

STAGES = "Pipeline stages"
EXPERIMENTS = "Experiments"
INFERENCE = "Inference"
MAINTENANCE = "Maintenance"

# Arguments and options of several commands.
Run = Annotated[str, typer.Argument(help="A run's name, id or alias.")]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="REFERENCE",
        help="A run's name, id or alias, a model's folder, or an exported file (the champion, else build/model).",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(help="Less probable predictions have low confidence (default: the model's own).", min=0, max=1),
]
EveryClass = Annotated[
    bool, typer.Option("--every-class", help="Add each class's probability (not to a printed table).")
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)]
Overwrite = Annotated[bool, typer.Option("--force", help="Overwrite values that no commit holds.")]

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
