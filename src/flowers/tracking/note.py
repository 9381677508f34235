"""The note on a run: what was trained and how it scored, in Markdown, as the UI shows it."""

from flowers.tracking.result import Result


def text(result: Result) -> str:
    """A table of the test scores with their 95 % intervals, and a sentence on the training."""
    from flowers.reporting.measures import NAMES  # imports pandas

    limits = {name: f"{low:.4f} to {high:.4f}" for name, (low, high) in result.intervals.items()}
    rows = [
        f"| {NAMES.get(name, name)} | {value:.4f} | {limits.get(name, '')} |" for name, value in result.scores.items()
    ]
    images = ", ".join(f"{count} {name}" for name, count in result.counts.items())
    epochs = ", ".join(f"{count} of {phase.replace('_', '-')}" for phase, count in result.phases.items())
    return "\n".join(
        [
            f"Test scores on {result.counts.get('test', 0)} images of {len(result.classes)} classes:",
            "",
            "| Score | Value | 95 % interval |",
            "|---|---|---|",
            *rows,
            "",
            f"Images: {images}. Epochs: {epochs}. Precision of the backbone: {result.precision}.",
        ]
    )
