"""How often the 95 % intervals of flowers.reporting and flowers.runs.compare contain the true value, per setting.

The population is known here: many images of each class, with the probabilities of two models for each.
The models share four fifths of the difficulty of an image, and the second one is a little better. Each draw is a new
test set with as many images of each class. For it, the intervals of `evaluate` and those of the differences in
`flowers compare` are computed. The true value is the score of the population, classes weighted as in the test set.

    python benchmarks/interval_coverage.py
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from flowers.metrics import bootstrap, classification, paired

DRAWS, SAMPLES = 1000, 1000
POPULATION = 100_000  # images
SHARED = 0.8  # of the variance of the logits
SETTINGS = (  # classes, images of the largest and of the smallest class, the margin of the right logit
    (5, 300, 100, 2.4),
    (20, 75, 25, 3.2),
    (102, 110, 10, 4.2),  # as many as Oxford's test set has
    (5, 9, 9, 2.4),  # the drawn sample
    (102, 10, 10, 4.2),  # tiny classes
)
RESULT = Path(__file__).parent / "results" / "interval_coverage.json"


def population(n_classes: int, sharpness: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """Labels of a population, and the probabilities of two models, (n, n_classes) each."""
    labels = np.repeat(np.arange(n_classes), POPULATION // n_classes)
    ease = rng.normal(0, 0.5, size=n_classes)  # some classes are harder
    common = rng.normal(size=(len(labels), n_classes))
    found: list[Any] = []
    for better in (0.0, 0.15):
        logits = SHARED**0.5 * common + (1 - SHARED) ** 0.5 * rng.normal(size=common.shape)
        logits[np.arange(len(labels)), labels] += sharpness + better + ease[labels]
        exponents = np.exp(logits)
        found.append((exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32))
    return labels, found


def truths(labels: Any, probabilities: Any, images: Any) -> dict[str, Any]:
    """The scores of the population, its classes weighted by the images of a test set."""
    n_classes, size = len(images), len(labels) // len(images)
    predicted = probabilities.argmax(axis=1)
    shares = (
        classification.confusion(labels, predicted, [str(number) for number in range(n_classes)]).to_numpy()
        / size
        * images[:, None]
    )
    means = np.add.reduceat(
        np.stack(
            [classification.losses(labels, probabilities), classification.right_class_place(labels, probabilities) < 5]
        ),
        np.arange(0, len(labels), size),
        axis=1,
    )
    loss, top5 = means @ images / size / images.sum()
    return {
        "accuracy": shares.trace() / images.sum(),
        "mean_per_class_accuracy": (shares.diagonal() / images).mean(),
        "top5_accuracy": top5,
        "log_loss": loss,
        "macro_f1": (2 * shares.diagonal() / (images + shares.sum(axis=0))).mean(),
    }


def measure(
    n_classes: int, largest: int, smallest: int, sharpness: float, rng: np.random.Generator
) -> tuple[Any, float, Any]:
    """Images of a test set, the accuracy, and the coverage of the intervals of scores and of differences."""
    images = np.linspace(largest, smallest, n_classes).round().astype(int)
    everyone, models = population(n_classes, sharpness, rng)
    size = len(everyone) // n_classes
    one, other = (truths(everyone, model, images) for model in models)
    held: dict[str, dict[str, Any]] = {kind: {} for kind in ("score", "difference")}
    for draw in range(DRAWS):
        chosen = np.concatenate([label * size + rng.integers(size, size=n) for label, n in enumerate(images)])
        labels, (first, second) = everyone[chosen], (model[chosen] for model in models)
        scores = bootstrap.intervals(labels, first, SAMPLES, seed=draw)
        differences = paired.differences(labels, first, second, SAMPLES, seed=draw)
        for name, (low, high) in scores.items():
            found = differences[name]
            inside = {"score": low <= one[name] <= high}
            inside["difference"] = found.low <= other[name] - one[name] <= found.high
            for kind, is_inside in inside.items():
                held[kind][name] = held[kind].get(name, 0) + int(is_inside) / DRAWS
    return int(images.sum()), one["accuracy"], held


def main() -> None:
    rng, found = np.random.default_rng(0), []
    for n_classes, largest, smallest, sharpness in SETTINGS:
        images, accuracy, held = measure(n_classes, largest, smallest, sharpness, rng)
        found.append({"photos": images, "classes": n_classes, "accuracy": accuracy, "held": held})
        print(f"{images} images, {n_classes} classes, accuracy {accuracy:.1%}:", flush=True)
        for kind, shares in held.items():
            print(f"  {kind}: {', '.join(f'{name} {share:.1%}' for name, share in shares.items())}", flush=True)
    RESULT.write_text(json.dumps({"draws": DRAWS, "samples": SAMPLES, "settings": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
