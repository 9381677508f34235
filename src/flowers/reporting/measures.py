"""The names of the scores in reports, and the form of their values."""

from collections.abc import Mapping

from flowers.reporting.document import Table

NAMES = {  # every known measure, in the order of a table
    "accuracy": "accuracy",
    "mean_per_class_accuracy": "mean per-class accuracy",
    "top5_accuracy": "top-5 accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log-loss",
}
PLAIN = {"log_loss"}  # not shares of 1


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


def count(number: int, one: str, many: str = "") -> str:
    """A number of things as text: 1 image, 1,434 images."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def number(key: str, value: float) -> str:
    """A score as text: shares in percent, others with three digits."""
    return f"{value:.3f}" if key in PLAIN or key not in NAMES else f"{100 * value:.1f} %"
