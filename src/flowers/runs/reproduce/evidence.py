"""What is known of a result and of the machine it was made on: of the run by its tags, of a worktree by its files."""

import contextlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.runs.reproduce.record import Record
from flowers.runs.reproduce.yaml_file import read
from flowers.tracking import run_key

_DIGESTS = {"photos": "data", "split": "split", "weights": "weights", "code": "code"}  # flowers.<...>_digest


@dataclass(frozen=True)
class Facts:
    """What went into a result and what it was computed on; None or missing is what is not known.

    `inputs` are hashes of photos (their list), split, weights and code; `result` is the hash over all that is
    published.
    """

    processor: str | None = None
    precision: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    result: str | None = None


def of_run(record: Record, folder: Path) -> Facts:
    """What a run says of itself, and the versions that its commit, checked out in `folder`, names."""
    from flowers.tracking import runs

    inputs = {name: record.tags.get(f"flowers.{tag}_digest") for name, tag in _DIGESTS.items()}
    versions = {}
    with contextlib.chdir(folder), contextlib.suppress(UserError):  # a commit from before they were written down
        versions = run_key.versions()
    return Facts(
        processor=record.tags.get(runs.PROCESSOR),
        precision=record.tags.get("flowers.precision"),
        versions=versions,
        inputs={name: digest for name, digest in inputs.items() if digest},
        result=record.tags.get(runs.RESULT),
    )


def of_machine(packages: Mapping[str, str]) -> Facts:
    """The processor, and the installed versions of these packages."""
    from flowers.tracking import provenance

    versions = {}
    for name in packages:
        for distribution in (name, f"{name}-cpu"):  # TensorFlow's two names
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(distribution)
    return Facts(provenance.processor(), versions=versions)


def with_inputs(facts: Facts, folder: Path) -> Facts:
    """The facts with the digests of what went in, as the run key takes them, once the photos are split in `folder`."""
    makers = {
        "photos": lambda: run_key.file_digest(paths.IMAGE_LIST),
        "split": lambda: run_key.file_digest(paths.SPLIT),
        "weights": lambda: run_key.file_digest(paths.WEIGHTS),
        "code": run_key.code_digest,
    }
    inputs = {}
    with contextlib.chdir(folder):
        for name, make in makers.items():
            with contextlib.suppress(UserError):  # the code of another time may write other files
                inputs[name] = make()
    return replace(facts, inputs=inputs)


def with_result(facts: Facts, folder: Path) -> Facts:
    """The facts with precision and digest of the result in `folder`."""
    from flowers.tracking import result

    with contextlib.chdir(folder):
        digest = result.published_digest()
    model = json.loads((folder / paths.MODEL / "model.json").read_text(encoding="utf-8"))
    return replace(facts, precision=str(model.get("precision")), result=digest)


def without_photos(then: Facts, here: Facts, record: Record, folder: Path) -> Facts:
    """`then`, without the list of the photos where it differs although DVC knows the photos to be the same bytes.

    Another version of a package may measure them otherwise.
    """
    listed = [facts.inputs.get("photos") for facts in (then, here)]
    in_locks = [_photos_in_lock(lock) for lock in (record.artifact("dvc.lock"), folder / "dvc.lock")]
    if listed[0] == listed[1] or in_locks[0] is None or in_locks[0] != in_locks[1]:
        return then
    return replace(then, inputs={name: digest for name, digest in then.inputs.items() if name != "photos"})


def _photos_in_lock(lock: Path | None) -> str | None:
    """The hash of all photos in a dvc.lock."""
    if lock is None or not lock.is_file():
        return None
    outputs = read(lock).get("stages", {}).get("download", {}).get("outs", [])
    return next((str(out["md5"]) for out in outputs if out.get("path") == paths.IMAGES.as_posix()), None)
