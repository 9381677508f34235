"""The command `flowers scores`: the test scores of the last evaluation as a table."""

import csv
import json

from rich.console import Console

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.metrics import paired
from flowers.reporting import document, measures
from flowers.runs import dvc_lock


def print_scores() -> None:
    """Print the table to standard output; raises UserError where there is no evaluation."""
    try:
        metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
        intervals = json.loads(paths.INTERVALS.read_text(encoding="utf-8"))
        accuracy = float(metrics["accuracy"])
        images = len(list(csv.DictReader(paths.LABELS.read_text(encoding="utf-8").splitlines())))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{paths.EVALUATION}: damaged ({error!r}); run `dvc repro -f evaluate`") from None
    dvc_lock.warn_if_other(paths.METRICS, paths.INTERVALS, paths.LABELS)
    style = {"title": "Test scores", "title_justify": "left", "title_style": "bold"}
    out = Console(highlight=False, soft_wrap=True)
    out.print(document.grid(measures.table(metrics, intervals), **style))
    for line in measures.few(images, "test", paired.independent(accuracy)):
        out.print(line)
