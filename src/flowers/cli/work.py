"""Commands that put a trained model to work."""

from pathlib import Path
from typing import Annotated

import typer

from flowers.cli.app import WORK, app


@app.command(rich_help_panel=WORK)
def export(
    file: Annotated[Path, typer.Argument(help="Where to write it; the name ends in .keras.")],
) -> None:
    """Write the trained model as one .keras file that takes raw uint8 images (n, 224, 224, 3)."""
    from flowers import paths
    from flowers.network import classifier

    classifier.export(paths.MODEL, paths.WEIGHTS, file)


@app.command(rich_help_panel=WORK)
def serve(
    model: Annotated[
        str | None,
        typer.Option(metavar="REFERENCE", help="A run's name, id or alias, or a model's folder (else the champion)."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
) -> None:
    """Answer photos over HTTP, in MLflow's protocol, too; /docs shows how to ask."""
    from flowers import params
    from flowers.serving.http import server

    server.serve(params.load(), model, host, port)
