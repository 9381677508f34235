"""Timings of this project, each function in a process of its own.

The folder is one that scratch.world made, and for `tracking_share` the checkout of scratch.checkout.
"""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flowers.common import paths
from flowers.config import params
from flowers.model import weights
from flowers.model.backbone import BATCH, Backbone
from flowers.model.feature_layer import FeatureLayer
from flowers.stages import evaluate, train
from flowers.training import activation_cache, subsets
from flowers.training.checkpoint import Checkpoint, remove
from flowers.training.phases import OnEpoch, Progress

NEVER = 10**6  # epochs: patience that does not end


def extract(count: int, repeats: int) -> dict[str, Any]:
    """Seconds for pooled features of `count` images: from arrays; and from files, with hashing and storing."""
    settings = params.load()
    precision, tensors = settings.model.precision, weights.read(paths.WEIGHTS)
    items = subsets.read("train", "val", "test").plain()[:count]
    pixels = np.stack([activation_cache.pixels(item) for item in items])
    backbone = Backbone(tensors, [FeatureLayer(0)], precision)
    for _ in range(2):
        backbone(pixels[:BATCH])
    found: dict[str, Any] = {"photos": len(items), "arrays": [], "files": []}
    for _ in range(repeats):
        found["arrays"].append(_seconds(lambda: list(backbone.batches(iter(pixels)))))
    with tempfile.TemporaryDirectory() as folder:
        store = activation_cache.Store(Path(folder), weights.digest(tensors), precision)
        found["files"].append(_seconds(lambda: store.get(items, [FeatureLayer(0)], lambda _: backbone)))
    return found


def extract_all(depths: list[int]) -> dict[str, Any]:
    """Seconds from an empty cache to all views of a study's images at all feature layers, with tracing and storing."""
    settings = params.load()
    train_photos, val_photos = subsets.read("train"), subsets.read("val")
    items = [item for views in train_photos.augmented(settings.augmentation) for item in views] + val_photos.plain()
    tensors, feature_layers = weights.read(paths.WEIGHTS), [FeatureLayer(depth) for depth in depths]
    seconds = _seconds(lambda: activation_cache.stored(items, feature_layers, tensors, settings.model.precision))
    return {"train": len(train_photos), "val": len(val_photos), "views": len(items), "seconds": seconds}


def epochs(unfreeze_blocks: int, head_epochs: int, tail_epochs: int) -> dict[str, Any]:
    """Seconds of an epoch by phase, with validation and checkpoint, without the first epoch, which traces.

    `before` are the stage's seconds outside of its epochs, `checkpoints` those of each checkpoint of the last phase.
    """
    _train(unfreeze_blocks, 1, 0)  # so that neither imports nor missing activations are timed
    stamps = defaultdict(list)
    start = time.perf_counter()
    saves = _train(
        unfreeze_blocks, head_epochs, tail_epochs, lambda row: stamps[row["phase"]].append(time.perf_counter())
    )
    stage = time.perf_counter() - start
    # Between first and last, because several epochs may be reported at once.
    by_phase = {phase: (times[-1] - times[0]) / (len(times) - 1) for phase, times in stamps.items() if len(times) > 1}
    before = stage - sum(by_phase[phase] * len(stamps[phase]) for phase in by_phase)
    return {
        "photos": len(subsets.read("train", "val")),
        "before": before,
        "head": by_phase["head"],
        "tail": by_phase.get("fine_tune"),
        "checkpoints": saves[-(tail_epochs or head_epochs) :],
    }


def accuracy(epochs: int, seed: int) -> dict[str, Any]:
    """Test accuracy after a fixed number of epochs of the head on the images of train and val together."""
    _train(0, epochs, 0, seed=seed, on="train+val")
    evaluate.run(params.load().evaluate)
    scores = json.loads(paths.METRICS.read_text(encoding="utf-8"))
    return {"accuracy": scores["accuracy"], "photos": len(subsets.read("test"))}


def tracking_share(slow_epochs: int, models: int) -> dict[str, Any]:
    """Seconds that MLflow takes: of every epoch of a training, of epochs that take a second or more, of a model."""
    from flowers.tracking import experiments, live_run, model, result, runs, store

    settings = params.load()
    rows: list[dict[str, Any]] = []
    spent: list[float] = []
    slow: list[float] = []
    logged: list[float] = []

    def reporting(on_epoch: OnEpoch, seconds: list[float]) -> OnEpoch:
        def report(row: dict[str, Any]) -> None:
            rows.append(row)
            seconds.append(_seconds(lambda: on_epoch(row)))

        return report

    # Other seeds are other runs: nothing is written to a complete one.
    fresh = [settings.model_copy(update={"train": settings.train.model_copy(update={"seed": n})}) for n in (101, 102)]
    with live_run(fresh[0]) as on_epoch:
        train.run(fresh[0].model, fresh[0].head, fresh[0].augmentation, fresh[0].train, reporting(on_epoch, spent))
    with live_run(fresh[1]) as on_epoch:
        report = reporting(on_epoch, slow)
        for row in rows[:slow_epochs]:
            time.sleep(1.1)  # epochs within a second are written together
            report(row)
    finished = result.read(settings)
    with store.lock():
        client = store.connect()
        experiment = experiments.experiment_id(client, settings)
    for _ in range(models):
        run = client.create_run(experiment)
        logged.append(_seconds(partial(model.log, client, run, finished)))
        runs.end(client, run, "FINISHED")
    return {"epochs": spent, "slow_epochs": slow, "models": logged}


def _train(
    unfreeze_blocks: int,
    head_epochs: int,
    fine_tune_epochs: int,
    on_epoch: OnEpoch | None = None,
    seed: int = 0,
    on: str = "train",
) -> list[float]:
    """The stage as `flowers train` runs it, but for MLflow; returns the seconds that its checkpoints took."""
    settings, saves = params.load(), []

    class Timed(Checkpoint):
        def save(self, progress: Progress) -> None:
            saves.append(_seconds(lambda: super(Timed, self).save(progress)))

    checkpoint = Timed(paths.CHECKPOINT, "bench")
    remove(paths.CHECKPOINT)
    model = settings.model.model_copy(update={"unfreeze_blocks": unfreeze_blocks})
    length = {"epochs": head_epochs, "fine_tune_epochs": fine_tune_epochs, "patience": NEVER}
    schedule = settings.train.model_copy(update={**length, "seed": seed, "on": on})
    train.run(model, settings.head, settings.augmentation, schedule, on_epoch, checkpoint)
    return saves


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
