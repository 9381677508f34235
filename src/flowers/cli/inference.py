"""Commands for inference with a trained model."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flowers.cli.app import INFERENCE, EveryClass, Host, Model, Port, Threshold, app
from flowers.serving.export.names import Name


@app.command(rich_help_panel=INFERENCE)
def predict(
    images: Annotated[
        list[str], typer.Argument(help="Images, folders of images, or - for one image on standard input.")
    ],
    model: Model = None,
    format: Annotated[
        Literal["table", "csv", "jsonl"] | None,
        typer.Option(help="Form of the output (default: a table on a terminal, else CSV)."),
    ] = None,
    threshold: Threshold = None,
    every_class: EveryClass = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write an overlay of the supporting regions of each image (Grad-CAM) there."
        ),
    ] = None,
) -> None:
    """Name the flowers on images (exit status 1: some could not be read)."""
    if images.count("-") > 1:
        raise typer.BadParameter("standard input (-) holds one image", param_hint="IMAGES")
    from flowers.config import params
    from flowers.serving import predict as serving

    options = serving.Options(model, format, threshold, every_class, explain)
    raise typer.Exit(serving.predict(images, options, params.load))


@app.command(rich_help_panel=INFERENCE)
def serve(
    model: Model = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    examples: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Images, <class>/<file>; the page offers ten of them as examples."),
    ] = None,
) -> None:
    """Serve predictions over HTTP: a web page, POST /predict and POST /explain (described at /openapi.json)."""
    from flowers.config import params
    from flowers.model import backend
    from flowers.serving.http import server

    backend.freeze_weights()  # here, where the process is this command's own
    server.serve(params.load, model, host, port, examples)


@app.command(rich_help_panel=INFERENCE)
def score(
    input: Annotated[
        str, typer.Option(help="A folder of images, or s3://...; with Spark on any Hadoop file system (s3a://...).")
    ],
    output: Annotated[str, typer.Option(help="A new folder for the predictions, or one to continue.")],
    engine: Annotated[Literal["local", "spark"], typer.Option(help="This machine, or Spark.")] = "local",
    model: Model = None,
    every_class: EveryClass = False,
    threshold: Threshold = None,
    master: Annotated[
        str | None, typer.Option(help="Spark's: local[2], spark://..., yarn, k8s://... (its configuration's).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Remove the predictions in --output; begin anew.")] = False,
) -> None:
    """Write predictions for any number of images to Parquet; a second run continues where the first one was killed."""
    from flowers.config import params
    from flowers.serving.scoring import run

    request = run.Request(input, output, engine, model, every_class, threshold, master, force)
    run.score(params.load, request)


@app.command(rich_help_panel=INFERENCE)
def export(
    format: Annotated[Name, typer.Argument(help="The format, and its precision where that is not float32.")],
    dest: Annotated[Path | None, typer.Argument(help="A new folder (build/exports/FORMAT).")] = None,
    model: Annotated[str, typer.Option(help="A run's name, id or alias, or a model's folder.")] = "build/model",
) -> None:
    """Write the trained model in another format, if it predicts as the model does on the validation images."""
    from flowers.config import params
    from flowers.serving.export import run

    run.export(format, dest, model, params.load)
