"""The command `flowers promote`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config.params import Params, PromoteParams
from flowers.reporting import document
from flowers.reporting.document import Document, Section, Table
from flowers.reporting.measures import NAMES, number
from flowers.runs.find import pipeline_run
from flowers.runs.predictions import Predictions, read
from flowers.runs.promote import checks, prediction_check
from flowers.runs.promote.checks import Check
from flowers.tracking import lookup, registry, store
from flowers.tracking.registry import Champion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_VALIDATION, _NOVELTY = (f"evaluation/{path.name}" for path in (paths.VALIDATION, paths.NOVELTY))


def promote(params: Params, name: str, force: str | None) -> int:
    """Make a run's model champion if all checks pass, or for the reason `force`; then returns 0. Raises UserError."""
    if force is not None and not force.strip():
        raise UserError("--force takes the reason, such as --force 'the champion was trained on wrong labels'")
    with store.lock("promote"), store.explained("promoting in"), store.patience(*store.LONG):
        client, run = pipeline_run(name)
        # The data set is that of the run: params.yaml may name another one by now.
        logged = run.data.params
        registered = lookup.registered_model(logged["dataset.name"], logged["dataset.path"])
        champion = registry.champion(client, registered)
        if champion and champion.run and champion.run.info.run_id == run.info.run_id:
            console.say(f"run {lookup.described(run)} is already the champion (version {champion.version})")
            return 0
        found = _checks(client, run, champion, params.promote)
        _show(run, champion, found)
        passed = all(check.passed for check in found)
        if not passed and force is None:
            console.say("Not promoted. To promote it anyway and keep the reason: flowers promote ... --force 'REASON'")
            return 1
        decision = {
            "succeeds": champion.version if champion else None,
            "checks": {check.name: f"{'passed' if check.passed else 'failed'}: {check.found}" for check in found},
            "forced": None if passed else force,
        }
        version = registry.promote(client, registered, run, champion, decision)
        _announce(client, run, f"{registered}, version {version}", champion)
    return 0


def _checks(client: "MlflowClient", run: "Run", champion: Champion | None, wanted: PromoteParams) -> list[Check]:
    """All checks of the candidate. One for which the predictions are missing or not usable fails."""
    candidate, reason = _on_validation(client, run)
    count = f"{len(candidate.table)} images" if candidate else ""
    found = [Check(checks.JUDGED, not reason, reason or count)]
    if champion is not None:
        theirs, weakness = _on_validation(client, champion.run)
        if theirs is None or weakness:
            found.append(Check(checks.BETTER, False, f"the champion cannot be compared: {weakness}"))
        elif candidate is not None and not reason:
            found.append(checks.against(theirs, candidate))
    if candidate is not None and not reason:
        found += checks.minimum_recall(candidate, wanted.floors)
        if wanted.unknown_auroc is not None:
            found.append(checks.unknown(lookup.artifact(client, run, _NOVELTY), wanted.unknown_auroc))
    if candidate is not None:
        found.append(prediction_check.check(client, run, candidate, wanted.probe_photos))
    return found


def _on_validation(client: "MlflowClient", run: "Run | None") -> tuple[Predictions | None, str]:
    """A run's predictions on its validation images, and why they are no basis for a decision ("" where they are)."""
    if run is None:
        return None, "its run is gone for good"
    content = lookup.artifact(client, run, _VALIDATION)
    if content is None:
        return None, f"it has no artifact {_VALIDATION}: it was evaluated by other code, or the artifact is lost"
    named = lookup.described(run)
    predictions = Predictions(named, "", run.data.params, {}, read(content, named))
    seen = run.data.params.get("train.on") != "train"
    return predictions, "it was trained on the validation images, too" if seen else ""


def _show(run: "Run", champion: Champion | None, found: Sequence[Check]) -> None:
    against = "with no champion yet"
    if champion:
        name = f"{lookup.described(champion.run)}, " if champion.run else ""
        against = f"against the champion, {name}version {champion.version}"
    rows = [[check.name, "yes" if check.passed else "no", check.found] for check in found]
    lead = [] if champion else ["No champion yet: only the minimums and the prediction check apply."]
    table = Section("Checks on validation images", [Table(["", "passed", "found"], rows, left=3)])
    document.show(Document(f"{lookup.described(run)} {against}", lead, [table]))


def _announce(client: "MlflowClient", run: "Run", version: str, champion: Champion | None) -> None:
    """Print the new champion and its test scores, which are read only after the decision."""
    console.say(f"Champion: {version}")
    try:
        registry.note_reading(client, run, f"promoted as {version}")
    except Exception as error:  # of MLflow or of the network: the alias has moved already
        console.warn(f"its test scores are not read: the reading cannot be noted on the run ({type(error).__name__})")
    else:
        found = client.get_run(run.info.run_id).data.metrics
        scores = {title: number(key, found[f"test_{key}"]) for key, title in NAMES.items() if f"test_{key}" in found}
        shown = ", ".join(f"{title} {value}" for title, value in scores.items())
        console.say(f"Test scores, read after the decision: {shown}")
    if champion and champion.run:
        console.say(f"To go back: flowers promote {champion.run.info.run_id[:8]} --force 'REASON'")
