"""Asking a model about photos on the command line."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowers.common import console
from flowers.serving import explain, models, results, rows, sources, stream


@dataclass(frozen=True)
class Options:
    """How photos are asked about: see `flowers predict --help`; None is the usual way."""

    model: str | None = None
    format: rows.Format | None = None
    threshold: float | None = None
    every_class: bool = False
    explain: Path | None = None


def predict(names: Sequence[str], options: Options, settings: models.Settings) -> int:
    """Print what a model says of the photos that `names` stand for (see sources.Photos), batch by batch.

    Returns the exit status: 1 where one of them could not be read. Raises UserError where there is no such model, or
    pictures of explanations have no place.
    """
    pictures = explain.Folder(options.explain) if options.explain else None
    chosen = models.choose(options.model, settings)
    if pictures:
        explain.check(chosen.model)
    console.say(f"Asking {chosen.name}")
    classes = chosen.model.classes
    threshold = chosen.model.threshold if options.threshold is None else options.threshold
    write = rows.writer(options.format or _usual_format(), classes, options.every_class)
    photos = sources.Photos(names)
    asked = unreadable = 0
    # To count what is below folders takes a while where there is much of it: only for somebody who looks on.
    total = photos.count() if sys.stderr.isatty() else None
    with (
        console.progress_bar(total, "predict", "photos") as bar,
        contextlib.closing(stream.batches(chosen.model, photos, sources.read)) as batches,
    ):
        for batch in batches:
            said = results.answers(classes, batch.probabilities, threshold)
            each = zip(batch.items, said, batch.probabilities, batch.errors, strict=True)
            bar.clear()  # it may stand where the rows are to come
            write([rows.Row(photo.path, *rest) for photo, *rest in each])
            bar.update(len(batch.items))
            if pictures:
                _explain(chosen.model, batch, pictures)
            asked += len(batch.items)
            unreadable += sum(error is not None for error in batch.errors)
    if photos.left_out:
        console.say(f"{_files(photos.left_out)} left out: the name does not end as an image's does")
    if pictures:
        console.say(f"Pictures of what spoke for the answers are in {options.explain}")
    if unreadable:
        console.warn(f"{unreadable:,} of {asked:,} could not be read")
    return int(unreadable > 0)


def _usual_format() -> rows.Format:
    return "table" if sys.stdout.isatty() else "csv"


def _explain(model: stream.Model, batch: stream.Batch[sources.Photo], pictures: explain.Folder) -> None:
    for photo, pixels, probabilities in zip(batch.items, batch.pixels, batch.probabilities, strict=True):
        if pixels is not None:
            pictures.add(photo.place, explain.picture(model, pixels, int(np.argmax(probabilities))))


def _files(number: int) -> str:
    return "1 file was" if number == 1 else f"{number:,} files were"
