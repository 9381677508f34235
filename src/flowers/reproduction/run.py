"""The command `flowers reproduce`."""

import contextlib
import importlib.metadata
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowers import console, paths, run_key
from flowers.errors import UserError
from flowers.reporting import document
from flowers.reproduction import files, pipeline, verdict, worktree
from flowers.reproduction import record as records
from flowers.reproduction.record import Origin, Record

_DIGESTS = {"photos": "data", "split": "split", "weights": "weights", "code": "code"}  # flowers.<...>_digest
_SINGLE = (paths.SPLIT, paths.SPLIT_REPORT, paths.HISTORY)
_ORDER = (paths.IMAGE_LIST, paths.WEIGHTS, paths.SPLIT, paths.SPLIT_REPORT, paths.HISTORY, paths.MODEL)


def reproduce(reference: str, keep: bool, fresh: bool) -> int:
    """Make a run again from its commit in a temporary worktree, and print what became of each of its files.

    Returns 0 where they are the same bytes, else 1. Raises UserError where the run cannot be found or made again.
    """
    worktree.prefix()  # before the store is asked: without git nothing can be done
    with pipeline.ended_in_order(), tempfile.TemporaryDirectory(prefix="flowers-run-") as place:
        record = records.find(reference, Path(place))
        listed = record.origins
        patched = {origin.commit for origin in listed if record.changes(origin.commit)}
        origin = records.choose(listed, worktree.has, patched)
        patch = None if origin.clean else record.changes(origin.commit)
        lost = not origin.clean and patch is None
        _say_where(record, origin, lost)
        with worktree.checkout(origin.commit, keep) as folder:
            if patch is not None:
                worktree.apply(patch, folder)
            unknown = worktree.set_parameters(folder, record.folder / "run" / paths.PARAMS)
            if unknown:
                console.warn(f"the code of commit {origin.commit[:12]} knows no parameter {', '.join(unknown)}")
            return _again(record, origin, folder, lost, fresh)


def _say_where(record: Record, origin: Origin, lost: bool) -> None:
    changes = "" if origin.clean else ", with the changes that were kept" if not lost else ", with changes"
    console.say(f"Run {record.named}: commit {origin.commit[:12]}{changes}")
    if lost:
        console.warn("the run was made with uncommitted changes, and they were not kept: the commit alone is run")


def _again(record: Record, origin: Origin, folder: Path, lost: bool, fresh: bool) -> int:
    """Run the pipeline in the worktree and print the verdict."""
    variables = pipeline.environment(folder, fresh)
    _bring_photos(folder, variables)
    then, here = _then(record, folder), _machine()
    for difference in verdict.environment(then, here):
        console.warn(f"bits may differ: {difference}")
    used = (
        "computed anew (--fresh)"
        if fresh
        else f"those stored in {paths.cache_folder()}, where there are (--fresh: anew)"
    )
    console.say(f"Activations: {used}")

    pipeline.run(pipeline.PHOTOS, folder, variables)
    here = replace(here, inputs=_inputs(folder))
    other_photos = here.inputs["photos"] != then.inputs.get("photos")
    if (
        other_photos
        and _photos_in_lock(record.artifact("dvc.lock")) == _photos_in_lock(folder / "dvc.lock") is not None
    ):
        other_photos = False  # byte for byte the same: it is their list that this machine's packages write otherwise
        then = replace(then, inputs={name: value for name, value in then.inputs.items() if name != "photos"})
    if other_photos:
        console.say("Not trained: the photos are not those of the run")
    else:
        pipeline.run(pipeline.RESULT, folder, variables)
        here = _with_result(here, folder)
    compared = _compared(record, folder)
    reasons = verdict.causes(then, here, lost, fresh)
    changes = "" if origin.clean or lost else " and its kept changes"
    title = f"Run {record.named}, made again from commit {origin.commit[:12]}{changes}"
    _show(verdict.document(title, compared, reasons))
    return 0 if verdict.same(compared) else 1


