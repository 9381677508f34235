"""Commands that put a trained model to work."""

from pathlib import Path
from typing import Annotated

import typer

from flowers.cli.app import WORK, app


@app.command(rich_help_panel=WORK)
def export(
    to: Annotated[Path, typer.Argument(help="A file whose name ends in .keras; with --openvino a new folder.")],
    openvino: Annotated[
        bool, typer.Option("--openvino", help="Write int8 for OpenVINO on a CPU; it is checked on validation photos.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="With --openvino: a run's name, id or alias, or a folder (the model trained last)."),
    ] = None,
) -> None:
    """Write the trained model as one .keras file that takes raw uint8 images (n, 224, 224, 3), or for OpenVINO."""
    from flowers import params, paths
    from flowers.errors import UserError
    from flowers.network import classifier

    if not openvino:
        if model is not None:
            raise UserError("--model goes with --openvino alone; a .keras file is of the model that was trained last")
        classifier.export(paths.MODEL, paths.WEIGHTS, to)
        return
    from flowers.serving import models, openvino_export

    chosen = (
        models.Chosen(models.load(paths.MODEL), str(paths.MODEL))
        if model is None
        else models.choose(model, params.load())
    )
    openvino_export.export(chosen.model, chosen.name, to)
