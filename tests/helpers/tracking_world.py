"""A tiny finished training in a temporary folder, and a fresh store made once and copied for each test."""

import json
import shutil
import socket
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flowers import tracking
from flowers.config import params
from flowers.tracking import store

CHECKOUT = Path(__file__).parents[2]

CLASSES = ["NA", "rose", "café au lait"]
SCORES = {"accuracy": 0.75, "mean_per_class_accuracy": 0.7, "log_loss": 0.9, "macro_f1": 0.69}
HISTORY = [
    {
        "epoch": epoch,
        "phase": "head" if epoch < 3 else "fine_tune",
        "learning_rate": 0.001,
        "loss": 1.5 - epoch / 10,
        "accuracy": 0.5 + epoch / 10,
        "val_loss": 1.6 - epoch / 10,
        "val_accuracy": 0.4 + epoch / 10,
        "val_mean_per_class_accuracy": 0.3 + epoch / 10,
    }
    for epoch in range(4)
]


NOVELTY = {"kept": 0.9, "test_class_left_out": {"auroc": 0.8, "fpr95": 0.5}}


class World:
    """A checkout after `evaluate`: only the files that tracking reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "mlflow.db"

    def build(self) -> None:
        write = self.write
        write("params.yaml", (CHECKOUT / "params.yaml").read_text(encoding="utf-8"))
        write("pyproject.toml", '[tool.flowers.numerics]\ntensorflow = "1"\nkeras = "2"\nnumpy = "3"\n')
        write("src/flowers/train.py", "rate = 1\n")
        deps = "deps: [src/flowers/train.py, build/split.csv]"
        write("dvc.yaml", f"stages:\n  train:\n    {deps}\n  evaluate:\n    {deps}\n")
        write("dvc.lock", "schema: '2.0'\n")
        rows = [(f"{label}/{n}.jpg", label, subset) for label in CLASSES for n, subset in enumerate(("train", "test"))]
        write("build/images.csv", "path,label\n" + "".join(f"{path},{label}\n" for path, label, _ in rows))
        write("build/split.csv", "path,label,subset\n" + "".join(",".join(row) + "\n" for row in rows))
        write("build/split.json", "{}")
        for path, _, _ in rows:
            write(f"build/images/{path}", f"not really an image: {path}")
        write("build/weights/resnet50.npz", "weights")
        write("build/model/model.json", json.dumps({"classes": CLASSES, "precision": "float32"}))
        write("build/model/trained.npz", "trained")
        self.history(HISTORY)
        write("build/evaluation/metrics.json", json.dumps(SCORES))
        write("build/evaluation/novelty.json", json.dumps(NOVELTY))
        write("build/evaluation/intervals.json", json.dumps({"accuracy": [0.6, 0.9]}))
        write("build/evaluation/predictions.csv", "path,label,predicted\n")
        write("build/evaluation/per_class.csv", "label,recall\nNA,1.0\nrose,0.5\n")
        write("build/evaluation/confusion.csv", "label,NA,rose\nNA,3,1\nrose,0,4\n")
        write("build/evaluation/confusion.png", "a figure")

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def history(self, rows: list[dict]) -> None:
        lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
        self.write("build/history.csv", "\n".join(lines) + "\n")

    @property
    def params(self) -> params.Params:
        return params.load(self.folder / "params.yaml")

    def set(self, key: str, value: object) -> None:
        """Change one value of params.yaml."""
        path = self.folder / "params.yaml"
        document = YAML().load(path)
        section, name = key.split(".")
        assert name in document[section]
        document[section][name] = value
        YAML().dump(document, path)

    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.database}")

    def runs(self, only: int | None = None) -> list:
        """Every run that is not deleted, oldest first; `only` is how many there must be."""
        client = self.client()
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        found = list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))
        assert only is None or len(found) == only
        return found

    def points(self, run) -> dict[str, list[tuple[int, float]]]:
        """Every metric point of a run, doubles included."""
        client = self.client()
        return {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }

    def artifacts(self, run) -> dict[str, int]:
        """Paths and sizes of a run's artifacts."""
        client, found, folders = self.client(), {}, [None]
        while folders:
            for item in client.list_artifacts(run.info.run_id, folders.pop()):
                if item.is_dir:
                    folders.append(item.path)
                else:
                    found[item.path] = item.file_size
        return found

    def models(self, run) -> list:
        client = self.client()
        return list(client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"))


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory) -> Path:
    """MLflow takes seconds to lay out a sqlite store: once is enough."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        alone(patch, folder)
        with store.lock():
            store.connect()
    return folder / "mlflow.db"


@pytest.fixture
def make_world(tmp_path, monkeypatch, fresh_database):
    """Make a world, with a space and an umlaut in its path, and step into it."""

    def make(name: str = "my flöwers", store: bool = True) -> World:
        return _world(tmp_path / name, monkeypatch, fresh_database if store else None)

    return make


@pytest.fixture(scope="module")
def published(tmp_path_factory, fresh_database):
    """A world that was published, and its run, for tests that do not change them."""
    with pytest.MonkeyPatch.context() as patch:
        world = _world(tmp_path_factory.mktemp("published") / "world", patch, fresh_database)
        tracking.publish(world.params)
        yield world, world.runs(only=1)[0]


def _world(folder: Path, patch: pytest.MonkeyPatch, database: Path | None) -> World:
    world = World(folder)
    world.build()
    if database is not None:
        world.folder.mkdir(exist_ok=True)
        shutil.copy(database, world.database)
    alone(patch, folder)
    return world


def alone(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Step into a folder, without the settings and the git repository around the tests."""
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        patch.delenv(name, raising=False)
    patch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
    patch.chdir(folder)


@pytest.fixture
def world(make_world) -> World:
    return make_world()


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
