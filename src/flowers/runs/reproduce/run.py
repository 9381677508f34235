"""The command `flowers reproduce`."""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.reporting import document
from flowers.runs.reproduce import evidence, files, pipeline, record, verdict, worktree, yaml_file
from flowers.runs.reproduce.record import Origin, Record

_SINGLE = (paths.SPLIT, paths.SPLIT_REPORT, paths.HISTORY)
_ORDER = (paths.IMAGE_LIST, paths.WEIGHTS, *_SINGLE, paths.MODEL)


def reproduce(reference: str, keep: bool, fresh: bool) -> int:
    """Make a run again from its commit in a temporary worktree, and print what became of each of its files.

    Returns 0 where they are the same bytes, else 1. Raises UserError where the run cannot be found or made again.
    """
    worktree.prefix()  # before the store is asked: without git nothing can be done
    with pipeline.ended_in_order(), tempfile.TemporaryDirectory(prefix="flowers-run-") as place:
        found = record.find(reference, Path(place))
        patched = {origin.commit for origin in found.origins if found.changes(origin.commit)}
        origin = record.choose(found.origins, worktree.has, patched)
        patch = None if origin.clean else found.changes(origin.commit)
        named = f"commit {origin.commit[:12]}{' and the changes that were kept' if patch else ''}"
        console.say(f"Run {found.named}: {named}")
        with worktree.checkout(origin.commit, keep) as folder:
            if patch is not None:
                worktree.apply(patch, folder)
            worktree.share_dvc(folder, remotes=False)
            unknown = worktree.set_parameters(folder, found.folder / "run" / paths.PARAMS, found.params)
            if unknown:
                console.warn(f"the code of the run knows no parameter {', '.join(unknown)}")
            return _again(found, origin, f"Run {found.named}, made again from {named}", folder, fresh)


def _again(found: Record, origin: Origin, title: str, folder: Path, fresh: bool) -> int:
    """Run the pipeline in the worktree and print the verdict."""
    lost = not origin.clean and found.changes(origin.commit) is None
    if lost:
        console.warn("the run was made with uncommitted changes that were not kept; the commit alone is run")
    variables = pipeline.environment(folder, fresh)
    _bring_photos(folder, variables)
    then = evidence.of_run(found, folder)
    here = evidence.of_machine(then.versions)
    for difference in verdict.environment(then, here):
        console.warn(f"bits may differ: {difference}")
    stored = f"from {paths.cache_folder()} as far as they are there (--fresh computes them anew)"
    console.say(f"Activations: {'computed anew' if fresh else stored}")

    pipeline.run(pipeline.PHOTOS, folder, variables)
    here = evidence.with_inputs(here, folder)
    then = evidence.without_photos(then, here, found, folder)
    photos = here.inputs.get("photos")
    if then.inputs.get("photos", photos) == photos:
        pipeline.run(pipeline.RESULT, folder, variables)
        here = evidence.with_result(here, folder)
    else:
        console.say("Not trained: the photos are not those of the run")
    compared = _compared(found, folder, here.inputs)
    _show(verdict.document(title, compared, verdict.causes(then, here, lost, fresh)))
    return 0 if verdict.same(compared) else 1


def _bring_photos(folder: Path, variables: Mapping[str, str]) -> None:
    """Have the photos of a local data set in the worktree; raises UserError where they are no longer there."""
    dataset = yaml_file.read(folder / paths.PARAMS).get("dataset", {})
    if dataset.get("name") != "local":
        return  # fetched by the download stage, and checked by their hashes
    if dataset.get("path") == "data.yaml":
        pipeline.fetch_data(folder, variables)
    elif not Path(str(dataset.get("path"))).is_dir():
        raise UserError(f"the photos of the run are no longer there: there is no folder {dataset.get('path')}")


def _compared(found: Record, folder: Path, inputs: Mapping[str, str]) -> list[files.File]:
    """Every file of the run and of what was made again, in the order of the stages."""
    from flowers.tracking import artifacts, model, result

    kept, made = artifacts.files(found.folder), _made(folder)
    compared = [
        files.by_digest(paths.IMAGE_LIST, found.tags.get("flowers.data_digest"), inputs.get("photos")),
        files.by_digest(paths.WEIGHTS, found.tags.get("flowers.weights_digest"), inputs.get("weights")),
    ]
    if not _of_model(kept) and _of_model(made):
        with contextlib.chdir(folder):
            digest = result.model_digest(inputs.get("weights", ""))
        compared.append(files.by_digest(paths.MODEL, found.tags.get(model.DIGEST), digest))
        made = {name: file for name, file in made.items() if name not in _of_model(made)}
    return sorted([*compared, *files.compare(kept, made)], key=_place)


def _made(folder: Path) -> dict[str, Path]:
    """The files of the result in a checkout, by their paths in it."""
    below = [file for path in (paths.MODEL, paths.EVALUATION) for file in (folder / path).rglob("*")]
    there = [file for file in (*(folder / path for path in _SINGLE), *below) if file.is_file()]
    return {file.relative_to(folder).as_posix(): file for file in there}


def _of_model(named: Mapping[str, Path]) -> list[str]:
    return [name for name in named if Path(name).is_relative_to(paths.MODEL)]


def _place(file: files.File) -> tuple[int, str]:
    """Where a file stands among those of the stages."""
    numbers = [number for number, path in enumerate(_ORDER) if Path(file.path).is_relative_to(path)]
    return min(numbers, default=len(_ORDER)), file.path


def _show(found: document.Document) -> None:
    from rich.console import Console

    document.show(found, Console())
