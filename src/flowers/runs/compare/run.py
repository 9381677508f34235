"""The command `flowers compare`."""

from pathlib import Path

from flowers.common import console
from flowers.common.errors import UserError
from flowers.reporting import document, thumbnails
from flowers.runs import find
from flowers.runs.compare import report


def compare(names: list[str], markdown: bool, html: Path | None) -> None:
    """Compare results with the first one: tables or Markdown on standard output, and an HTML page. Raises UserError."""
    if len(names) < 2:
        pair = "main workspace" if names == [find.WORKSPACE] else f"{' '.join(names)} {find.WORKSPACE}"
        raise UserError(f"name at least two results, such as: flowers compare {pair}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"'{min(twice)}' is named twice")
    results = find.find(names)
    found = report.document(results, thumbnails.of if html else None)
    if markdown:
        print(document.markdown(found), end="")
    else:
        document.show(found)
    if html:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(document.html(found), encoding="utf-8")
        console.say(f"wrote {html}")
