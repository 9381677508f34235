"""The command `flowers check`."""

import numpy as np

from flowers import console, paths
from flowers.checking import findings, report
from flowers.datasets import duplicates
from flowers.errors import UserError
from flowers.network import activations, fitting, photos
from flowers.network.trunk import Cut, best_precision
from flowers.reporting import document, thumbnails


def check(precision: str, with_test: bool) -> None:
    """Check what download and split made: a summary on standard output, build/check.html and build/doubtful.csv.

    Raises UserError where their outputs are missing or do not belong together.
    """
    everything = photos.read("train", "val", "test")
    pictures = _pictures(everything)
    found = findings.find(everything, pictures, _features(everything, precision), with_test)
    try:
        report.table(found).to_csv(paths.DOUBTFUL, index=False, float_format="%.4f", lineterminator="\n")
        paths.CHECK_PAGE.write_text(document.html(report.page(found, thumbnails.of)), encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written ({error.strerror})") from None
    from rich.console import Console

    document.show(report.summary(found), Console())
    console.say(f"The pictures: {paths.CHECK_PAGE}; every label in doubt: {paths.DOUBTFUL}")


def _pictures(chosen: photos.Photos) -> list[str]:
    """The picture that each photo shows, by a name."""
    columns = ("pixels", "phash", "mirrored_phash")
    if lost := [name for name in columns if name not in chosen.table]:
        raise UserError(f"{paths.IMAGE_LIST}: column '{lost[0]}' is missing; make the list anew: dvc repro -f download")
    return duplicates.pictures(*(chosen.table[name].tolist() for name in columns))


def _features(chosen: photos.Photos, precision: str) -> np.ndarray:
    """The trunk's pooled features, float32 (n, 2048), out of the store that a training fills, too."""
    precision = best_precision() if precision == "auto" else precision
    found = activations.stored(chosen.plain(), [Cut(0)], fitting.read_weights(), precision)
    return found[Cut(0)][:]
