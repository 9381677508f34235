"""Studies in the store: one parent run per study, one child run per trial; repeating a call changes nothing.

A child run ends FINISHED when its trial was completed, KILLED when it was pruned or interrupted and FAILED when it
failed; the tag `flowers.state` says which, with the epoch or the error.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.common import console
from flowers.config.params import Params
from flowers.tracking import provenance, run_key, runs, store
from flowers.tracking.live import Stream
from flowers.tracking.result import flattened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TRIAL = "flowers.trial"  # its number, on a child
STATE = "flowers.state"
SCORE = "val_mean_per_class_accuracy"  # of an epoch

LATER = "To publish it later: run the same command again"
_STATUS = {"completed": "FINISHED", "pruned": "KILLED", "interrupted": "KILLED", "failed": "FAILED"}

Exclusive = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class StudyFacts:
    """What the parent run holds of a study; `described` becomes its parameters."""

    uid: str
    name: str
    key: run_key.RunKey
    described: Mapping[str, str]


@dataclass(frozen=True)
class TrialFacts:
    """What a child run holds of a trial; `state` is completed, pruned, failed or interrupted.

    `scores` holds the intermediate scores by epoch.
    """

    number: int
    params: Params
    state: str
    detail: str
    value: float  # the score of a completed one
    scores: Mapping[int, float] = field(default_factory=dict)


def ending(state: str, detail: str = "") -> tuple[str, dict[str, str]]:
    """MLflow's status for a trial's state, and the tags with the state and its detail."""
    return _STATUS[state], {STATE: f"{state}: {detail}"[:500] if detail else state}


class StudyRuns:
    """The runs of a study. Errors of the store are warnings, and never end the study."""

    def __init__(self, facts: StudyFacts, settings: Params, exclusive: Exclusive) -> None:
        """`exclusive` is the lock of the study's storage, so that machines that share it create each run once."""
        self._facts, self._settings, self._exclusive = facts, settings, exclusive
        self._client: Any = None
        self._parent: Any = None
        with self._attempted():
            self._open()

    def trial(self, number: int, params: Params) -> Stream:
        """The stream of a trial's epochs into its child run; the caller closes it."""
        return Stream(lambda: self._child(number, params) if self._parent else None, LATER)

    def note_score(self, number: int, value: float) -> None:
        """Add a trial's score to the curve of the parent; to be called before the trial is completed in the study.

        `finish` adds missing scores of completed trials, and must not run in between.
        """
        if self._parent is not None:
            with self._attempted():
                run_id = self._parent.info.run_id
                if number not in self._steps(run_id, "score"):
                    self._client.log_metric(run_id, "score", value, step=number)

    def finish(
        self,
        trials: Sequence[TrialFacts],
        tables: Mapping[str, Any],
        folder: Path,
        status: str,
        importances: Mapping[str, float] | None = None,
    ) -> None:
        """Add what the runs lack: trials, the best one, tables (name -> DataFrame) and the files of a folder.

        `importances` are shares by parameter; `status` is FINISHED, or KILLED when the study was interrupted.
        """
        with self._attempted():
            if self._parent is None:  # the store was unreachable when the study began
                self._open()
            with self._exclusive():
                self._finish_trials(trials)
                self._finish_scores(trials, importances or {})
        with self._attempted(store.LONG):
            if self._parent is None:
                return
            run_id = self._parent.info.run_id
            for name, table in tables.items():
                runs.log_table(self._client, run_id, f"tables/{name}.json", table)
            self._client.log_artifacts(run_id, str(folder))
            runs.end(self._client, self._parent, status)

    @contextlib.contextmanager
    def _attempted(self, patience: tuple[int, int] = store.SHORT) -> Iterator[None]:
        try:
            with store.patience(*patience):
                yield
        except Exception as error:
            self._parent = None
            reason = store.without_password(" ".join(str(error).split()))[:200]
            console.warn(f"the study is not in MLflow: {reason}. {LATER}")

    def _open(self) -> None:
        with self._exclusive(), store.lock():
            client = store.connect()
            found = _search(client, f"tags.`{runs.STUDY}` = '{self._facts.uid}'")
            parent = next((run for run in found if TRIAL not in run.data.tags), None)
            if parent is not None:
                runs.link(client, parent)
            self._client, self._parent = client, parent or self._create_parent(client)
            self._log_missing(self._parent, self._facts.described)
            runs.note_origin(client, self._parent)
        if self._parent.info.status != "RUNNING":
            client.update_run(self._parent.info.run_id, status="RUNNING")

    def _create_parent(self, client: "MlflowClient") -> "Run":
        key = self._facts.key
        tags = {
            runs.STUDY: self._facts.uid,
            "flowers.data_digest": key.data,
            "flowers.split_digest": key.split,
            "flowers.weights_digest": key.weights,
            "flowers.code_digest": key.code,
            runs.PROCESSOR: provenance.processor(),
            "mlflow.source.name": "flowers tune",
        }
        return runs.create(client, self._settings, f"study: {self._facts.name}", tags)

    def _child(self, number: int, params: Params) -> tuple["MlflowClient", "Run"]:
        """The child run of a trial; only the process that owns the trial opens it, so there is no race."""
        found = _search(self._client, f"tags.`{runs.STUDY}` = '{self._facts.uid}' AND tags.`{TRIAL}` = '{number}'")
        run = found[0] if found else self._create_child(number)
        self._log_missing(run, flattened(params))
        return self._client, run

    def _create_child(self, number: int) -> "Run":
        tags = {
            "mlflow.parentRunId": self._parent.info.run_id,
            runs.STUDY: self._facts.uid,
            TRIAL: str(number),
            runs.PROCESSOR: provenance.processor(),
        }
        experiment = self._parent.info.experiment_id
        return self._client.create_run(experiment, run_name=f"trial {number}", tags=tags)

    def _log_missing(self, run: "Run", values: Mapping[str, str]) -> None:
        """Log parameters that a run lacks: the process that created it may have died before it logged them."""
        from mlflow.entities import Param

        missing = [Param(name, value) for name, value in values.items() if name not in run.data.params]
        if missing:
            self._client.log_batch(run.info.run_id, params=missing, synchronous=True)

    def _finish_trials(self, trials: Sequence[TrialFacts]) -> None:
        """Complete the runs of trials that ended while the store was unreachable, or whose process died."""
        found = _search(self._client, f"tags.`{runs.STUDY}` = '{self._facts.uid}'")
        there = {run.data.tags[TRIAL]: run for run in found if TRIAL in run.data.tags}
        for trial in trials:
            run = there.get(str(trial.number))
            status, tags = ending(trial.state, trial.detail)
            if run is not None and run.info.status == status and run.data.tags.get(STATE) == tags[STATE]:
                continue
            if run is None:
                run = self._create_child(trial.number)
            self._log_missing(run, flattened(trial.params))
            run_id = run.info.run_id
            steps = self._steps(run_id, SCORE)
            points = [(step, {SCORE: value}) for step, value in sorted(trial.scores.items()) if step not in steps]
            runs.log_points(self._client, run_id, points)
            for name, value in tags.items():
                self._client.set_tag(run_id, name, value)
            runs.end(self._client, run, status)

    def _finish_scores(self, trials: Sequence[TrialFacts], importances: Mapping[str, float]) -> None:
        """Log scores at the number of their trial, and the best score and importances at the count of ended trials."""
        run_id = self._parent.info.run_id
        scored = {trial.number: trial.value for trial in trials if trial.state == "completed"}
        for number in sorted(scored.keys() - self._steps(run_id, "score")):
            self._client.log_metric(run_id, "score", scored[number], step=number)
        ended = sum(trial.state != "interrupted" for trial in trials)
        if scored and ended not in self._steps(run_id, "best_score"):
            best = max(scored, key=lambda number: (scored[number], -number))
            shares = {f"importance/{name}": share for name, share in importances.items()}
            runs.log_points(self._client, run_id, [(ended, {"best_score": scored[best]} | shares)])
            self._client.set_tag(run_id, "flowers.best_trial", str(best))

    def _steps(self, run_id: str, metric: str) -> set[int]:
        return {point.step for point in self._client.get_metric_history(run_id, metric)}


def _search(client: "MlflowClient", condition: str) -> list["Run"]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=1000)]
    return list(client.search_runs(experiments, condition, order_by=["attributes.start_time ASC"], max_results=10_000))
