"""The command `flowers scores`: the test scores of the last evaluation as a table."""

import json
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.reporting import measures


def scores_table(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> Table:
    """Measure, score and 95 % interval, as `measures.rows` writes them."""
    table = Table(title="Test scores", title_justify="left", title_style="bold")
    table.add_column("measure")
    table.add_column("score", justify="right")
    table.add_column("95 % interval", justify="right")
    for row in measures.rows(metrics, intervals):
        table.add_row(*row)
    return table


def print_scores() -> None:
    """Print the table to standard output; raises UserError where there is no evaluation."""
    try:
        metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
        intervals = json.loads(paths.INTERVALS.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro`") from None
    except ValueError as error:
        raise UserError(f"{paths.EVALUATION}: damaged ({error}); run `dvc repro -f evaluate`") from None
    Console().print(scores_table(metrics, intervals))
