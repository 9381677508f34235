"""Groups of trainings in the store: a parent run, and a child run per training; repeating a call changes nothing."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common import console
from flowers.config.params import Params
from flowers.tracking import provenance, run_key, runs, store
from flowers.tracking.live import Row
from flowers.tracking.result import flattened, point
from flowers.tracking.run_name import run_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TRAINING = "flowers.training"  # on a child: seed 3, fold 2
PRECISION = "flowers.precision"  # of the backbone
VERSIONS = "flowers.versions"  # of the packages that decide a result, as JSON
PREDICTIONS = "evaluation/predictions.csv"


def members(client: "MlflowClient", parent: "Run") -> dict[str, "Run"]:
    """The finished trainings of a group by their names, in the order in which they began."""
    found = runs.search(client, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return {
        run.data.tags[TRAINING]: run for run in found if TRAINING in run.data.tags and run.info.status == "FINISHED"
    }


class GroupRuns:
    """The runs of a group of trainings of `params` in one precision."""

    def __init__(self, params: Params, folds: int, precision: str) -> None:
        key = run_key.compute(params)
        self._named = f"{run_name(params)}, {folds} folds" if folds > 1 else run_name(params)
        self._tags = {runs.GROUP: f"{key.key} {folds} {precision}", PRECISION: precision, **key.tags}
        self._tags |= {runs.PROCESSOR: provenance.processor(), VERSIONS: json.dumps(run_key.versions())}
        with store.lock():
            self.client = client = store.connect()
            found = runs.search(client, f"tags.`{runs.GROUP}` = '{self._tags[runs.GROUP]}'")
            parent = next((run for run in found if TRAINING not in run.data.tags), None)
            if parent is None:
                tags = {"mlflow.source.name": "flowers seeds", **self._tags}
                parent = runs.create(client, params, f"seeds: {self._named}", tags)
            else:
                runs.link(client, parent)
            self.parent = parent
            runs.log_params(client, parent, flattened(params) | ({"folds": str(folds)} if folds > 1 else {}))
            runs.note_origin(client, parent)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Show the group as running; if the body raises, it ends as failed, or killed when interrupted."""
        self.client.update_run(self.parent.info.run_id, status="RUNNING")
        try:
            yield
        except BaseException as error:
            if kept := len(self.finished()):
                console.say(f"trainings kept: {kept}; the same command goes on with the others")
            runs.end(self.client, self.parent, "FAILED" if isinstance(error, Exception) else "KILLED")
            raise

    def finished(self) -> dict[str, "Run"]:
        """The finished trainings by their names."""
        return members(self.client, self.parent)

    def add(
        self,
        name: str,
        params: Params,
        began: float,
        epochs: Sequence[Row],
        scores: Mapping[str, float],
        predictions: Path,
    ) -> None:
        """Log a training: when it began (seconds since 1970), its epochs, test scores, and the file predictions.csv."""
        client, parent = self.client, self.parent.info
        same = f"tags.`mlflow.parentRunId` = '{parent.run_id}' AND tags.`{TRAINING}` = '{name}'"
        with store.lock():  # another process may add the same training
            run = next(iter(runs.search(client, same)), None)  # of a process that died before it had logged everything
            if run is None:
                tags = {**self._tags, "mlflow.parentRunId": parent.run_id, TRAINING: name}
                title = f"{self._named}, {name}"
                run = client.create_run(parent.experiment_id, int(1000 * began), tags, title)
        runs.log_params(client, run, flattened(params))
        points = [*map(point, epochs), (0, {f"test_{measure}": value for measure, value in scores.items()})]
        runs.log_points(client, run.info.run_id, points)
        client.log_artifact(run.info.run_id, str(predictions), Path(PREDICTIONS).parent.name)
        runs.end(client, run, "FINISHED")

    def histories(self, metric: str) -> list[list[float]]:
        """The values of a metric by epoch, of each finished training."""
        found = [self.client.get_metric_history(run.info.run_id, metric) for run in self.finished().values()]
        return [[point.value for point in sorted(points, key=lambda point: int(point.step))] for points in found]

    def finish(self, step: int, metrics: Mapping[str, float], note: str, folder: Path) -> None:
        """Log the scores of the group after `step` trainings, a note and the files of a folder on the parent."""
        run_id = self.parent.info.run_id
        runs.log_points(self.client, run_id, [(step, {name: value}) for name, value in metrics.items()])
        runs.write_note(self.client, run_id, note)
        self.client.log_artifacts(run_id, str(folder))
        runs.end(self.client, self.parent, "FINISHED")
