"""The command `flowers verify`: the result in build/ against the one that a commit holds in git."""

import hashlib
import json
from pathlib import Path

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.runs import dvc_lock, verdict
from flowers.runs.verdict import Result
from flowers.tracking import provenance

_LOCK = Path("dvc.lock")
_FILES = (paths.METRICS, paths.LABELS)


def verify(revision: str) -> int:
    """Print the verdict on the result here against that of a git revision; returns 1 for a different result, else 0.

    Raises UserError where one of the two is missing, or build/ does not hold the result of dvc.lock.
    """
    found = verdict.judge(_committed(revision), _here())
    print(*found.lines, sep="\n")
    return found.status


def _committed(revision: str) -> Result:
    if reason := provenance.refusal():
        raise UserError(f"`flowers verify` compares with a commit, but git says: {reason}")
    commit = provenance.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise UserError(f"'{revision}' is no commit of this repository")
    lock, *files = (provenance.file(commit, path) for path in (_LOCK, *_FILES))
    if lock is None:
        raise UserError(f"'{revision}' has no {_LOCK}: no result was committed there")
    held = {path.as_posix(): content for path, content in zip(_FILES, files, strict=True) if content is not None}
    if lost := [path for path in _FILES if path.as_posix() not in held]:
        raise UserError(f"'{revision}' has no {lost[0]} in git: commit it with the {_LOCK} of its result")
    return Result(dvc_lock.read(lock), held)


def _here() -> Result:
    try:
        lock = dvc_lock.read(_LOCK.read_bytes())
        made = [path for path in lock.outputs if path not in lock.inputs]
        if not {path.as_posix() for path in (paths.MODEL, *_FILES)} <= {*made}:
            raise UserError(f"{_LOCK} holds no result of train and evaluate; run `make repro`")
        if stale := [path for path in made if _md5(Path(path)) != lock.outputs[path]]:
            raise UserError(f"{stale[0]} is not the one of {_LOCK}; `dvc repro` brings build/ up to date")
        files = {path.as_posix(): path.read_bytes() for path in _FILES}
        precision = str(json.loads((paths.MODEL / "model.json").read_bytes())["precision"])
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: no such file, so there is no result to verify yet; run `make repro`"
        ) from None
    dvc_lock.warn_if_changed("workspace", lock.params, Path())
    return Result(lock, files, precision)


def _md5(path: Path) -> str:
    """The hash of an output as dvc.lock holds it. Raises FileNotFoundError."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    entries = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return f"{hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest()}.dir"
