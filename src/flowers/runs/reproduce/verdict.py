"""What a reproduction came to: the table of files, the verdict, and where it differs the likely causes."""

from collections.abc import Sequence

from flowers.reporting.document import Document, Section, Table
from flowers.runs.reproduce import files
from flowers.runs.reproduce.evidence import Facts
from flowers.runs.reproduce.files import File

_PUBLISHED = ", published there from files"  # as tracking says of a run whose training it has not seen


def same(compared: Sequence[File]) -> bool:
    """Whether all that can be compared is the same; what the run does not hold cannot be, and the scores must."""
    scores = any(file.path.startswith("build/evaluation/") and file.verdict == files.SAME for file in compared)
    return scores and all(file.verdict in (files.SAME, files.NOT_IN_RUN) for file in compared)


def causes(then: Facts, here: Facts, changes_lost: bool, fresh: bool) -> list[str]:
    """Why a result differs: what is certain first, then what is known to change bits. Never empty."""
    if then.result is not None and then.result == here.result:
        return ["what was made again is what was published: the run's files were changed in MLflow since then"]
    found = []
    if changes_lost:
        found.append("uncommitted changes at the time, which the run does not hold")
    differing = [name for name, value in then.inputs.items() if name in here.inputs and here.inputs[name] != value]
    found += [_INPUTS[name] for name in _INPUTS if name in differing and not (changes_lost and name == "code")]
    found += environment(then, here)
    if not found:
        found.append("none that is known: photos, code, packages, precision and kind of processor are the same")
        if not fresh:
            found.append("the stored activations of your cache were used; `--fresh` computes them anew")
    return found


def environment(then: Facts, here: Facts) -> list[str]:
    """What differs in the machine and its packages."""
    found = []
    if then.precision and here.precision and then.precision != here.precision:
        found.append(f"another precision: {then.precision} then, {here.precision} here")
    versions = [
        f"{name} {version} then, {here.versions.get(name, 'not installed')} here"
        for name, version in then.versions.items()
        if here.versions.get(name) != version
    ]
    if versions:
        found.append(f"other library versions: {'; '.join(versions)}")
    known = (then.processor or "").removesuffix(_PUBLISHED)
    if known and here.processor and known != here.processor:
        where = "published on" if (then.processor or "").endswith(_PUBLISHED) else "trained on"
        found.append(f"another processor: {where} {known}, here {here.processor}")
    return found


_INPUTS = {
    "photos": "other photos: those of the run are no longer there, or were changed",
    "split": "another split of the photos",
    "weights": "other pretrained weights",
    "code": "other source files than those that made it (flowers.code_digest)",
}


def document(title: str, compared: Sequence[File], reasons: Sequence[str]) -> Document:
    """The table and the verdict; `reasons` are the likely causes, where it is not the same."""
    rows = [[file.path, file.verdict, file.difference] for file in compared]
    table = Table(["file", "verdict", "difference"], rows, left=3)
    return Document(title, [], [Section("Files", [table]), Section("Verdict", _verdict(compared, reasons))])


def _verdict(compared: Sequence[File], reasons: Sequence[str]) -> list[str]:
    lines = []
    if absent := [file.path for file in compared if file.verdict == files.NOT_IN_RUN]:
        lines.append(f"Not compared, because the run does not hold it: {', '.join(absent)}.")
    count = sum(file.verdict == files.SAME for file in compared)
    if same(compared):
        return [*lines, f"{count} files: the same bytes"]
    other = sum(file.verdict != files.NOT_IN_RUN for file in compared) - count
    lines.append(f"Not the same: {other} of {other + count} files differ." if other else "Nothing could be compared.")
    first, *more = reasons
    return [*lines, f"Likely cause: {first}.", *(f"Or: {reason}." for reason in more)]
