"""The confusions of two results beside each other: which became rarer or more frequent, and both matrices."""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from flowers.metrics import classification
from flowers.reporting import figures
from flowers.reporting.document import Part, Picture, Section, Table
from flowers.runs.predictions import Predictions

PAIRS = 10  # listed
_MARGIN = 48  # pixels


def section(first: Predictions, other: Predictions, drawn: bool) -> Section:
    """The pairs of classes whose confusions changed most and, if `drawn`, a picture of both matrices.

    Of a group the counts are means over its trainings.
    """
    counted = [_counts(each) for each in (first, other)]
    one, two = (each.to_numpy() / len(of.trainings) for each, of in zip(counted, (first, other), strict=True))
    pairs = [(label, predicted) for label, predicted in np.argwhere(one != two) if label != predicted]
    rows = []
    for label, predicted in sorted(pairs, key=lambda pair: -abs(two[*pair] - one[*pair]))[:PAIRS]:
        before, now = one[label, predicted], two[label, predicted]
        name = f"{first.classes[label]} \N{RIGHTWARDS ARROW} {first.classes[predicted]}"
        rows.append([name, f"{round(before, 1):g}", f"{round(now, 1):g}", f"{now - before:+.3g}"])
    parts: list[Part] = [Table(["true \N{RIGHTWARDS ARROW} predicted", first.name, other.name, "change"], rows)]
    if not rows:
        parts = ["No two classes are confused more often or less."]
    if drawn:
        names = first.name, other.name
        parts.append(Picture(_beside(names, counted), f"Confusion matrices: {' and '.join(names)}"))
    return Section("Confusions that changed", parts, detail=True)


def _counts(result: Predictions) -> pd.DataFrame:
    """The confusion matrix, summed over the trainings of a group."""
    predicted = np.concatenate([each.argmax(axis=1) for each in result.trainings])
    return classification.confusion(np.tile(result.labels, len(result.trainings)), predicted, result.classes)


def _beside(names: Sequence[str], matrices: Sequence[pd.DataFrame]) -> bytes:
    """A PNG of the matrices, each under its name."""
    drawn = [_picture(matrix) for matrix in matrices]
    widths = [image.width + _MARGIN for image in drawn]
    whole = Image.new("RGB", (sum(widths), max(image.height for image in drawn) + _MARGIN), "white")
    for name, image, left in zip(names, drawn, (0, widths[0]), strict=True):
        whole.paste(image, (left, _MARGIN))
        ImageDraw.Draw(whole).text((left + _MARGIN / 2, _MARGIN / 2), figures.shortened(name), "black", font_size=26)
    content = io.BytesIO()
    whole.save(content, "PNG")
    return content.getvalue()


def _picture(matrix: pd.DataFrame) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "confusion.png")
        figures.confusion(matrix, file)
        with Image.open(file) as image:
            return image.convert("RGB")
