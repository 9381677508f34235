"""The command `flowers report`: what a reviewer of a change wants to see, in Markdown with pictures beside it."""

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.reporting import document
from flowers.reporting.document import Document, Picture, Section
from flowers.runs import find
from flowers.runs.compare import report

REPORT = paths.BUILD / "report.md"
_PICTURES = {
    paths.CURVES_PICTURE: "Loss and accuracy by epoch",
    paths.CONFUSION_PICTURE: "Confusion matrix",
    paths.PER_CLASS_PICTURE: "Recall by class",
}


def write(against: str) -> None:
    """Write build/report.md: the result of this checkout against another one, as `flowers compare` names it.

    Where the other one cannot be had the report says why, and shows this result alone. Raises UserError where there is
    no result in this checkout.
    """
    (here,) = find.find([find.WORKSPACE])
    try:
        (base,) = find.find([against])
        found = report.document([base, here])
    except UserError as error:
        console.warn(str(error))
        found = report.alone(here, f"There is nothing to compare it with: {error}")
    pictures = [Picture(b"", alt, path.relative_to(paths.BUILD).as_posix()) for path, alt in _PICTURES.items()]
    whole = Document(found.title, found.lead, [*found.sections, Section("Pictures", pictures)])
    REPORT.write_text(document.markdown(whole), encoding="utf-8")
    console.say(f"wrote {REPORT}")
