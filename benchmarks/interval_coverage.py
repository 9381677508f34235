"""How often do the 95 % intervals of flowers.reporting.bootstrap hold the true score? Prints a line per setting.

The world is known here: every class has its own true accuracy, drawn from a beta distribution around the setting's
mean, and a mistake falls on any other class. Each draw is a new test set from that world, with as many photos in each
class, and asks for the intervals that `evaluate` would report. The true score of the world is what the test sets
approach: the mean of the classes' accuracies, weighted by their photos for `accuracy`, plain for the per-class mean.

    python benchmarks/interval_coverage.py
"""

import numpy as np

from flowers.reporting import bootstrap

DRAWS = 1000
SAMPLES = 1000
SETTINGS = (  # classes, photos of the largest and of the smallest class, mean accuracy
    (5, 300, 100, 0.90),
    (20, 75, 25, 0.90),
    (102, 10, 10, 0.95),  # tiny classes, nearly always right: where the bootstrap falls short
)


def measure(n_classes, largest, smallest, mean, rng):
    """Share of draws whose intervals hold the true accuracy and the true mean per-class accuracy."""
    photos = np.linspace(largest, smallest, n_classes).round().astype(int)
    labels = np.repeat(np.arange(n_classes), photos)
    accuracy = rng.beta(20 * mean, 20 * (1 - mean), size=n_classes)
    truth = {"accuracy": accuracy[labels].mean(), "mean_per_class_accuracy": accuracy.mean()}
    held = dict.fromkeys(truth, 0)
    for draw in range(DRAWS):
        right = rng.random(len(labels)) < accuracy[labels]
        other = (labels + rng.integers(1, n_classes, size=len(labels))) % n_classes
        probabilities = np.eye(n_classes, dtype=np.float32)[np.where(right, labels, other)]
        found = bootstrap.intervals(labels, probabilities, SAMPLES, seed=draw)
        for name, value in truth.items():
            held[name] += found[name][0] <= value <= found[name][1]
    return len(labels), {name: count / DRAWS for name, count in held.items()}


def main():
    rng = np.random.default_rng(0)
    for n_classes, largest, smallest, mean in SETTINGS:
        photos, held = measure(n_classes, largest, smallest, mean, rng)
        shares = ", ".join(f"{name} {share:.1%}" for name, share in held.items())
        print(f"{photos} photos, {n_classes} classes, mean accuracy {mean}: 95 % intervals hold the truth: {shares}")


if __name__ == "__main__":
    main()
