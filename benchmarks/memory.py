"""The memory of a large training: the peak of a training with 3 unfrozen blocks, from /proc.

    python benchmarks/memory.py                  # 8,189 images of 102 classes, two views each, one epoch
    python benchmarks/memory.py --photos 300     # a trial of the script
    python benchmarks/memory.py --command        # all of `flowers train`, with MLflow

The images do not exist. Their activations are random numbers in a store below the temporary folder (TMPDIR), written
shard by shard in the store's own format (3.4 GB in float32). Some images are files of noise without activations, so
that the backbone runs in the process that trains. The stage itself trains, with its checkpoint, in a process of its
own. Anonymous memory (RssAnon) excludes the pages of mapped files, such as the shards, which the system can reclaim.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scratch
from PIL import Image

from flowers.common import paths
from flowers.config import params

CLASSES = 102
BLOCKS = 3
EXTRACTED = 96  # images whose activations are missing
EVERY_SECONDS = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=8189)
    parser.add_argument("--epochs", type=int, default=1, help="with the blocks unfrozen, after one of the head alone")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--command", action="store_true", help="measure `flowers train` instead of its stage alone")
    parser.add_argument("--stage", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        run_stage()
        return
    with tempfile.TemporaryDirectory(prefix="flowers-memory-") as work:
        folder = Path(work).resolve()
        os.environ.update(scratch.environment(folder / "cache"))
        os.chdir(folder)
        list_photos(given.photos, given.precision, given.epochs)
        say(f"writing activations of {given.photos:,} images")
        size = fill_store()
        say(f"training on {size / 1e9:.1f} GB of activations")
        name = ["-m", "flowers", "train"] if given.command else [str(Path(__file__).resolve()), "--stage"]
        peak, seconds = watch([sys.executable, *name])
        epochs = list(csv.DictReader(paths.HISTORY.open(encoding="utf-8")))
    result = {"photos": given.photos, "views": 2, "precision": given.precision, "activations_gb": round(size / 1e9, 2)}
    result |= {"epochs": len(epochs), "peak_anonymous_mib": round(peak / 1024), "wall_s": round(seconds, 1)}
    print(json.dumps(result))


def run_stage() -> None:
    """What `flowers train` does, without MLflow."""
    from flowers.stages import train
    from flowers.training.checkpoint import Checkpoint

    settings, checkpoint = params.load(), Checkpoint(paths.CHECKPOINT, "memory")
    train.run(settings.model, settings.head, settings.augmentation, settings.train, checkpoint=checkpoint)


def list_photos(count: int, precision: str, epochs: int) -> None:
    """Write the outputs of download and split for images that do not exist, and the other inputs of `flowers train`."""
    from flowers.model import weights

    for name in ("dvc.yaml", "pyproject.toml"):
        shutil.copy(scratch.ROOT / name, name)
    Path("src").symlink_to(scratch.ROOT / "src")
    changes = {"model.unfreeze_blocks": BLOCKS, "model.weights": "random", "model.precision": precision}
    changes |= {"augmentation.views": 1, "train.epochs": 1, "train.fine_tune_epochs": epochs}
    scratch.write_params(Path(), changes)
    weights.provide("random", paths.WEIGHTS)
    classes = max(2, min(CLASSES, count // 14))
    with paths.IMAGE_LIST.open("w", newline="") as listed, paths.SPLIT.open("w", newline="") as dealt:
        images, split = csv.writer(listed), csv.writer(dealt)
        images.writerow(["path", "label", "sha256", "pixels", "width", "height", "subset"])
        split.writerow(["path", "label", "subset"])
        for number in range(count):
            label = f"class_{number % classes:03}"
            path, digest = f"{label}/{number:05}.jpg", hashlib.sha256(str(number).encode()).hexdigest()
            if number < EXTRACTED:
                digest = draw_noise(paths.IMAGES / path, number)
            images.writerow([path, label, digest, digest, 640, 480, ""])
            split.writerow([path, label, "val" if number // classes % 7 == 6 else "train"])


def draw_noise(file: Path, number: int) -> str:
    """Write an image of noise, 640 × 480; returns the hash of its bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def fill_store() -> int:
    """Write random activations of all views, without image files, at both feature layers; returns their bytes."""
    import ml_dtypes

    from flowers.model import weights
    from flowers.model.feature_layer import FeatureLayer
    from flowers.training import activation_cache, subsets

    settings = params.load()
    everyone = subsets.read("train", "val").augmented(settings.augmentation)
    keys = [item.key for views in everyone for item in views if not item.path.exists()]
    precision = settings.model.precision
    dtype = np.dtype(np.float32 if precision == "float32" else ml_dtypes.bfloat16)
    digest = weights.digest(weights.read(paths.WEIGHTS))
    store = activation_cache.Store(paths.cache_folder() / "activations", digest, precision)
    random, written = np.random.default_rng(0), 0
    for feature_layer in (FeatureLayer(0), FeatureLayer(BLOCKS)):
        rows = max(1, activation_cache.SHARD_BYTES // (4 * int(np.prod(feature_layer.shape))))
        for start in range(0, len(keys), rows):
            some = keys[start : start + rows]
            values = np.maximum(random.standard_normal((len(some), *feature_layer.shape), np.float32), 0).astype(dtype)
            store._write(feature_layer, some, values)
            written += values.nbytes
    return written


def watch(command: list[str]) -> tuple[int, float]:
    """Run a command; returns the peak of its anonymous memory (KiB), and its seconds."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(command)
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(EVERY_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return peak, time.perf_counter() - start


def anonymous(process: int) -> int:
    """Anonymous resident memory of a process, KiB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
