"""The command `flowers compare`."""

import re
from pathlib import Path

from flowers.common import console
from flowers.common.errors import UserError
from flowers.reporting import document, thumbnails
from flowers.runs import find
from flowers.runs.compare import report
from flowers.runs.predictions import Predictions
from flowers.tracking import lookup, store

ARTIFACTS = "compare"  # the folder of a run with its comparisons


def compare(names: list[str], markdown: bool, html: Path, log: bool) -> None:
    """Compare results with the first one: the difference on standard output, and a page with all details.

    With `log` the page is also an artifact of the runs of the other results. Raises UserError, and StoreUnreachable.
    """
    if len(names) < 2:
        pair = "main workspace" if names == [find.WORKSPACE] else f"{' '.join(names)} {find.WORKSPACE}"
        raise UserError(f"name at least two results, such as: flowers compare {pair}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"'{min(twice)}' is named twice")
    results = find.find(names)
    found = report.document(results, thumbnails.of)
    if markdown:
        print(document.markdown(found), end="")
    else:
        document.show(found)
    page = document.html(found)
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_text(page, encoding="utf-8")
    console.say(f"Classes, confusions, images and code that changed: {html}")
    if log:
        for result in results[1:]:
            _log(result, results[0].name, page)


def _log(result: Predictions, baseline: str, page: str) -> None:
    """Log the page to the run of a result. The same comparison again replaces the page by the same one."""
    file = re.sub(r"[^\w.-]+", "-", baseline)
    name = f"{ARTIFACTS}/{file}.html"
    with store.explained("logging the page to"), store.patience(*store.LONG):
        client, run = find.run_of(result)
        client.log_text(run.info.run_id, page, name)
    console.say(f"In MLflow: artifact {name} of run {lookup.described(run)}")
