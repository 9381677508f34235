"""The command `flowers report`: a comparison for a pull request in Markdown, with links to figures."""

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.reporting import document
from flowers.reporting.document import Document, Picture, Section
from flowers.runs import find
from flowers.runs.compare import report

REPORT = paths.BUILD / "report.md"
_FIGURES = {
    paths.CURVES_PICTURE: "Loss and accuracy by epoch",
    paths.CONFUSION_PICTURE: "Confusion matrix",
    paths.PER_CLASS_PICTURE: "Recall by class",
}


def write(against: str) -> None:
    """Write build/report.md: this result compared with `against`, or alone if that is not found. Raises UserError."""
    (here,) = find.find([find.WORKSPACE])
    try:
        (base,) = find.find([against])
        found = report.document([base, here])
    except UserError as error:
        console.warn(str(error))
        found = report.alone(here, f"Nothing to compare with: {error}")
    figures = [Picture(b"", alt, path.relative_to(paths.BUILD).as_posix()) for path, alt in _FIGURES.items()]
    whole = Document(found.title, found.lead, [*found.sections, Section("Figures", figures)])
    REPORT.write_text(document.markdown(whole), encoding="utf-8")
    console.say(f"wrote {REPORT}")
