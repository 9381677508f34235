"""Commands that put a trained model to work."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flowers.cli.app import WORK, app


@app.command(rich_help_panel=WORK)
def predict(
    photos: Annotated[
        list[str], typer.Argument(help="Photos, folders of photos, or - for one photo on standard input.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="REFERENCE", help="A run's name, id or alias, or a model's folder (the champion, else build/model)."
        ),
    ] = None,
    format: Annotated[
        Literal["table", "csv", "jsonl"] | None,
        typer.Option(help="How answers are printed (on a terminal as a table, else as CSV)."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Less probable answers are unsure (the model's own).", min=0, max=1)
    ] = None,
    every_class: Annotated[
        bool, typer.Option("--every-class", help="The probabilities of all classes, too (CSV and JSON lines).")
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write pictures there of what speaks for each answer (Grad-CAM)."),
    ] = None,
) -> None:
    """Name the flowers on photos (status 1: some could not be read)."""
    if photos.count("-") > 1:
        raise typer.BadParameter("standard input (-) holds one photo", param_hint="PHOTOS")
    import gc

    from flowers import params
    from flowers.serving import predict as serving

    options = serving.Options(model, format, threshold, every_class, explain)
    status = serving.predict(photos, options, params.load())
    gc.freeze()  # else Python looks through all of TensorFlow for garbage before it ends, which takes a second
    raise typer.Exit(status)


@app.command(rich_help_panel=WORK)
def export(
    file: Annotated[Path, typer.Argument(help="Where to write it; the name ends in .keras.")],
) -> None:
    """Write the trained model as one .keras file that takes raw uint8 images (n, 224, 224, 3)."""
    from flowers import paths
    from flowers.network import classifier

    classifier.export(paths.MODEL, paths.WEIGHTS, file)
