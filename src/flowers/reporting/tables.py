"""Results as tables for the terminal."""

from collections.abc import Mapping

from rich.table import Table

NAMES = {  # every known measure, in the order of the table
    "accuracy": "accuracy",
    "mean_per_class_accuracy": "mean per-class accuracy",
    "top5_accuracy": "top-5 accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log-loss",
}
PLAIN = {"log_loss"}  # not shares of 1


def scores_table(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> Table:
    """A table of measure, score and 95 % interval, from what `metrics.scores` and `metrics.intervals` return.

    Shares are in percent, the log-loss in nats. A measure without an interval has an empty cell there; one that is not
    known here comes last, under its own name, as a plain number.
    """
    table = Table(title="Test scores", title_justify="left", title_style="bold")
    table.add_column("measure")
    table.add_column("score", justify="right")
    table.add_column("95 % interval", justify="right")
    for key in [*(key for key in NAMES if key in metrics), *(key for key in metrics if key not in NAMES)]:
        share = key in NAMES and key not in PLAIN
        limits = " – ".join(_number(limit, share) for limit in intervals.get(key, ()))
        table.add_row(NAMES.get(key, key.replace("_", " ")), _number(metrics[key], share), limits)
    return table


def _number(value: float, share: bool) -> str:
    return f"{100 * value:.1f} %" if share else f"{value:.3f}"


def print_scores() -> None:
    """Print the scores of the last evaluation to standard output; raises UserError where there is none."""
    import json

    from rich.console import Console

    from flowers import paths
    from flowers.errors import UserError

    try:
        metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
        intervals = json.loads(paths.INTERVALS.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro`") from None
    except ValueError as error:
        raise UserError(f"{paths.EVALUATION}: damaged ({error}); run `dvc repro -f evaluate`") from None
    Console().print(scores_table(metrics, intervals))
