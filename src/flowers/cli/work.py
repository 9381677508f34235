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
