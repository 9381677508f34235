"""What a run in MLflow says of its origin: the commits that lead to it, what was changed there, and its files."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Origin:
    """A commit, and whether it alone leads to the run."""

    commit: str
    clean: bool


@dataclass(frozen=True)
class Record:
    """A run whose result is complete: its artifacts lie in `folder`, as `tracking.recorded` leaves them.

    `params` are flat (head.dropout: 0.2), and only those that decide a result.
    """

    named: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    folder: Path

    @property
    def origins(self) -> list[Origin]:
        """The commits that lead to it, in the order in which they came."""
        return origins(self.tags)

    def artifact(self, path: str) -> Path | None:
        """One of its artifacts, if it is there."""
        file = self.folder / "run" / path
        return file if file.is_file() else None

    def changes(self, commit: str) -> Path | None:
        """The patch of what was changed since a commit, if it was kept."""
        from flowers.tracking import runs

        return self.artifact(runs.changes_file(commit))


def find(reference: str, folder: Path) -> Record:
    """The run that `reference` names (its name, id or alias), and its artifacts in `folder`.

    Raises UserError where there is none, several, or it cannot be made again; StoreUnreachable where the tracking
    server does not answer.
    """
    from flowers.config import params
    from flowers.tracking import artifacts, lookup, store

    with store.explained("looking for a run in"):
        with store.patience(*store.SHORT):
            client, run = lookup.find_anywhere(reference, params.load())
            if run is None:
                raise UserError(
                    f"'{reference}' is no run in MLflow (id, name or alias); `make ui` shows which there are"
                )
        if reason := _why_not(run):
            raise UserError(f"run {lookup.described(run)} {reason}")
        with store.patience(*store.LONG):
            artifacts.download(client, run, folder)
    record = Record(lookup.described(run), run.data.tags, run.data.params, folder)
    if record.artifact("params.yaml") is None:
        raise UserError(
            f"run {record.named} has lost its artifact params.yaml; "
            "`flowers track --force` in its checkout puts it back"
        )
    return record


def _why_not(run: "Run") -> str | None:
    """Why a run cannot be made again, if so."""
    from flowers.tracking import runs

    tags = run.data.tags
    if run.info.lifecycle_stage != "active":
        return f"was deleted; to have it back: mlflow runs restore --run-id {run.info.run_id}"
    if runs.STUDY in tags:
        return "belongs to a study, not to the pipeline: `flowers tune --apply`, `dvc repro`, and reproduce that run"
    if runs.SET_ASIDE in tags:
        return f"was set aside: {tags[runs.SET_ASIDE]}"
    if runs.KEY not in tags:
        return f"was not made by this project's pipeline: it has no tag {runs.KEY}"
    if runs.RESULT not in tags:
        return f"is not complete ({run.info.status}): there is no result to compare with"
    if not origins(tags):
        return f"does not say which commit made it: its tag {runs.COMMITS} names none (it was made without git)"
    return None


def origins(tags: Mapping[str, str]) -> list[Origin]:
    """The commits in a run's tag, in their order; what a person wrote there is passed over."""
    from flowers.tracking import provenance, runs

    listed = provenance.items(tags.get(runs.COMMITS))
    said = [re.fullmatch(rf"([0-9a-f]{{40,64}}) ({provenance.CLEAN}|{provenance.CHANGED})", item) for item in listed]
    return [Origin(match[1], match[2] == provenance.CLEAN) for match in said if match]


def choose(listed: Sequence[Origin], here: Callable[[str], bool], patched: Collection[str]) -> Origin:
    """The commit to start from: a clean one, else one whose changes were kept (`patched`), else any that is `here`.

    Raises UserError where none is here.
    """
    found = [origin for origin in listed if here(origin.commit)]
    if not found:
        commits = ", ".join(dict.fromkeys(origin.commit[:12] for origin in listed))
        raise UserError(
            f"the run was made at {commits}, which this clone does not have; `git fetch` brings it where it was pushed "
            "(`git fetch --unshallow` in a shallow clone)"
        )
    return min(found, key=lambda origin: (not origin.clean, origin.commit not in patched))
