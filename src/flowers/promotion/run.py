"""The command `flowers promote`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowers import console, paths
from flowers.comparison.answers import Answers, read
from flowers.errors import UserError
from flowers.params import Params, PromoteParams
from flowers.promotion import decide, probe
from flowers.reporting.document import Document, Section, Table
from flowers.reporting.measures import NAMES, PLAIN

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from flowers.tracking.registry import Champion

_VALIDATION = f"evaluation/{paths.VALIDATION.name}"


@dataclass(frozen=True)
class _Outcome:
    """What was decided, check by check."""

    checks: list[decide.Check]
    first: bool  # there was no champion

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def promote(params: Params, name: str, force: str | None) -> int:
    """Make the model of a run the champion where it earned it; returns the exit status, 0 when it is the champion.

    `force` is the reason to do so whatever the checks say. Raises UserError where the run is not found or lacks what
    the decision needs, and StoreUnreachable where the tracking server does not answer.
    """
    from flowers.tracking import lookup, registry, store

    if force is not None and not force.strip():
        raise UserError("--force takes the reason, such as --force 'the champion has learned from mislabelled photos'")
    registered = lookup.registered_model(store.experiment_name(params))
    with store.lock("promote"), store.explained("promoting in"):
        with store.patience(*store.SHORT), store.lock():
            client = store.connect()
        with store.patience(*store.LONG):
            run = lookup.find(client, name, registered)
            if run is None:
                raise UserError(f"'{name}' is no run in MLflow (id, name or alias); `make ui` shows which there are")
            champion = registry.champion(client, registered)
            if champion and champion.run.info.run_id == run.info.run_id:
                console.say(f"run {lookup.described(run)} is the champion already (version {champion.version})")
                return 0
            outcome = _decide(client, run, champion.run if champion else None, params.promote)
            _show(run, champion, outcome)
            if not outcome.passed and force is None:
                console.say(
                    "Not promoted. To do so all the same, with the reason kept: flowers promote ... --force 'REASON'"
                )
                return 1
            version = registry.promote(client, registered, run, champion, _record(outcome, champion, force))
            registry.note_reading(client, run, f"promoted as {registered} version {version}")
            _announce(client, run, f"{registered}, version {version}", champion)
    return 0


def _decide(client: "MlflowClient", run: "Run", champion: "Run | None", wanted: PromoteParams) -> _Outcome:
    candidate = _validation(client, run, held_out=True)
    checks = []
    if champion is not None:
        checks.append(decide.against(_validation(client, champion, held_out=False), candidate))
    checks += decide.floors(candidate, wanted.floors)
    checks.append(probe.check(client, run, candidate, wanted.probe_photos))
    return _Outcome(checks, champion is None)


def _validation(client: "MlflowClient", run: "Run", held_out: bool) -> Answers:
    """A run's answers on the validation photos. Raises UserError where it has none, or was trained on them."""
    from flowers.tracking import lookup, runs

    named = lookup.described(run)
    content = lookup.artifact(client, run, _VALIDATION)
    if content is None:
        if runs.STUDY in run.data.tags:
            raise UserError(
                f"run {named} belongs to a study: `flowers tune --apply`, then `dvc repro`, makes a model of it"
            )
        raise UserError(
            f"run {named} has no {_VALIDATION}: it was not evaluated, or not by this project's present code"
        )
    if held_out and run.data.params.get("train.on") != "train":
        raise UserError(
            f"run {named} was trained on the validation photos, too: they cannot judge it; compare test scores"
        )
    return Answers(named, "", run.data.params, {}, read(content, named))


def _show(run: "Run", champion: "Champion | None", outcome: _Outcome) -> None:
    from rich.console import Console

    from flowers.reporting import document
    from flowers.tracking import lookup

    champion_is = champion and f"{lookup.described(champion.run)}, version {champion.version}"
    against = f"against the champion, {champion_is}" if champion else "with no champion yet"
    rows = [[check.name, "yes" if check.passed else "no", check.found] for check in outcome.checks]
    lead = [] if champion else ["There is nobody to beat: floors and answers alone decide."]
    table = Section("Checks on validation photos", [Table(["", "passed", "found"], rows, left=3)])
    document.show(Document(f"{lookup.described(run)} {against}", lead, [table]), Console())


def _record(outcome: _Outcome, champion: "Champion | None", force: str | None) -> dict[str, object]:
    return {
        "succeeds": champion.version if champion else None,
        "checks": {check.name: f"{'passed' if check.passed else 'failed'}: {check.found}" for check in outcome.checks},
        "forced": None if outcome.passed else force,
    }


def _announce(client: "MlflowClient", run: "Run", version: str, champion: "Champion | None") -> None:
    """Say what became champion, and its test scores: read now, when they can decide nothing any more."""
    found = client.get_run(run.info.run_id).data.metrics
    scores = []
    for key, title in NAMES.items():
        if (value := found.get(f"test_{key}")) is not None:
            scores.append(f"{title} {value:.3f}" if key in PLAIN else f"{title} {100 * value:.1f} %")
    console.say(f"Champion: {version}. Test scores, read after the decision: {', '.join(scores)}")
    if champion:
        console.say(f"To go back: flowers promote {champion.run.info.run_id[:8]} --force 'REASON'")
