"""A home and a cache for the session, and a small world to run stages in."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from pictures import picture

CLASSES = ("NA", "café au lait", "rose")  # in their order; pandas reads "NA" as missing by default

SMALL = {
    "dataset": {"name": "local", "path": "photos", "mirror": None, "bad_images": "refuse"},
    "split": {"method": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0},
    "model": {
        "weights": "random",
        "unfreeze_blocks": 0,
        "train_batch_norm": False,
        "mirror": False,
        "input_size": 224,
        "precision": "float32",
        "known_rate": 0.95,
    },
    "head": {
        "units": [8],
        "dropout": 0.1,
        "features": "conv5",
        "normalization": "none",
        "initialization": "random",
        "penalty": 0.001,
    },
    "augmentation": {"views": 1, "size": None, "flip": True, "min_area": 0.5, "seed": 0},
    "train": {
        "on": "train",
        "epochs": 5,
        "fine_tune_epochs": 2,
        "batch_size": 5,
        "learning_rate": 0.003,
        "fine_tune_learning_rate": 0.0001,
        "schedule": "constant",
        "warmup_epochs": 0.0,
        "weight_decay": 0.0001,
        "label_smoothing": 0.0,
        "averaging": 0.0,
        "class_weights": True,
        "patience": 10,
        "seed": 0,
    },
    "evaluate": {"bootstrap_samples": 100, "gallery": 3, "unknown_path": None, "seed": 0},
    "promote": {"floors": {}, "unknown_auroc": None, "probe_photos": 2},
    "tune": {
        "n_trials": 3,
        "repeats": 1,
        "folds": 1,
        "pruner": "none",
        "warmup_epochs": 0,
        "confirm_seeds": 0,
        "seed": 0,
        "space": {
            "head.dropout": {"low": 0.0, "high": 0.6},
            "train.learning_rate": {"low": 0.001, "high": 0.01, "log": True},
        },
    },
}


def pytest_configure(config):
    """Set an empty home and cache before anything is imported: matplotlib looks for its home on import."""
    folder = tempfile.TemporaryDirectory(prefix="flowers-tests-", ignore_cleanup_errors=True)
    # A process started in the background by a shell ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    patch = pytest.MonkeyPatch()
    config.add_cleanup(folder.cleanup)
    config.add_cleanup(patch.undo)
    for name in ("HOME", "USERPROFILE", "FLOWERS_CACHE"):
        place = Path(folder.name) / name.lower()
        place.mkdir()
        patch.setenv(name, str(place))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "KERAS_HOME", "MPLCONFIGDIR"):
        patch.delenv(name, raising=False)


class World:
    """A checkout after `download` and `split`: three classes of eight small images, 12 train, 6 val, 6 test."""

    classes = CLASSES

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.build = folder / "build"

    def settings(self, **changes: dict):
        """The parameters of a small run, with changed keys: settings(head={"units": []})."""
        from flowers.config.params import Params

        assert all(key in SMALL[name] for name, section in changes.items() for key in section)
        return Params.model_validate({name: section | changes.get(name, {}) for name, section in SMALL.items()})

    def train(self, on_epoch=None, checkpoint=None, **changes: dict) -> None:
        from flowers.stages import train

        settings = self.settings(**changes)
        train.run(settings.model, settings.head, settings.augmentation, settings.train, on_epoch, checkpoint)

    def evaluate(self, **changes: object) -> None:
        from flowers.stages import evaluate

        evaluate.run(self.settings(evaluate=changes).evaluate)

    def made(self) -> dict[str, bytes]:
        """The bytes of all outputs of train and evaluate."""
        roots = (self.build / "model", self.build / "history.csv", self.build / "evaluation")
        files = [path for root in roots for path in (root, *root.rglob("*")) if path.is_file()]
        return {path.relative_to(self.build).as_posix(): path.read_bytes() for path in files}

    def copy(self, folder: Path) -> "World":
        """A copy of the checkout; the weights, which are never written to, are linked."""

        def copy(source: str, target: str) -> None:
            (os.link if source.endswith("resnet50.npz") else shutil.copy2)(source, target)

        shutil.copytree(self.folder, folder, copy_function=copy)
        return World(folder)


@pytest.fixture(scope="session")
def first_world(tmp_path_factory):
    """The world that the others are copied from; its weights are those of the last block only."""
    from flowers.model import weights
    from flowers.stages import download, split

    tensors = {name: values for name, values in weights.random_tensors().items() if name.startswith("conv5_block3")}
    world = World(tmp_path_factory.mktemp("first") / "checkout")
    for label, name in enumerate(CLASSES):
        (world.folder / "photos" / name).mkdir(parents=True)
        for number in range(8):
            picture(label, number).save(world.folder / "photos" / name / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.folder)
        patch.setattr(weights, "random_tensors", lambda: tensors)
        settings = world.settings()
        download.run(settings.dataset, settings.model.weights)
        split.run(settings.split)
    yield world
    shutil.rmtree(world.folder)  # pytest would keep it


@pytest.fixture
def world(first_world, tmp_path, monkeypatch):
    """A world with an empty cache, as current folder. Its weights suffice for `cheap_backbone`."""
    world = first_world.copy(tmp_path / "checkout")
    monkeypatch.chdir(world.folder)
    monkeypatch.setenv("FLOWERS_CACHE", str(tmp_path / "cache"))
    return world


@pytest.fixture
def real_world(world):
    """A world with all weights, for the real backbone."""
    from flowers.model import weights

    file = world.build / "weights" / "resnet50.npz"
    file.unlink()
    weights.provide("random", file)
    yield world
    file.unlink()  # 100 MB, which pytest would keep


@pytest.fixture
def cheap_backbone(monkeypatch):
    """Replace the backbone by the mean colours of a coarse grid; `computed` counts the images it processed."""
    import ml_dtypes

    from flowers.model import backbone, classifier
    from flowers.training import activation_cache

    def cheap(row, layer):
        """The activation of an image at a layer; the pooled features of each stage begin with the first colour."""
        if layer.blocks:
            return np.resize(row, layer.shape)
        return np.concatenate([np.resize(row, width) for width in layer.features])

    class CheapBackbone(backbone.Backbone):
        computed = 0

        def __init__(self, tensors, feature_layers, precision, batch=None, padded=True):
            self.feature_layers, self.precision, self.batch = tuple(feature_layers), precision, batch or backbone.BATCH

        def __call__(self, images):
            CheapBackbone.computed += len(images)
            cells = images.shape[1] // 32
            grid = images.reshape(-1, cells, 32, cells, 32, 3).mean(axis=(2, 4)).reshape(len(images), -1) / 255
            kind = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[self.precision]
            return {layer: np.stack([cheap(row, layer) for row in grid]).astype(kind) for layer in self.feature_layers}

        def maps(self, images):
            layer = self.feature_layers[-1]
            side = images.shape[1] // 32
            grid = images.reshape(-1, side, 32, side, 32, 3).mean(axis=(2, 4), dtype=np.float32) / 255
            return np.stack([np.resize(each, (side, side, sum(layer.features))) for each in grid])

    monkeypatch.setattr(activation_cache, "Backbone", CheapBackbone)
    monkeypatch.setattr(classifier, "Backbone", CheapBackbone)
    return CheapBackbone


@pytest.fixture(scope="session")
def tensors() -> dict[str, np.ndarray]:
    """A network in which every tensor matters: random kernels, biases and statistics."""
    from flowers.model import weights

    random = np.random.default_rng(7)
    tensors = weights.random_tensors(seed=1)
    for name, values in tensors.items():
        variable = name.split("/")[1]
        if variable in ("bias", "beta", "moving_mean"):
            values += random.normal(0, 0.2, values.shape).astype(np.float32)
        elif variable in ("gamma", "moving_variance"):
            values *= random.uniform(0.6, 1.6, values.shape).astype(np.float32)
    return tensors


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """Two images, uint8 (2, 224, 224, 3): noise, and a gradient of three colours."""
    noise = np.random.default_rng(3).integers(0, 256, (224, 224, 3), np.uint8)
    rows, columns = np.mgrid[:224, :224]
    return np.stack([noise, np.stack([rows, columns, (rows + columns) // 2], axis=-1).astype(np.uint8)])


@pytest.fixture(scope="session")
def keras_outputs(tensors, pixels) -> dict[str, np.ndarray]:
    """The outputs of Keras's own ResNet50 with these tensors at every possible feature layer."""
    from flowers.model import backend, resnet

    keras = backend.keras()
    network = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
    for layer in network.layers:
        for variable in layer.weights:
            variable.assign(tensors[f"{layer.name}/{variable.name}"])
    names = [resnet.feature_layer_name(unfreeze) for unfreeze in range(17)]
    outputs = {name: network.get_layer(name).output for name in names} | {"pooled": network.output}
    images = keras.applications.resnet50.preprocess_input(pixels.astype(np.float32))
    found = keras.Model(network.input, outputs)(images, training=False)
    return {name: np.asarray(values) for name, values in found.items()}


@pytest.fixture(scope="session")
def run_backbone(tensors):
    """Run the real backbone on up to 4 images, (n, 224, 224, 3): activations at all 17 feature layers."""
    from flowers.model import backbone

    network = None

    def run(images: np.ndarray) -> dict[backbone.FeatureLayer, np.ndarray]:
        nonlocal network
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backbone, "BATCH", 4)
            network = network or backbone.Backbone(tensors, map(backbone.FeatureLayer, range(17)), "float32")
            return network(images)

    return run
