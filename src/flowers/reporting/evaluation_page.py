"""The page on one evaluation: scores, confusions, errors, calibration, and accuracy by groups of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.data import images
from flowers.metrics import classification, confusions, slices
from flowers.metrics.classification import Labels, Probabilities
from flowers.reporting import measures, thumbnails
from flowers.reporting.document import Card, Document, Gallery, Part, Picture, Section, Table
from flowers.training.subsets import Subset

PAIRS, IMAGES_OF_A_PAIR = 6, 4
LOWEST = 3  # classes of low recall in the first lines
NEAR_ONE = 0.05  # a temperature this near to 1 changes nothing
FOLDED_FROM = 21  # classes


@dataclass(frozen=True)
class Tested:
    """The test images, their probabilities (n, c) and brightness (n,), and the training images of each class (c,)."""

    images: Subset
    probabilities: Probabilities
    brightness: NDArray[np.float64]  # 0 ... 1
    training_images: NDArray[np.int64]


@dataclass(frozen=True)
class Written:
    """The other results of the stage; `pictures` are its figures, PNG, by name: curves, confusion, ..."""

    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    resamples: int
    calibration: Mapping[str, float | bool | None]
    unknown: Mapping[str, Any]  # the content of novelty.json; empty for a model that cannot tell unknown images
    pictures: Mapping[str, bytes]


def shown(labels: Labels, probabilities: Probabilities, gallery: int) -> tuple[list[int], set[int]]:
    """The rows of the `gallery` most confident errors, and of all images that the page shows."""
    surest = confusions.surest(labels, probabilities)[:gallery].tolist()
    pairs = confusions.pairs(labels, probabilities)[:PAIRS]
    return surest, {*surest, *(row for pair in pairs for row in pair.rows[:IMAGES_OF_A_PAIR].tolist())}


def document(
    tested: Tested, written: Written, pixels: Mapping[int, np.ndarray], heat: Mapping[int, np.ndarray]
) -> Document:
    """The page. `pixels` are those of the rows that `shown` names, `heat` the Grad-CAM of its most confident errors."""
    table = classification.per_class(tested.images.labels, tested.probabilities.argmax(axis=1), tested.images.classes)
    pairs = confusions.pairs(tested.images.labels, tested.probabilities)
    sections = [
        _scores(written),
        Section("Training", [Picture(written.pictures["curves"], "loss and accuracy of each epoch", "curves.png")]),
        _confusion(tested, written, pairs, pixels),
        *([_surest(tested, pixels, heat)] if heat else []),
        _classes(table, written),
        _calibration(written),
        _unknown(written),
        _slices(tested),
    ]
    images = measures.count(len(tested.images), "test image")
    classes = measures.count(len(tested.images.classes), "class", "classes")
    return Document(f"Evaluation on {images} of {classes}", _lead(tested, written, table, pairs), sections)


def _lead(tested: Tested, written: Written, table: pd.DataFrame, pairs: Sequence[confusions.Pair]) -> list[str]:
    scores, (low, high) = written.scores, written.intervals["accuracy"]
    accuracy = (
        f"Accuracy: {_share(scores['accuracy'])} (95\u00a0% interval {_share(low)} – {_share(high)}). "
        f"Mean per-class accuracy: {_share(scores['mean_per_class_accuracy'])}."
    )
    if not pairs:
        return [accuracy, "All images are classified correctly."]
    missed = table[table["correct"] < table["photos"]].sort_values(["recall", "photos"], ascending=[True, False])
    lowest = [f"{row['class']} ({row['correct']} of {row['photos']})" for _, row in missed.head(LOWEST).iterrows()]
    worst, classes = pairs[0], tested.images.classes
    pair = f"{classes[worst.label]} predicted as {classes[worst.predicted]} ({len(worst.rows)} times)"
    most = f" Most frequent confusion: {pair}." if len(worst.rows) > 1 else ""
    return [accuracy, f"Lowest recall: {', '.join(lowest)}.{most}"]


def _scores(written: Written) -> Section:
    text = (
        f"The intervals come from {written.resamples:,} resamples of the images of each class. They are for this one "
        "model on other images of the same kind; another training may differ by more."
    )
    return Section("Scores", [measures.table(written.scores, written.intervals), text])


def _confusion(
    tested: Tested, written: Written, pairs: Sequence[confusions.Pair], pixels: Mapping[int, np.ndarray]
) -> Section:
    alt = "images by true and by predicted class"
    parts: list[Part] = [Picture(written.pictures["confusion"], alt, "confusion.png")]
    if not pairs:
        return Section("Confusions", [*parts, "No image is predicted as another class."])
    total = np.bincount(tested.images.labels).tolist()
    for pair in pairs[:PAIRS]:
        label, predicted = tested.images.classes[pair.label], tested.images.classes[pair.predicted]
        cards = [
            Card(
                images.jpeg(pixels[row]),
                [f"probability {_share(tested.probabilities[row].max())}", tested.images.table["path"][row]],
            )
            for row in pair.rows[:IMAGES_OF_A_PAIR].tolist()
        ]
        title = f"{label} predicted as {predicted}: {len(pair.rows)} of {measures.count(total[pair.label], 'image')}"
        parts.append(Gallery(cards, title))
    return Section("Confusions", parts)


def _surest(tested: Tested, pixels: Mapping[int, np.ndarray], heat: Mapping[int, np.ndarray]) -> Section:
    cards = []
    for row, places in heat.items():
        label, predicted = int(tested.images.labels[row]), int(tested.probabilities[row].argmax())
        wrong, right = tested.probabilities[row][[predicted, label]].tolist()
        lines = [
            tested.images.classes[label],
            f"predicted {tested.images.classes[predicted]}, {_share(wrong)}; {_share(right)} for the true class",
            tested.images.table["path"][row],
        ]
        overlay = images.jpeg(thumbnails.overlay(pixels[row], places))
        cards.append(Card(images.jpeg(pixels[row]), lines, "bad", beside=overlay))
    text = (
        "The errors with the highest probability; wrong labels often appear here. The overlay shows the regions that "
        "support the predicted class, brighter for more support (Grad-CAM, arXiv 1610.02391)."
    )
    return Section("Most confident errors", [text, Gallery(cards)])


def _classes(table: pd.DataFrame, written: Written) -> Section:
    rows = [
        [
            row["class"],
            *(str(row[name]) for name in ("photos", "correct")),
            *("–" if np.isnan(row[name]) else _share(row[name]) for name in ("recall", "precision", "f1")),
            f"{row['confused_with']} ({row['confused']})" if row["confused"] else "–",
        ]
        for _, row in table.sort_values(["recall", "class"]).iterrows()
    ]
    header = ["class", "images", "correct", "recall", "precision", "F1", "most frequent confusion"]
    picture = Picture(written.pictures["per_class"], "recall of each class", "per_class.png")
    return Section("Classes", [Table(header, rows, folded=len(rows) >= FOLDED_FROM), picture])


def _calibration(written: Written) -> Section:
    found = written.calibration
    error = _share(float(found["expected_calibration_error"] or 0))
    parts: list[Part] = [
        "Of the predictions with a probability of 80 %, 80 % should be correct. The expected calibration error is the "
        f"mean difference between probability and accuracy: {error}."
    ]
    if found["validation_held_out"]:
        temperature = float(found["temperature"] or 1)
        before = _share(float(found["expected_calibration_error_without_temperature"] or 0))
        if abs(temperature - 1) < NEAR_ONE:
            kind = "well calibrated"
        else:
            kind = "overconfident" if temperature > 1 else "underconfident"
        parts.append(
            f"As trained, the error was {before} and the model was {kind}. All logits are divided by a temperature of "
            f"{temperature:.2f}, fitted on the validation images; this changes probabilities and no predicted class."
        )
        parts.append(_confident(found))
    else:
        parts.append("No temperature was fitted: the validation images were used for training.")
    return Section("Calibration", [*parts, Picture(written.pictures["reliability"], "reliability", "reliability.png")])


def _confident(found: Mapping[str, float | bool | None]) -> str:
    if not found["sure"]:
        return "All test predictions have low confidence: no threshold was reliable on the validation images."
    return (
        f"Predictions below {_share(float(found['threshold'] or 0))} have low confidence; this threshold was chosen on "
        f"the validation images. {_share(float(found['sure']))} of the test predictions are above it, and "
        f"{_share(float(found['sure_accuracy'] or 0))} of those are correct."
    )


def _unknown(written: Written) -> Section:
    found = written.unknown
    if not found:
        return Section("Unknown images", ["The model cannot tell images of unknown classes: training warned of it."])
    parts: list[Part] = [
        f"{_share(found['kept'])} of the test images count as known. The novelty of an image compares the likelihood "
        "of its features under the known classes with that of a class never seen; above 0 it counts as unknown."
    ]
    rows = []
    if left_out := found["test_class_left_out"]:
        rows.append(["test images of a class that is left out of the detector, mean of classes", *_told(left_out)])
    if unknown := found.get("unknown"):
        images = measures.count(unknown["images"], "image")
        rows.append([f"{images} of evaluate.unknown_path", *_told(unknown)])
        parts.append(
            f"{_share(unknown['refused'])} of the images of evaluate.unknown_path count as unknown. The largest "
            f"probability alone would tell them with an AUROC of {unknown['auroc_of_probability']:.3f}."
        )
    if rows:
        parts.append(Table(["unknown images", "AUROC", "accepted if 95 % of known ones are"], rows))
    if found["test_class_left_out"]:
        parts.append(
            "The principal components are those of all classes, so new classes are harder to recognise than these."
        )
    return Section("Unknown images", [*parts, Picture(written.pictures["novelty"], "novelty", "novelty.png")])


def _told(scores: Mapping[str, float]) -> list[str]:
    return [f"{scores['auroc']:.3f}", _share(scores["fpr95"])]


def _slices(tested: Tested) -> Section:
    right = tested.probabilities.argmax(axis=1) == tested.images.labels
    short_side = tested.images.table[["width", "height"]].astype(int).min(axis=1).to_numpy()
    parts: list[Part] = []
    for name, values, scale, unit in (
        ("training images of the class", tested.training_images[tested.images.labels], 1, ""),
        ("brightness", tested.brightness, 100, "\u00a0%"),
        ("short side in pixels", short_side, 1, ""),
    ):
        found = slices.accuracy(values, right)
        if len(found) == 1:
            parts.append(f"{name.capitalize()}: {_span(found.iloc[0], scale, unit)} for every image.")
            continue
        rows = [
            [
                _span(row, scale, unit),
                f"{int(row['photos']):,}",
                _share(row["accuracy"]),
                f"{_share(row['accuracy_low'])} – {_share(row['accuracy_high'])}",
            ]
            for _, row in found.iterrows()
        ]
        parts.append(Table([name, "images", "accuracy", "95 % interval"], rows))
    text = "Groups of about equally many images. Brightness is the mean luma of the network's input."
    return Section("Accuracy by group", [*parts, text])


def _span(row: pd.Series, scale: float, unit: str) -> str:
    low, high = (f"{scale * row[end]:.0f}" for end in ("low", "high"))
    return f"{low}{unit}" if low == high else f"{low} – {high}{unit}"


def _share(value: float) -> str:
    return f"{100 * value:.1f}\u00a0%"  # a non-breaking space
