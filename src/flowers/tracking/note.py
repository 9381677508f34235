"""The note on a run: what was trained and how it scored, in Markdown, for whoever opens it in the UI."""

from flowers.reporting.measures import NAMES
from flowers.tracking.result import Result


def text(result: Result) -> str:
    """A table of the test scores with their 95 % intervals, and a sentence on the training."""
    rows = [
        f"| {NAMES.get(name, name)} | {value:.4f} | {_interval(result, name)} |"
        for name, value in result.scores.items()
    ]
    photos = ", ".join(f"{count} {name}" for name, count in result.counts.items())
    epochs = ", ".join(f"{count} of {phase.replace('_', '-')}" for phase, count in result.phases.items())
    return "\n".join(
        [
            f"Test scores on {result.counts.get('test', 0)} photos of {len(result.classes)} classes:",
            "",
            "| Score | Value | 95 % interval |",
            "|---|---|---|",
            *rows,
            "",
            f"Photos: {photos}. Epochs: {epochs}. Precision of the backbone: {result.precision}.",
        ]
    )


def _interval(result: Result, name: str) -> str:
    if name not in result.intervals:
        return ""
    low, high = result.intervals[name]
    return f"{low:.4f} to {high:.4f}"
