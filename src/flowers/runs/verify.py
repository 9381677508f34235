"""The command `flowers verify`: the result in build/ against the one that a commit holds in git."""

import json
from pathlib import Path

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.runs import dvc_lock, verdict
from flowers.runs.verdict import Result
from flowers.tracking import provenance

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
    lock, *files = (provenance.file(commit, path) for path in (dvc_lock.FILE, *_FILES))
    if lock is None:
        raise UserError(f"'{revision}' has no {dvc_lock.FILE}: no result was committed there")
    held = {path.as_posix(): content for path, content in zip(_FILES, files, strict=True) if content is not None}
    if lost := [path for path in _FILES if path.as_posix() not in held]:
        raise UserError(f"'{revision}' has no {lost[0]} in git: commit it with the {dvc_lock.FILE} of its result")
    return Result(dvc_lock.read(lock), held)


def _here() -> Result:
    try:
        lock = dvc_lock.read(dvc_lock.FILE.read_bytes())
        made = [path for path in lock.outputs if path not in lock.inputs]
        if not {path.as_posix() for path in (paths.MODEL, *_FILES)} <= {*made}:
            raise UserError(f"{dvc_lock.FILE} holds no result of train and evaluate; run `make repro`")
        if stale := [path for path in made if dvc_lock.md5(Path(path)) != lock.outputs[path]]:
            raise UserError(f"{stale[0]} is not the one of {dvc_lock.FILE}; `dvc repro` brings build/ up to date")
        files = {path.as_posix(): path.read_bytes() for path in _FILES}
        precision = str(json.loads((paths.MODEL / "model.json").read_bytes())["precision"])
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: no such file, so there is no result to verify yet; run `make repro`"
        ) from None
    dvc_lock.warn_if_changed("workspace", lock.params, Path())
    return Result(lock, files, precision)
