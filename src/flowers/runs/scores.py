"""Results as tables for the terminal."""

from collections.abc import Mapping

from rich.table import Table

from flowers.reporting import measures


def scores_table(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> Table:
    """A table of measure, score and 95 % interval, from what `metrics.scores` and `metrics.intervals` return.

    Shares are in percent, the log-loss in nats. A measure without an interval has an empty cell there; one that is not
    known here comes last, under its own name, as a plain number.
    """
    table = Table(title="Test scores", title_justify="left", title_style="bold")
    table.add_column("measure")
    table.add_column("score", justify="right")
    table.add_column("95 % interval", justify="right")
    for row in measures.rows(metrics, intervals):
        table.add_row(*row)
    return table


def print_scores() -> None:
    """Print the scores of the last evaluation to standard output; raises UserError where there is none."""
    import json

    from rich.console import Console

    from flowers.common import paths
    from flowers.common.errors import UserError

    try:
        metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
        intervals = json.loads(paths.INTERVALS.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro`") from None
    except ValueError as error:
        raise UserError(f"{paths.EVALUATION}: damaged ({error}); run `dvc repro -f evaluate`") from None
    Console().print(scores_table(metrics, intervals))
