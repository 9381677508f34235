"""What changed in the code between the commits of two results, file by file."""

import re

from flowers.reporting.document import Part, Section, Table
from flowers.runs.predictions import Predictions
from flowers.tracking import provenance

FILES = 20  # listed
_CODE = ("src", "dvc.yaml", "pyproject.toml", "requirements.lock")  # what decides a result, besides data and parameters


def section(first: Predictions, other: Predictions) -> Section | None:
    """The changed files with their lines; None where a commit is unknown, is not here, or both are the same."""
    one, two = first.commit, other.commit
    changed = (
        provenance.git("diff", "--numstat", "--no-renames", "--end-of-options", one, two, "--", *_CODE)
        if one and two
        else None
    )
    if not changed or one == two:
        return None
    page, rows = _page(), []
    lines = changed.splitlines()
    for line in lines[:FILES]:
        added, removed, path = line.split("\t", 2)
        first_line = _first_line(one, two, path)
        link = [f"{page}/blob/{two}/{path}#L{first_line}" if page and first_line else ""] if page else []
        rows.append([path, *link, f"+{added}", f"-{removed}"])
    more = f", {FILES} shown" if len(lines) > FILES else ""
    command = f"git diff {one[:8]} {two[:8]} -- {' '.join(_CODE)}"
    header = ["file", *(["lines"] if page else []), "added", "removed"]
    parts: list[Part] = [f"{len(lines)} files differ{more}. All lines: {command}", Table(header, rows, len(header) - 2)]
    return Section(f"Code of '{other.name}' against '{first.name}'", parts, detail=True)


def _first_line(one: str, two: str, path: str) -> str:
    """The number of the first changed line in the second commit; "" for a file that is gone or not text."""
    hunk = re.search(
        r"^@@ -\S+ \+([1-9]\d*)",
        provenance.git("diff", "-U0", "--end-of-options", one, two, "--", path) or "",
        re.MULTILINE,
    )
    return hunk[1] if hunk else ""


def _page() -> str:
    """The address of the repository's page, from that of the remote `origin`; "" if that is no host's."""
    remote = provenance.git("remote", "get-url", "origin") or ""
    found = re.fullmatch(r"(?:https?://(?:[^@/]*@)?|ssh://git@|git@)([\w.-]+)[:/](.+?)(?:\.git)?/?", remote.strip())
    return f"https://{found[1]}/{found[2]}" if found else ""
