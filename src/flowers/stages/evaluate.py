"""The stage `evaluate`: score the test images once, and write scores, tables, figures and a page with all of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config.params import EvaluateParams
from flowers.metrics import bootstrap, calibration, classification
from flowers.model import backend, classifier, gradcam
from flowers.reporting import brightness, curves, document, evaluation_page, figures, histogram, reliability
from flowers.training import activation_cache, checkpoint, subsets, trained, unknown

JOINED_IMAGES = 32
TRAINED_ON_IMAGES = 32  # of val, if it was trained on: not for scores, but promote compares a logged model with some
# What is in git is rounded, so that it is equal on most processors, and a clone's `git diff` stays empty.
DIGITS = {"log_loss": 3, "loss": 2, "val_loss": 2, "accuracy": 4, "val_accuracy": 4}
JOINED_TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "int8": 2e-2}  # largest difference of a probability


def run(evaluate: EvaluateParams) -> None:
    """Run the stage. Raises UserError if predictions from image files and from cached activations differ."""
    backend.make_deterministic(evaluate.seed)
    model = classifier.load(paths.MODEL, paths.WEIGHTS)
    shape, foreign = model.description, []
    if evaluate.unknown_path is not None:
        foreign = unknown.items(Path(evaluate.unknown_path), shape.size, shape.mirror)
    history = _history()
    checkpoint.remove(paths.CHECKPOINT)  # DVC has the trained model before it runs this stage
    test, val = subsets.read("test"), subsets.read("val")
    held_out = bool(history["val_loss"].notna().any())
    val = val if held_out else val.first(TRAINED_ON_IMAGES)
    if test.classes != model.classes:
        raise UserError(f"{paths.MODEL}: the classes of the model differ from those of {paths.SPLIT}; run `dvc repro`")
    (probabilities, features), (val_probabilities, val_features) = (
        trained.predicted(model, images.with_flips(model.description.mirror, model.size)) for images in (test, val)
    )
    _check_joined(model, test, probabilities)
    surest, shown = evaluation_page.shown(test.labels, probabilities, evaluate.gallery)
    luma, pixels = brightness.measure(test.plain(model.size), shown)
    predicted = probabilities[surest].argmax(axis=1) if surest else np.empty(0, int)
    heat = dict(zip(surest, gradcam.maps(model, [pixels[row] for row in surest], predicted), strict=True))

    shutil.rmtree(paths.EVALUATION, ignore_errors=True)
    paths.EVALUATION.mkdir(parents=True)
    scores = classification.scores(test.labels, probabilities)
    intervals = bootstrap.intervals(test.labels, probabilities, evaluate.bootstrap_samples, evaluate.seed)
    _write_json(paths.METRICS, rounded(scores))
    _write_json(paths.INTERVALS, {name: list(interval) for name, interval in intervals.items()})
    trained.write_predictions(paths.PREDICTIONS, test, probabilities)
    labels = [test.classes[number] for number in probabilities.argmax(axis=1)]
    test.table[["path", "label"]].assign(predicted=labels).to_csv(paths.LABELS, index=False)
    history[["epoch", "accuracy", "val_accuracy", "loss", "val_loss"]].round(DIGITS).to_csv(paths.CURVES, index=False)
    trained.write_predictions(paths.VALIDATION, val, val_probabilities)
    _write_tables(test, probabilities)
    as_trained = calibration.scaled(probabilities, 1 / model.description.temperature)
    calibrated = _calibration(test, probabilities, as_trained, model.description, held_out)
    _write_json(paths.CALIBRATION, calibrated)
    _draw_reliability(test, probabilities, as_trained, model.description.temperature, held_out)
    del as_trained
    curves.draw(history, paths.CURVES_PICTURE)

    trained_on = subsets.read("train", *(() if held_out else ("val",)))
    unknown_report, novelty = unknown.report(
        model,
        trained_on,
        {"test": (test.labels, features)} | ({"validation": (val.labels, val_features)} if held_out else {}),
        probabilities,
        foreign,
    )
    _write_json(paths.NOVELTY, unknown_report)
    histogram.draw(novelty, paths.NOVELTY_PICTURE)
    training_images = np.bincount(trained_on.labels, minlength=len(test.classes))
    tested = evaluation_page.Tested(test, probabilities, luma, training_images)
    pictures = {path.stem: path.read_bytes() for path in paths.EVALUATION.glob("*.png")}
    written = evaluation_page.Written(
        scores, intervals, evaluate.bootstrap_samples, calibrated, unknown_report, pictures
    )
    page = evaluation_page.document(tested, written, pixels, heat)
    paths.REPORT.write_text(document.html(page), encoding="utf-8")
    console.say(f"Accuracy on {len(test)} test images: {console.percent(scores['accuracy'])}")


def rounded(scores: dict[str, float]) -> dict[str, float]:
    """The scores as metrics.json holds them."""
    return {name: round(value, DIGITS.get(name, 4)) for name, value in scores.items()}


def _history() -> pd.DataFrame:
    try:
        history = pd.read_csv(paths.HISTORY)
        return history.astype(dict.fromkeys(["accuracy", "val_accuracy", "loss", "val_loss"], float))
    except FileNotFoundError:
        raise UserError(f"{paths.HISTORY}: no such file; run `dvc repro` to train a model") from None
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{paths.HISTORY}: damaged ({reason}); run `dvc repro` to train the model again") from None


def _check_joined(model: classifier.Classifier, test: subsets.Subset, probabilities: np.ndarray) -> None:
    """Compare predictions of the whole model from image files with those from cached activations."""
    rows = np.linspace(0, len(test) - 1, min(JOINED_IMAGES, len(test))).astype(int)
    items = test.plain(model.size)
    pixels = np.stack([activation_cache.pixels(items[row]) for row in rows])
    difference = float(np.abs(model.probabilities(pixels) - probabilities[rows]).max())
    tolerance = JOINED_TOLERANCE[model.description.precision]
    if difference > tolerance:
        raise UserError(
            f"Predictions from image files and from cached activations differ by {difference:.2g} in a probability "
            f"(rounding: at most {tolerance:g}). Run `flowers cache --clear activations` and `dvc repro`."
        )


def _calibration(
    test: subsets.Subset,
    probabilities: np.ndarray,
    as_trained: np.ndarray,
    model: classifier.Description,
    held_out: bool,
) -> dict[str, float | bool | None]:
    error = calibration.expected_calibration_error
    found: dict[str, float | bool | None] = {
        "validation_held_out": held_out,
        "temperature": model.temperature,
        "expected_calibration_error": error(test.labels, probabilities),
        "expected_calibration_error_without_temperature": error(test.labels, as_trained),
        "threshold": model.threshold,
    }
    if model.threshold is not None:
        sure = (probabilities.max(axis=1) >= model.threshold) & (model.threshold < 1)
        right = probabilities.argmax(axis=1) == test.labels
        found |= {"sure": float(sure.mean()), "sure_accuracy": float(right[sure].mean()) if sure.any() else None}
    return found


def _write_tables(test: subsets.Subset, probabilities: np.ndarray) -> None:
    predicted = probabilities.argmax(axis=1)
    per_class = classification.per_class(test.labels, predicted, test.classes)
    per_class.to_csv(paths.PER_CLASS, index=False, float_format="%.6g")
    figures.per_class(per_class, paths.PER_CLASS_PICTURE)
    confusion = classification.confusion(test.labels, predicted, test.classes)
    confusion.to_csv(paths.CONFUSION)
    figures.confusion(confusion, paths.CONFUSION_PICTURE)


def _draw_reliability(
    test: subsets.Subset, probabilities: np.ndarray, as_trained: np.ndarray, temperature: float, held_out: bool
) -> None:
    variants = {"As trained": as_trained}
    if held_out:
        variants[f"With temperature {temperature:.2f}"] = probabilities
    tables = {}
    for name, values in variants.items():
        error = calibration.expected_calibration_error(test.labels, values)
        tables[f"{name}: error {100 * error:.1f} %"] = calibration.reliability(test.labels, values)
    reliability.diagrams(tables, paths.RELIABILITY_PICTURE)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
