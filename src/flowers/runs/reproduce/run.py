"""The command `flowers reproduce`."""

import json
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.reporting import document
from flowers.reporting.document import Document, Section, Table
from flowers.runs import dvc_lock, verdict
from flowers.runs.find import artifact, pipeline_run
from flowers.runs.reproduce import worktree
from flowers.runs.verdict import Result
from flowers.tracking import lookup, provenance, runs, store

_COMPARED = (verdict.METRICS, verdict.PREDICTIONS)  # of these a run's files are compared, of others the hashes


@dataclass(frozen=True)
class Recorded:
    """What a run in MLflow records: the commit to start from, the `patch` of uncommitted changes, and params.yaml.

    `lost` tells that there were changes which the run does not hold.
    """

    named: str
    commit: str
    patch: bytes | None
    lost: bool
    params: bytes
    result: Result


def reproduce(reference: str, keep: bool, fresh: bool) -> int:
    """Run the pipeline of a run's commit in a temporary worktree, and print which outputs differ from the run's.

    Returns 0 where they are the same bytes or equivalent, else 1. Raises UserError where the run cannot be made again.
    """
    worktree.git("rev-parse", "--git-dir")  # nothing can be done outside of a repository
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # cleans up, as Ctrl-C does
    run = find(reference)
    title = f"Run {run.named}: commit {run.commit[:12]}{' and its uncommitted changes' if run.patch else ''}"
    console.say(title)
    if run.lost:
        console.warn("the run was made with uncommitted changes that were not kept; the commit alone is run")
    for difference in verdict.of_machine(run.result.processor, run.result.lock.versions):
        console.warn(f"bits may differ: {difference}")
    with worktree.checkout(run.commit, run.patch, keep) as folder:
        worktree.share_dvc(folder)
        (folder / paths.PARAMS).write_bytes(run.params)
        here = _run_pipeline(folder, run.result, fresh)
    table = Table(["output", "verdict", "difference"], verdict.compare(run.result, here), left=3)
    found = verdict.judge(run.result, here, run.lost, fresh)
    document.show(Document(title, [], [Section("Outputs", [table]), Section("Verdict", found.lines)]))
    return found.status


def find(reference: str) -> Recorded:
    """What a run (id, name or alias) records. Raises UserError where it cannot be made again, and StoreUnreachable."""
    with store.explained("looking for a run in"), store.patience(*store.SHORT):
        client, run = pipeline_run(reference)
        named, tags, listed = lookup.described(run), run.data.tags, commits(run.data.tags)
        if not listed:
            raise UserError(f"run {named} has no commit in its tag {runs.COMMITS}: it was made without git")
        changed = [commit for commit, clean in listed if not clean]
        found = {commit: lookup.artifact(client, run, runs.changes_file(commit)) for commit in changed}
        patches = {commit: patch for commit, patch in found.items() if patch is not None}
        files = {path: artifact(client, run, path.removeprefix("build/")) for path in _COMPARED}
        params, lock = (artifact(client, run, name) for name in ("params.yaml", "dvc.lock"))
    commit, clean = choose(listed, worktree.has, {*patches})
    patch = None if clean else patches.get(commit)
    processor = tags.get(runs.PROCESSOR, "").partition(", published")[0]  # there from files
    result = Result(dvc_lock.read(lock), files, tags.get("flowers.precision", ""), processor)
    return Recorded(named, commit, patch, not clean and patch is None, params, result)


def commits(tags: Mapping[str, str]) -> list[tuple[str, bool]]:
    """The commits in a run's tag, oldest first, and whether each was clean; other items are ignored."""
    pattern = rf"([0-9a-f]{{40,64}}) ({provenance.CLEAN}|{provenance.CHANGED})"
    found = [re.fullmatch(pattern, item) for item in provenance.items(tags.get(runs.COMMITS))]
    return [(match[1], match[2] == provenance.CLEAN) for match in found if match]


def choose(listed: Sequence[tuple[str, bool]], here: Callable[[str], bool], patched: set[str]) -> tuple[str, bool]:
    """The commit to start from: a clean one, else one whose changes were kept (`patched`), else any that is `here`.

    Raises UserError where none is here.
    """
    if found := [(commit, clean) for commit, clean in listed if here(commit)]:
        return min(found, key=lambda origin: (not origin[1], origin[0] not in patched))
    names = console.listed([*dict.fromkeys(commit[:12] for commit, _ in listed)])
    raise UserError(
        f"the run was made at {names}, which this clone does not have; `git fetch` brings it where it was pushed "
        "(`git fetch --unshallow` in a shallow clone)"
    )


def _run_pipeline(folder: Path, then: Result, fresh: bool) -> Result:
    """Run the stages up to evaluate in the worktree; train and evaluate only on the images of the run."""
    variables = worktree.environment(folder, fresh)
    dataset = dvc_lock.yaml((folder / paths.PARAMS).read_text(encoding="utf-8")).get("dataset", {})
    if (dataset.get("name"), dataset.get("path")) == ("local", "data.yaml"):
        worktree.fetch_data(folder, variables)
    cached = f"from {paths.cache_folder()} where they are there (--fresh computes them anew)"
    console.say(f"Activations: {'computed anew' if fresh else cached}")
    lock, images = folder / "dvc.lock", paths.IMAGES.as_posix()
    lock.unlink(missing_ok=True)  # so that it lists only what is made here
    worktree.repro(("download", "split"), folder, variables)
    found = dvc_lock.read(lock.read_bytes())
    if found.outputs.get(images) != then.outputs.get(images):
        console.say("Not trained: the images are not those of the run")
        return Result(found, {})
    worktree.repro(("train", "evaluate"), folder, variables)
    precision = json.loads((folder / paths.MODEL / "model.json").read_bytes())["precision"]
    files = {path: (folder / path).read_bytes() for path in _COMPARED}
    return Result(dvc_lock.read(lock.read_bytes()), files, precision)
