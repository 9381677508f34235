"""The command `flowers promote`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config.params import Params, PromoteParams
from flowers.reporting.document import Document, Section, Table
from flowers.reporting.measures import NAMES, number
from flowers.runs.predictions import Answers, read
from flowers.runs.promote import decide, probe

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from flowers.tracking.registry import Champion

_VALIDATION = f"evaluation/{paths.VALIDATION.name}"


def promote(params: Params, name: str, force: str | None) -> int:
    """Make the model of a run the champion where it earned it; returns the exit status, 0 when it is the champion.

    `force` is the reason to do so whatever the checks say. Raises UserError where the run is not found or is no model
    of this project, and StoreUnreachable where the tracking server does not answer.
    """
    from flowers.tracking import lookup, registry, store

    if force is not None and not force.strip():
        raise UserError("--force takes the reason, such as --force 'the champion has learned from mislabelled photos'")
    with store.lock("promote"), store.explained("promoting in"), store.patience(*store.LONG):
        client, run = lookup.find_anywhere(name, params)
        if run is None:
            raise UserError(f"'{name}' is no run in MLflow (id, name or alias); `make ui` shows which there are")
        _require_model(run)
        # By the data set of the run: another one may be in params.yaml by now.
        logged = run.data.params
        registered = lookup.registered_model(logged["dataset.name"], logged["dataset.path"])
        champion = registry.champion(client, registered)
        if champion and champion.run and champion.run.info.run_id == run.info.run_id:
            console.say(f"run {lookup.described(run)} is the champion already (version {champion.version})")
            return 0
        checks = _checks(client, run, champion, params.promote)
        _show(run, champion, checks)
        if not all(check.passed for check in checks) and force is None:
            console.say("Not promoted. All the same, with the reason kept: flowers promote ... --force 'REASON'")
            return 1
        version = registry.promote(client, registered, run, champion, _record(checks, champion, force))
        _announce(client, run, f"{registered}, version {version}", champion)
    return 0


def _require_model(run: "Run") -> None:
    """Raise UserError for a run that holds no finished model of this project."""
    from flowers.tracking import lookup, runs

    named = lookup.described(run)
    if runs.STUDY in run.data.tags:
        raise UserError(f"run {named} belongs to a study: `flowers tune --apply && dvc repro` makes a model of it")
    if runs.RESULT not in run.data.tags or "dataset.name" not in run.data.params:
        raise UserError(f"run {named} holds no finished model of this project, evaluated and published")


def _checks(
    client: "MlflowClient", run: "Run", champion: "Champion | None", wanted: PromoteParams
) -> list[decide.Check]:
    """Everything that the candidate must show. What cannot be judged is a check that it does not pass."""
    candidate, reason = _judged(client, run)
    photos = f"{len(candidate.table)} of them" if candidate else ""
    checks = [decide.Check(decide.JUDGED, not reason, reason or photos)]
    if champion is not None:
        theirs, weakness = _judged(client, champion.run)
        if theirs is None or weakness:
            checks.append(decide.Check(decide.BETTER, False, f"the champion cannot be judged: {weakness}"))
        elif candidate is not None and not reason:
            checks.append(decide.against(theirs, candidate))
    if candidate is not None and not reason:
        checks += decide.floors(candidate, wanted.floors)
    if candidate is not None:
        checks.append(probe.check(client, run, candidate, wanted.probe_photos))
    return checks


def _judged(client: "MlflowClient", run: "Run | None") -> tuple[Answers | None, str]:
    """A run's answers on its validation photos, and why they cannot judge it ("" where they can)."""
    from flowers.tracking import lookup

    if run is None:
        return None, "its run is gone for good"
    content = lookup.artifact(client, run, _VALIDATION)
    if content is None:
        return None, f"it keeps no {_VALIDATION}: it was evaluated by other code, or the artifact is lost"
    named = lookup.described(run)
    answers = Answers(named, "", run.data.params, {}, read(content, named))
    seen = run.data.params.get("train.on") != "train"
    return answers, "it was trained on the validation photos, too" if seen else ""


def _show(run: "Run", champion: "Champion | None", checks: Sequence[decide.Check]) -> None:
    from rich.console import Console

    from flowers.reporting import document
    from flowers.tracking import lookup

    against = "with no champion yet"
    if champion:
        name = f"{lookup.described(champion.run)}, " if champion.run else ""
        against = f"against the champion, {name}version {champion.version}"
    rows = [[check.name, "yes" if check.passed else "no", check.found] for check in checks]
    lead = [] if champion else ["There is nobody to beat: floors and answers alone decide."]
    table = Section("Checks on validation photos", [Table(["", "passed", "found"], rows, left=3)])
    document.show(Document(f"{lookup.described(run)} {against}", lead, [table]), Console())


def _record(checks: Sequence[decide.Check], champion: "Champion | None", force: str | None) -> dict[str, object]:
    return {
        "succeeds": champion.version if champion else None,
        "checks": {check.name: f"{'passed' if check.passed else 'failed'}: {check.found}" for check in checks},
        "forced": None if all(check.passed for check in checks) else force,
    }


def _announce(client: "MlflowClient", run: "Run", version: str, champion: "Champion | None") -> None:
    """Say what became champion, and its test scores: read now, when they can decide nothing any more."""
    from flowers.tracking import registry

    console.say(f"Champion: {version}")
    try:
        registry.note_reading(client, run, f"promoted as {version}")
    except Exception as error:  # of MLflow or of the network: the champion is in its place, whatever comes now
        console.warn(f"its test scores are not read, because that cannot be noted on the run: {type(error).__name__}")
    else:
        found = client.get_run(run.info.run_id).data.metrics
        scores = {title: number(key, found[f"test_{key}"]) for key, title in NAMES.items() if f"test_{key}" in found}
        shown = ", ".join(f"{title} {value}" for title, value in scores.items())
        console.say(f"Test scores, read after the decision: {shown}")
    if champion and champion.run:
        console.say(f"To go back: flowers promote {champion.run.info.run_id[:8]} --force 'REASON'")
