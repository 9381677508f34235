"""`flowers predict`: predictions for images on the command line."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowers.common import console, paths
from flowers.serving import explain, models, results, rows, sources, stream


@dataclass(frozen=True)
class Options:
    """See `flowers predict --help`; None is the default described there."""

    model: str | None = None
    format: rows.Format | None = None
    threshold: float | None = None
    every_class: bool = False
    explain: Path | None = None


def predict(names: Sequence[str], options: Options, settings: models.Settings) -> int:
    """Print predictions for the images that `names` stand for; returns 1 if one could not be read. Raises UserError."""
    if options.explain:
        paths.require_empty(options.explain)
    model, name = models.choose(options.model, settings)
    if options.explain:
        explain.check(model)
    console.say(f"Model: {name}")
    classes = model.classes
    threshold = model.threshold if options.threshold is None else options.threshold
    form = options.format or ("table" if sys.stdout.isatty() else "csv")
    write = rows.writer(form, classes, options.every_class)
    images = sources.Images(names)
    predicted = unreadable = 0
    # Counting large folders takes a while, so only a terminal, where the bar is visible, gets a total.
    total = images.count() if sys.stderr.isatty() else None
    with (
        console.progress_bar(total, "predict", "images") as bar,
        contextlib.closing(stream.batches(model, images, sources.read)) as batches,
    ):
        for batch in batches:
            found = results.predictions(classes, batch.predicted, threshold)
            probabilities = batch.predicted.probabilities
            each = zip(batch.items, found, probabilities, batch.errors, strict=True)
            bar.clear()  # the rows are printed in its place
            write([rows.Row(image.path, *rest) for image, *rest in each])
            bar.update(len(batch.items))
            for image, pixels, row in zip(batch.items, batch.pixels, probabilities, strict=True):
                if options.explain and pixels is not None:
                    explanation = explain.overlay(model, pixels, int(np.argmax(row)))
                    explain.save(options.explain, image.place, explanation)
            predicted += len(batch.items)
            unreadable += sum(error is not None for error in batch.errors)
    images.report_skipped()
    if options.explain:
        console.say(f"Explanations (Grad-CAM) are in {options.explain}")
    if unreadable:
        console.warn(f"{unreadable:,} of {predicted:,} could not be read")
    return int(unreadable > 0)