def _bring_photos(folder: Path, variables: Mapping[str, str]) -> None:
    """Have the photos of a local data set in the worktree; raises UserError where they are no longer there."""
    dataset = _yaml(folder / paths.PARAMS).get("dataset", {})
    if dataset.get("name") != "local":
        return  # fetched by the download stage, and checked by their hashes
    if dataset.get("path") == "data.yaml":
        pipeline.fetch_data(folder, variables)
    elif not Path(str(dataset.get("path"))).is_dir():
        raise UserError(f"the photos of the run are no longer there: there is no folder {dataset.get('path')}")


def _then(record: Record, folder: Path) -> verdict.Facts:
    """What the run says of itself, and the versions that its commit names."""
    from flowers.tracking import runs

    inputs = {name: record.tags.get(f"flowers.{tag}_digest") for name, tag in _DIGESTS.items()}
    with contextlib.chdir(folder):
        versions = run_key.versions()
    return verdict.Facts(
        processor=record.tags.get(runs.PROCESSOR),
        precision=record.tags.get("flowers.precision"),
        versions=versions,
        inputs={name: digest for name, digest in inputs.items() if digest},
        result=record.tags[runs.RESULT],
    )


def _machine() -> verdict.Facts:
    from flowers.tracking import provenance

    versions = {}
    for name in ("tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name.removesuffix("-cpu")] = importlib.metadata.version(name)
    return verdict.Facts(provenance.processor(), versions=versions)


def _inputs(folder: Path) -> dict[str, str]:
    """The digests of what went in, as the run key takes them."""
    with contextlib.chdir(folder):
        return {
            "photos": run_key.file_digest(paths.IMAGE_LIST),
            "split": run_key.file_digest(paths.SPLIT),
            "weights": run_key.file_digest(paths.WEIGHTS),
            "code": run_key.code_digest(),
        }


def _with_result(here: verdict.Facts, folder: Path) -> verdict.Facts:
    from flowers.tracking import result

    with contextlib.chdir(folder):
        digest = result.published_digest()
    model = json.loads((folder / paths.MODEL / "model.json").read_text(encoding="utf-8"))
    return replace(here, precision=str(model.get("precision")), result=digest)


def _compared(record: Record, folder: Path) -> list[files.File]:
    """Every file of the run and of what was made again, in the order of the stages."""
    from flowers.tracking import recorded, result
    from flowers.tracking.model import DIGEST

    kept, made = recorded.files(record.folder), _made(folder)
    compared = []
    for path, tag in ((paths.IMAGE_LIST, "flowers.data_digest"), (paths.WEIGHTS, "flowers.weights_digest")):
        name = path.as_posix()
        compared.append(files.by_digest(name, record.tags.get(tag), run_key.file_digest(folder / path)))
    model = paths.MODEL.as_posix()
    if not any(name.startswith(f"{model}/") for name in kept) and (folder / model).is_dir():
        with contextlib.chdir(folder):
            digest = result.model_digest(run_key.file_digest(paths.WEIGHTS))
        compared.append(files.by_digest(model, record.tags.get(DIGEST), digest))
        made = {name: file for name, file in made.items() if not name.startswith(f"{model}/")}
    compared += files.compare(kept, made)

    def place(file: files.File) -> tuple[int, str]:
        stages = [number for number, path in enumerate(_ORDER) if Path(file.path).is_relative_to(path)]
        return (*stages, len(_ORDER))[0], file.path

    return sorted(compared, key=place)


def _made(folder: Path) -> dict[str, Path]:
    found = [folder / path for path in _SINGLE]
    found += [file for path in (paths.MODEL, paths.EVALUATION) for file in (folder / path).rglob("*")]
    return {file.relative_to(folder).as_posix(): file for file in found if file.is_file()}


def _photos_in_lock(lock: Path | None) -> str | None:
    """The hash of all photos in a dvc.lock."""
    if lock is None or not lock.is_file():
        return None
    outputs = _yaml(lock).get("stages", {}).get("download", {}).get("outs", [])
    return next((str(out["md5"]) for out in outputs if out.get("path") == paths.IMAGES.as_posix()), None)


def _yaml(file: Path) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(file.read_text(encoding="utf-8"))


def _show(found: document.Document) -> None:
    from rich.console import Console

    document.show(found, Console())
