"""The stages of the pipeline as commands."""

from typing import Annotated

import typer

from flowers.cli.app import STAGES, app


@app.command(rich_help_panel=STAGES)
def download() -> None:
    """Download, verify and list the images and the ImageNet weights."""
    from flowers.config import params
    from flowers.stages import download as stage

    settings = params.load()
    stage.run(settings.dataset, settings.model.weights)


@app.command(rich_help_panel=STAGES)
def split() -> None:
    """Split the images into train, val and test."""
    from flowers.config import params
    from flowers.stages import split as stage

    stage.run(params.load().split)


@app.command(rich_help_panel=STAGES)
def train() -> None:
    """Train the head and the unfrozen blocks; each epoch is logged to MLflow."""
    from flowers import tracking
    from flowers.common import paths
    from flowers.config import params
    from flowers.stages import train as stage
    from flowers.tracking import run_key
    from flowers.training.checkpoint import Checkpoint

    settings = params.load()
    checkpoint = Checkpoint(paths.CHECKPOINT, run_key.compute(settings).key)
    with tracking.live_run(settings) as on_epoch:
        stage.run(settings.model, settings.head, settings.augmentation, settings.train, on_epoch, checkpoint)


@app.command(rich_help_panel=STAGES)
def evaluate() -> None:
    """Score the model on the test images, and write tables, figures and a report."""
    from flowers.config import params
    from flowers.stages import evaluate as stage

    stage.run(params.load().evaluate)


@app.command(rich_help_panel=STAGES)
def track(
    force: Annotated[
        bool, typer.Option("--force", help="Publish again, for example to a server that was unreachable.")
    ] = False,
) -> None:
    """Publish the result to MLflow."""
    from flowers.config import params
    from flowers.stages import track as stage

    stage.run(params.load(), force)
