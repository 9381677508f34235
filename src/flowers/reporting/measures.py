"""The names of the scores in reports, and the form of their values."""

from collections.abc import Mapping

from flowers.metrics import paired
from flowers.reporting.document import Table

NAMES = {  # every known measure, in the order of a table
    "accuracy": "accuracy",
    "mean_per_class_accuracy": "mean per-class accuracy",
    "top5_accuracy": "top-5 accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log-loss",
}
PLAIN = {"log_loss"}  # not shares of 1
FOLDS = "Folds count as independent trainings, but share images: the interval does not hold other images to train on."
FEW = 100  # with fewer images, reports say how large a difference they can show


def table(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> Table:
    """Name, score and interval of each measure; unknown ones come last, under their keys, as plain numbers."""
    rows = [
        (
            NAMES.get(key, key.replace("_", " ")),
            number(key, metrics[key]),
            " – ".join(number(key, limit) for limit in intervals.get(key, ())),
        )
        for key in dict.fromkeys([*NAMES, *metrics])
        if key in metrics
    ]
    return Table(["measure", "score", "95 % interval"], rows)


def few(images: int, kind: str, discordant: float, level: float = paired.LEVEL) -> list[str]:
    """A line on the smallest difference that so few images of a kind (test, validation) show; none for FEW or more."""
    if images >= FEW:
        return []
    points = 100 * paired.detectable(images, discordant, level)
    test = f"McNemar's test at {100 * level:.2g} %, power {100 * paired.POWER:.0f} %"
    only = f"Only {count(images, f'{kind} image')}"
    return [f"{only}: a difference of accuracy below about {points:.0f} points is likely missed ({test})."]


def difference(
    first: str, other: str, one: float, two: float, interval: tuple[float, float], level: float = paired.LEVEL
) -> str:
    """Two accuracies (shares of 1), of results by name, and the interval of their difference, two minus one."""
    low, high = (100 * end for end in interval)
    return (
        f"'{other}' has {number('accuracy', two)} accuracy, '{first}' {number('accuracy', one)}: "
        f"{100 * (two - one):+.1f} points, {100 * (1 - level):.3g} % interval {low:+.1f} to {high:+.1f}"
    )


def count(number: int, one: str, many: str = "") -> str:
    """A number of things as text: 1 image, 1,434 images."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def number(key: str, value: float) -> str:
    """A score as text: shares in percent, others with three digits."""
    return f"{value:.3f}" if key in PLAIN or key not in NAMES else f"{100 * value:.1f} %"
