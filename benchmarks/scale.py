"""Rates that decide what a million and a hundred million images take: docs/scale.md.

In a checkout with the outputs of `download`: `python benchmarks/scale.py`, two minutes.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from flowers.common import paths
from flowers.data import images, near_duplicates
from flowers.model import backbone, weights
from flowers.model.feature_layer import FeatureLayer
from flowers.serving import sources
from flowers.training import activation_cache

FILES = 20_000  # to list
HASHES = (8_192, 16_384, 32_768)  # to compare with each other
IMAGES = 300
EXTRACTED = 128


def main() -> None:
    """Measure and print."""
    rates = {"listed, files/s": listing(), "checked (decoded, hashed), images/s": checking()}
    seconds = {number: comparing(number) for number in HASHES}
    for number, took in seconds.items():
        print(f"near-duplicates among {number:,}: {took:.2f} s")
    rates["pairs of hashes compared, millions/s"] = HASHES[-1] ** 2 / 2 / seconds[HASHES[-1]] / 1e6
    rates[f"extracted in {backbone.best_precision()}, images/s"] = extracting()
    rates["keys of activations looked up, millions/s"] = looking_up() / 1e6
    for name, rate in rates.items():
        print(f"{name}: {rate:,.2f}")
    rows = sum(1 for _ in paths.IMAGE_LIST.open("rb")) - 1
    print(f"a row of images.csv: {paths.IMAGE_LIST.stat().st_size / rows:.0f} bytes")
    for layer in (FeatureLayer(0, conv4=True), FeatureLayer(3)):
        size = int(np.prod(layer.shape))
        print(f"an activation, {layer.name}: {2 * size:,} bytes in bfloat16, {4 * size:,} in float32")


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def listing() -> float:
    """Files a second, of folders with a thousand each."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(FILES):
            place = Path(folder, str(number // 1000))
            place.mkdir(exist_ok=True)
            (place / f"{number}.jpg").touch()
        return FILES / timed(lambda: list(sources.walk(Path(folder))))


def checking() -> float:
    """Images a second on all cores, as `download` checks them."""
    files = sorted(path for path in paths.IMAGES.rglob("*") if path.is_file())[:IMAGES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return len(files) / timed(lambda: list(pool.map(images.measure, files)))


def comparing(number: int) -> float:
    """Seconds for the near-duplicates among images with random hashes."""
    random = np.random.default_rng(0)
    plain, mirrored = ([f"{value:016x}" for value in random.integers(0, 2**63, number)] for _ in range(2))
    return timed(lambda: near_duplicates.groups([f"{row:064x}" for row in range(number)], plain, mirrored))


def extracting() -> float:
    """Images a second through the frozen network, up to the pooled features."""
    network = backbone.Backbone(weights.random_tensors(), [FeatureLayer(0, conv4=True)], backbone.best_precision())
    pixels = np.random.default_rng(0).integers(0, 256, (EXTRACTED, 224, 224, 3), np.uint8)
    batches = np.split(pixels, EXTRACTED // backbone.BATCH)
    network(batches[0])
    return EXTRACTED / timed(lambda: [network(batch) for batch in batches])


def looking_up() -> float:
    """Keys a second, in descriptions of shards like those of the activation cache."""
    with tempfile.TemporaryDirectory() as folder:
        number = activation_cache.SHARD_VIEWS
        for shard in range(20):
            keys = [f"{shard * number + row:064x}" for row in range(number)]
            Path(folder, f"{shard}.json").write_text(json.dumps({"sha256": "", "keys": keys}))
        found: dict[str, tuple[str, int]] = {}

        def read() -> None:
            for file in Path(folder).iterdir():
                found.update({key: (file.name, row) for row, key in enumerate(json.loads(file.read_text())["keys"])})

        return 20 * number / timed(read)


if __name__ == "__main__":
    main()
