"""The command `flowers scores`: the test scores of the last evaluation as a table."""

import json

from rich.console import Console

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.reporting import document, measures


def print_scores() -> None:
    """Print the table to standard output; raises UserError where there is no evaluation."""
    try:
        metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
        intervals = json.loads(paths.INTERVALS.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro`") from None
    except ValueError as error:
        raise UserError(f"{paths.EVALUATION}: damaged ({error}); run `dvc repro -f evaluate`") from None
    style = {"title": "Test scores", "title_justify": "left", "title_style": "bold"}
    Console().print(document.grid(measures.table(metrics, intervals), **style))
