"""How often do the 95 % intervals of flowers.reporting and flowers.comparison hold the truth? A line per setting.

The world is known here: every class has its own true accuracy, drawn from a beta distribution around the setting's
mean, and a mistake falls on any other class. Each draw is a new test set from that world, with as many photos in each
class, and asks for the intervals that `evaluate` would report. The true score of the world is what the test sets
approach: the mean of the classes' accuracies, weighted by their photos for `accuracy`, plain for the per-class mean.
A second model, whose classes are a little better or worse, shares four fifths of its luck with the first; the intervals
of the differences are those of `flowers compare`.

    python benchmarks/interval_coverage.py
"""

import json
from pathlib import Path

import numpy as np

from flowers.comparison import paired
from flowers.reporting import bootstrap

DRAWS = 1000
SAMPLES = 1000
SHARED = 0.8  # of the photos: both models find them as hard
SETTINGS = (  # classes, photos of the largest and of the smallest class, mean accuracy
    (5, 300, 100, 0.90),
    (20, 75, 25, 0.90),
    (102, 110, 10, 0.90),  # as many as Oxford's test set has
    (102, 10, 10, 0.95),  # tiny classes, nearly always right: where the bootstrap falls short
)
RESULT = Path(__file__).parent / "results" / "interval_coverage.json"


def measure(n_classes, largest, smallest, mean, rng):
    """Share of draws whose intervals hold the true score of one model, and the true difference of two."""
    photos = np.linspace(largest, smallest, n_classes).round().astype(int)
    labels = np.repeat(np.arange(n_classes), photos)
    first = rng.beta(20 * mean, 20 * (1 - mean), size=n_classes)
    second = np.clip(first + rng.normal(0.01, 0.02, size=n_classes), 0, 1)
    truth = {
        "accuracy": first[labels].mean(),
        "mean_per_class_accuracy": first.mean(),
        "difference of accuracy": (second - first)[labels].mean(),
        "difference of mean_per_class_accuracy": (second - first).mean(),
    }
    held = dict.fromkeys(truth, 0)
    for draw in range(DRAWS):
        luck = rng.random(len(labels))
        other_luck = np.where(rng.random(len(labels)) < SHARED, luck, rng.random(len(labels)))
        one, other = answers(labels, luck < first[labels], rng), answers(labels, other_luck < second[labels], rng)
        found = bootstrap.intervals(labels, one, SAMPLES, seed=draw)
        for name, difference in paired.differences(labels, one, other, SAMPLES, seed=draw).items():
            found[f"difference of {name}"] = difference.low, difference.high
        for name, value in truth.items():
            held[name] += found[name][0] <= value <= found[name][1]
    return len(labels), {name: count / DRAWS for name, count in held.items()}


def answers(labels, right, rng):
    """Certain probabilities: of the right class, or of any other one."""
    n_classes = labels.max() + 1
    other = (labels + rng.integers(1, n_classes, size=len(labels))) % n_classes
    return np.eye(n_classes)[np.where(right, labels, other)]


def main():
    rng, found = np.random.default_rng(0), []
    for n_classes, largest, smallest, mean in SETTINGS:
        photos, held = measure(n_classes, largest, smallest, mean, rng)
        found.append({"photos": photos, "classes": n_classes, "mean accuracy": mean, "held": held})
        shares = ", ".join(f"{name} {share:.1%}" for name, share in held.items())
        print(f"{photos} photos, {n_classes} classes, mean accuracy {mean}: {shares}", flush=True)
    RESULT.write_text(json.dumps({"draws": DRAWS, "samples": SAMPLES, "settings": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
