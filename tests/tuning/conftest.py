"""A checkout in which studies begin, a training that costs nothing, and what stands in for MLflow."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "pyproject.toml": '[tool.flowers.numerics]\ntensorflow = "1"\nkeras = "2"\nnumpy = "3"\n',
    "src/flowers/train.py": "rate = 1\n",
    "dvc.yaml": "stages:\n  train: {deps: [src/flowers/train.py]}\n  evaluate: {deps: [src/flowers/train.py]}\n",
}


@pytest.fixture
def checkout(world, monkeypatch):
    """The world with all that a study depends on, out of reach of the repository and the settings around the tests."""
    for name, text in FILES.items():
        (world.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (world.folder / name).write_text(text, encoding="utf-8")
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(world.folder.parent))
    return world


@pytest.fixture
def begin(checkout):
    """Begin or resume a study, as a fresh process would; the journal is a file of the checkout."""
    from flowers.tuning.space import Space
    from flowers.tuning.storage import Storage
    from flowers.tuning.study import Study

    def begin(journal: str | None = None, name: str | None = None, new: bool = False, **changes: dict):
        return Study(Storage(journal), Space(checkout.settings(**changes)), name, new)

    return begin


@pytest.fixture
def curve():
    """The class of `Curve`."""
    return Curve


@pytest.fixture
def runs():
    return Runs()


@pytest.fixture
def train(runs):
    """Train up to n trials of a study; returns all there are."""
    from flowers.tuning import worker

    def train(study, trainer, n_trials: int, stop: worker.Stop | None = None) -> list:
        worker.work(study, trainer, runs, n_trials, stop or worker.Stop())
        return study.trials()

    return train


@pytest.fixture
def dies():
    """Let the process that trains a trial be gone: none has that number."""
    from flowers.tuning import heartbeat

    def dies(study, number: int, process: str = "99999999") -> None:
        trial = study.trials()[number]
        worker = f"{heartbeat.machine()} {process} 1700000000"
        study.storage.optuna.set_trial_user_attr(trial._trial_id, heartbeat.WORKER, worker)

    return dies


@pytest.fixture
def start(checkout):
    """Start Python in the checkout with the text of a script and these settings."""
    processes = []

    def start(script: str, **changes: dict) -> subprocess.Popen[str]:
        settings = checkout.settings(**changes).model_dump_json(exclude_unset=True)
        command = [sys.executable, "-c", _FIRST + script, str(Path(__file__).parent), settings]
        process = subprocess.Popen(command, cwd=checkout.folder, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


_FIRST = """
import sys
sys.path.insert(0, sys.argv[1])
from conftest import Curve
from flowers.config.params import Params
from flowers.tuning.space import Space
from flowers.tuning.storage import Storage
from flowers.tuning.study import Study
settings = Params.model_validate_json(sys.argv[2])
"""


class Curve:
    """A trainer whose scores are a function of the parameters, the seed and the epoch; dropout above a limit diverges.

    The best is dropout 0.3 with a rate of 0.003. `trained` holds the settings and the seed of every training.
    """

    epochs = 9

    def __init__(self, watch=lambda epoch: None, limit: float = 1.0) -> None:
        """`watch` is called before each epoch is handed on."""
        self.trained, self._watch, self._limit = [], watch, limit

    def fit(self, settings, seed, fold, on_epoch):
        from flowers.training import phases

        self.trained.append((settings, seed))
        progress = phases.Progress()
        for epoch in range(self.epochs):
            score = self.score(settings, seed, epoch, fold)
            if epoch == 1 and settings.head.dropout > self._limit:
                raise phases.Diverged("the loss became nan")
            self._watch(epoch)
            on_epoch({"epoch": epoch, "phase": "head", "loss": 1 - score, "val_mean_per_class_accuracy": score})
            if score > progress.best_score[0]:
                progress.best_score, progress.best_epoch = (score, score - 1), epoch
        return progress

    @staticmethod
    def score(settings, seed: int = 0, epoch: int = 8, fold: int = 0) -> float:
        away = abs(settings.head.dropout - 0.3) + abs(math.log10(settings.train.learning_rate / 0.003))
        return (0.9 - away / 2 + (seed % 7) / 100 + fold / 50) * (1 - 0.5 ** (epoch + 1))


class Runs:
    """In the place of a study's runs in MLflow: the rows that were streamed, how trials ended, and their scores."""

    def __init__(self) -> None:
        self.rows, self.endings, self.scores = {}, {}, {}

    def trial(self, number, settings):
        self.rows[number] = []  # each attempt streams all of its epochs
        return Stream(self, number)

    def note_score(self, number, value) -> None:
        self.scores[number] = value


class Stream:
    def __init__(self, runs: Runs, number: int) -> None:
        self._runs, self._number = runs, number

    def on_epoch(self, row) -> None:
        self._runs.rows[self._number].append(row)

    def close(self, status, tags) -> None:
        self._runs.endings[self._number] = (status, tags["flowers.state"])
