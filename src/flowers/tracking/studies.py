"""Studies in the store: one parent run per study, one child run per trial; repeating a call changes nothing.

A child run ends FINISHED when its trial was completed, KILLED when it was pruned or interrupted and FAILED when it
failed; the tag `flowers.state` says which, with the epoch or the error.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.common import console
from flowers.config.params import Params
from flowers.tracking import dataset, provenance, run_key, runs, store
from flowers.tracking.live import Stream
from flowers.tracking.result import SCORE, flattened
from flowers.tracking.run_name import run_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TRIAL = "flowers.trial"  # its number, on a child
STATE = "flowers.state"

LATER = "To publish it later: run the same command again"
_STATUS = {"completed": "FINISHED", "pruned": "KILLED", "interrupted": "KILLED", "failed": "FAILED"}

Exclusive = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class TrialFacts:
    """What a child run holds of a trial; `state` is completed, pruned, failed or interrupted."""

    number: int
    params: Params
    state: str
    detail: str
    value: float  # the score of a completed one
    scores: Mapping[int, float] = field(default_factory=dict)  # by epoch


def ending(state: str, detail: str = "") -> tuple[str, dict[str, str]]:
    """MLflow's status for a trial's state, and the tags with the state and its detail."""
    return _STATUS[state], {STATE: f"{state}: {detail}"[:500] if detail else state}


@dataclass
class StudyRuns:
    """The runs of a study. Errors of the store are warnings, and never end the study."""

    uid: str
    name: str
    key: run_key.RunKey
    described: Mapping[str, str]  # the space and the settings of the study, by the names of their parameters
    settings: Params
    exclusive: Exclusive  # the lock of the study's storage, so that machines that share it create each run once
    _client: Any = None
    _parent: Any = None
    _first_attempt: int | None = None  # the number of the latest trial, if it had no run before
    _dataset: Any = None

    def __post_init__(self) -> None:
        with self._attempted():
            self._open()

    def trial(self, number: int, params: Params) -> Stream:
        """The stream of a trial's epochs into its child run; the caller closes it."""

        def child() -> tuple["MlflowClient", "Run"] | None:
            if self._parent is None:
                return None
            # Only the process that owns the trial opens its run, so there is no race.
            found = self._search(f" AND tags.`{TRIAL}` = '{number}'")
            self._first_attempt = None if found else number
            return self._client, self._child(number, params, *found[:1])

        return Stream(child, LATER)

    def note_score(self, number: int, value: float) -> None:
        """Add a trial's score to the curve of the parent; to be called before the trial is completed in the study.

        `finish` adds missing scores of completed trials, and must not run in between.
        """
        if self._parent is not None:
            with self._attempted():
                # The scores of all trials are read only where an earlier attempt may have added this one.
                new = number == self._first_attempt
                runs.log_points(self._client, self._parent.info.run_id, [(number, {"score": value})], new=new)

    def finish(
        self,
        trials: Sequence[TrialFacts],
        tables: Mapping[str, Any],
        folder: Path,
        status: str,
    ) -> None:
        """Add what the runs lack: trials, the best one, tables (name -> DataFrame) and the files of a folder.

        `status` is FINISHED, or KILLED when the study was interrupted.
        """
        with self._attempted():
            if self._parent is None:  # the store was unreachable when the study began
                self._open()
            with self.exclusive():
                self._finish_trials(trials)
                self._finish_scores(trials)
        with self._attempted(store.LONG):
            if self._parent is None:
                return
            run_id = self._parent.info.run_id
            named = {f"tables/{name}.json": table for name, table in tables.items()}
            runs.log_tables(self._client, self._parent, named)
            self._client.log_artifacts(run_id, str(folder))
            runs.end(self._client, self._parent, status)

    def note(self, text: str) -> None:
        """Write the note on the parent run (Markdown), unless a person edited the one before."""
        if self._parent is None:
            return
        with self._attempted():
            runs.write_note(self._client, self._parent.info.run_id, text)

    @contextlib.contextmanager
    def _attempted(self, patience: tuple[int, int] = store.SHORT) -> Iterator[None]:
        try:
            with store.patience(*patience):
                yield
        except Exception as error:
            self._parent = None
            console.warn(f"the study is not in MLflow: {store.reason(error)}. {LATER}")

    def _search(self, condition: str = "") -> list["Run"]:
        """The runs of the study that meet another condition, too."""
        return runs.search(self._client, f"tags.`{runs.STUDY}` = '{self.uid}'{condition}")

    def _open(self) -> None:
        with self.exclusive(), store.lock():
            self._client = client = store.connect()
            parent = next((run for run in self._search() if TRIAL not in run.data.tags), None)
            if parent is None:
                tags = {"mlflow.source.name": "flowers tune", **self._tags(), **self.key.tags}
                parent = runs.create(client, self.settings, f"study: {self.name}", tags)
            else:
                runs.link(client, parent)
            self._parent = parent
            # All parameters, as on other runs: MLflow compares those that differ, and a missing one differs.
            runs.log_params(client, parent, {**flattened(self.settings), **self.described})
            self._dataset = dataset.described(self.settings, self.key)
            self._add_dataset(parent)
            runs.note_origin(client, parent)
        if parent.info.status != "RUNNING":
            client.update_run(parent.info.run_id, status="RUNNING")

    def _tags(self) -> dict[str, str]:
        return {runs.STUDY: self.uid, runs.PROCESSOR: provenance.processor()}

    def _child(self, number: int, params: Params, run: "Run | None" = None) -> "Run":
        """The child run of a trial, created if there is none, with its parameters and its data set."""
        if run is None:
            tags = {"mlflow.parentRunId": self._parent.info.run_id, TRIAL: str(number), **self._tags()}
            name = f"trial {number}: {run_name(params)}"
            run = self._client.create_run(self._parent.info.experiment_id, run_name=name, tags=tags)
        # The process that created it may have died before it logged them.
        runs.log_params(self._client, run, flattened(params))
        self._add_dataset(run)
        return run

    def _add_dataset(self, run: "Run") -> None:
        if not (run.inputs and run.inputs.dataset_inputs):
            self._client.log_inputs(run.info.run_id, datasets=[self._dataset])

    def _finish_trials(self, trials: Sequence[TrialFacts]) -> None:
        """Complete the runs of trials that ended while the store was unreachable, or whose process died."""
        there = {run.data.tags[TRIAL]: run for run in self._search() if TRIAL in run.data.tags}
        for trial in trials:
            run = there.get(str(trial.number))
            status, tags = ending(trial.state, trial.detail)
            if run is not None and run.info.status == status and run.data.tags.get(STATE) == tags[STATE]:
                continue
            run = self._child(trial.number, trial.params, run)
            scores = [(step, {SCORE: value}) for step, value in sorted(trial.scores.items())]
            runs.log_points(self._client, run.info.run_id, scores)
            self._client.set_tag(run.info.run_id, STATE, tags[STATE])
            runs.end(self._client, run, status)

    def _finish_scores(self, trials: Sequence[TrialFacts]) -> None:
        """Log scores at the number of their trial, and at each ended trial the best score up to there."""
        run_id = self._parent.info.run_id
        scored = {trial.number: trial.value for trial in trials if trial.state == "completed"}
        runs.log_points(self._client, run_id, [(number, {"score": scored[number]}) for number in sorted(scored)])
        if not scored:
            return
        best = max(scored, key=lambda number: (scored[number], -number))
        ended = sorted(trial.number for trial in trials if trial.state != "interrupted")
        highest = itertools.accumulate((scored.get(number, float("-inf")) for number in ended), max)
        staircase = [
            (n, {"best_score": value}) for n, value in zip(ended, highest, strict=True) if math.isfinite(value)
        ]
        # A trial that was interrupted may raise a value later.
        runs.log_points(self._client, run_id, staircase, by_value=True)
        # The metric of trials and pipeline runs, so that MLflow compares the study with them.
        runs.log_points(self._client, run_id, [(0, {SCORE: scored[best]})], by_value=True)
        self._client.set_tag(run_id, "flowers.best_trial", str(best))
