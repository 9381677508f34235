"""The store of activations: what the frozen backbone makes of a view of a photo, computed once and kept by content.

An activation is found by what it is: the image's bytes, view, weights, feature layer, precision, `VERSION` and
the versions of TensorFlow and Pillow. The folder is the user's, shared by all clones. It holds shards, immutable once
they are renamed into place; each is a plain `.npy` and a `.json` that lists its keys and its checksum and is written
last, so a kill at any moment leaves a store that is right. What was not used for longest makes room (cache.py).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np

from flowers.common import cache, console, paths
from flowers.common.errors import UserError
from flowers.data import images
from flowers.model import backend, weights
from flowers.model.backbone import BATCH, Backbone
from flowers.model.feature_layer import FeatureLayer

# Raise this when a change of images.py or backbone.py changes the numbers; a golden test guards it.
VERSION = 1

# A kill loses at most one shard of each feature_layer: about a minute of the backbone.
SHARD_BYTES = 64 * 2**20
SHARD_VIEWS = 1024

_ITEM_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Item:
    """A view of a photo: where the photo lies now, the SHA-256 of its bytes, and the view."""

    path: Path
    sha256: str
    view: images.View = images.PLAIN

    @property
    def key(self) -> str:
        """What the item is, whatever the file is called."""
        return hashlib.sha256(f"{self.sha256} {self.view.key}".encode()).hexdigest()[:32]


class Activations:
    """Stored activations of a list of items at one feature_layer, memory-mapped: `len(a)`, and `a[rows]` as float32."""

    def __init__(self, shards: list[np.ndarray], places: np.ndarray, shape: tuple[int, ...]) -> None:
        """`places` (n, 2) int64: the shard and the row in it of every item."""
        self._shards, self._places, self.shape = shards, places, shape

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Activations of these items, float32, (n, *shape)."""
        places = self._places[rows]
        result = np.empty((len(places), *self.shape), np.float32)
        for shard in np.unique(places[:, 0]):
            here = np.flatnonzero(places[:, 0] == shard)
            result[here] = self._shards[shard][places[here, 1]]
        return result


class Store:
    """The activations of one set of weights in one precision, below `folder`."""

    def __init__(self, folder: Path, weights_digest: str, precision: str) -> None:
        self.root = folder
        self.folder = folder / f"{weights_digest[:16]}-{precision}-v{VERSION}-{_makers()}"
        self.precision = precision

    def get(
        self,
        items: Sequence[Item],
        feature_layers: Sequence[FeatureLayer],
        backbone: Callable[[Sequence[FeatureLayer]], Backbone],
    ) -> dict[FeatureLayer, Activations]:
        """The items' activations at each feature layer; missing ones are computed in one pass and stored.

        Raises UserError where a photo cannot be read or the limit is no size, OSError where the folder cannot be
        written.
        """
        limit = cache.limit()
        self.root.mkdir(parents=True, exist_ok=True)
        # Two processes that want the same activations compute them once; none are removed before they are opened.
        with cache.activations_held(self.root):
            wanted = {item.key for item in items}
            known = {feature_layer: self._index(feature_layer, wanted) for feature_layer in feature_layers}
            missing = {
                item.key: item
                for item in items
                if any(item.key not in known[feature_layer] for feature_layer in feature_layers)
            }
            if missing:
                cache.remove_unfinished(self.root)
                room = (
                    len(missing)
                    * sum(int(np.prod(feature_layer.shape)) for feature_layer in feature_layers)
                    * _ITEM_BYTES[self.precision]
                )
                cache.evict(self.root, {place[0] for index in known.values() for place in index.values()}, limit, room)
                self._compute(list(missing.values()), known, backbone(feature_layers))
                known = {feature_layer: self._index(feature_layer, wanted) for feature_layer in feature_layers}
            in_use = {known[feature_layer][key][0] for feature_layer in feature_layers for key in wanted}
            cache.note_use(in_use)
            if missing:
                cache.evict(self.root, in_use, limit)
            return {
                feature_layer: self._open(feature_layer, known[feature_layer], items)
                for feature_layer in feature_layers
            }

    def _compute(
        self, items: list[Item], known: dict[FeatureLayer, dict[str, tuple[Path, int]]], backbone: Backbone
    ) -> None:
        widest = (
            max(int(np.prod(feature_layer.shape)) for feature_layer in backbone.feature_layers)
            * _ITEM_BYTES[self.precision]
        )
        rows = max(1, min(SHARD_VIEWS, SHARD_BYTES // widest) // BATCH) * BATCH
        console.say(f"Running the backbone over {len(items):,} views; what it says of them is kept in the cache")
        with console.progress_bar(len(items), "Backbone", "views") as bar:
            for start in range(0, len(items), rows):
                chunk = items[start : start + rows]
                parts: dict[FeatureLayer, list[np.ndarray]] = {
                    feature_layer: [] for feature_layer in backbone.feature_layers
                }
                for batch in backbone.batches(_decoded(chunk)):
                    for feature_layer, values in batch.items():
                        parts[feature_layer].append(values)
                    bar.update(len(values))
                for feature_layer, values_of_cut in parts.items():
                    new = [row for row, item in enumerate(chunk) if item.key not in known[feature_layer]]
                    if new:
                        self._write(feature_layer, [chunk[row].key for row in new], np.concatenate(values_of_cut)[new])

    def _write(self, feature_layer: FeatureLayer, keys: list[str], values: np.ndarray) -> None:
        folder = self.folder / feature_layer.name
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:32]
        array = folder / f"{name}.npy"
        temporary = array.with_suffix(".partial")
        with temporary.open("wb") as file:
            # NumPy's format has no bfloat16: its bits are stored, and viewed again when read.
            np.save(file, values.view(np.uint16) if values.dtype.itemsize == 2 else values)
        checksum = _checksum(temporary)
        temporary.replace(array)
        temporary.write_text(json.dumps({"sha256": checksum, "keys": keys}))
        temporary.replace(array.with_suffix(".json"))

    def _index(self, feature_layer: FeatureLayer, wanted: set[str]) -> dict[str, tuple[Path, int]]:
        """Shard and row of the wanted keys that are stored; shards of them that fail their checksum are removed."""
        index = {}
        for description in sorted((self.folder / feature_layer.name).glob("*.json")):
            array = description.with_suffix(".npy")
            try:
                content = json.loads(description.read_text())
                keys = content["keys"]
                if wanted.isdisjoint(keys):
                    continue
                intact = _checksum(array) == content["sha256"]
            except (OSError, ValueError, KeyError, TypeError):
                intact = False
            if not intact:
                console.warn(f"{array} is damaged; computing its activations again")
                description.unlink(missing_ok=True)
                array.unlink(missing_ok=True)
                continue
            index.update({key: (array, row) for row, key in enumerate(keys)})
        return index

    def _open(
        self, feature_layer: FeatureLayer, index: dict[str, tuple[Path, int]], items: Sequence[Item]
    ) -> Activations:
        found = [index[item.key] for item in items]
        numbers = {path: number for number, path in enumerate(sorted({path for path, _ in found}))}
        _allow_open_files(2 * len(numbers))  # of other feature_layers, too
        shards = [np.load(path, mmap_mode="r") for path in numbers]
        if self.precision == "bfloat16":
            import ml_dtypes

            shards = [shard.view(ml_dtypes.bfloat16) for shard in shards]
        places = np.array([(numbers[path], row) for path, row in found], np.int64).reshape(-1, 2)
        return Activations(shards, places, feature_layer.shape)


def stored(
    items: Sequence[Item], feature_layers: Iterable[FeatureLayer], tensors: weights.Tensors, precision: str
) -> dict[FeatureLayer, Activations]:
    """The items' activations at these feature_layers, from the user's store; what is missing there is computed now.

    Raises UserError where a photo cannot be read, the store cannot be written or FLOWERS_CACHE_LIMIT is no size.
    """
    store = Store(paths.cache_folder() / "activations", weights.digest(tensors), precision)
    try:
        return store.get(
            items,
            sorted(set(feature_layers), key=lambda feature_layer: feature_layer.unfreeze_blocks),
            partial(_backbone, tensors, precision),
        )
    except OSError as error:
        raise UserError(f"{store.folder}: the store of activations cannot be used: {error.strerror or error}") from None


def pixels(item: Item) -> np.ndarray:
    """The view, uint8 (size, size, 3), of the very bytes that the item's key is made of.

    A wrong activation would stay in the store for ever, so a photo that changed since it was listed is refused. Raises
    UserError.
    """
    try:
        content = images.read(item.path)
        if hashlib.sha256(content).hexdigest() != item.sha256:
            raise images.UnreadableImage("changed since it was listed")
        return images.load(content, item.view)
    except images.UnreadableImage as error:
        raise UserError(f"{item.path}: {error}; run `dvc repro`") from None


def _backbone(tensors: weights.Tensors, precision: str, feature_layers: Sequence[FeatureLayer]) -> Backbone:
    return Backbone(tensors, feature_layers, precision)


def _allow_open_files(more: int) -> None:
    """Raise the limit of open files, often 1,024: each shard that is mapped counts as one."""
    try:
        import resource
    except ImportError:  # Windows counts otherwise
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, more + 1024)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def _makers() -> str:
    """What decides an activation's last bits: what one version or kind of device made is not used by another."""
    gpu = "-gpu" if backend.device() == "gpu" else ""
    return f"tensorflow-{backend.version()}-pillow-{version('pillow')}{gpu}"


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _decoded(items: Sequence[Item]) -> Iterator[np.ndarray]:
    """The items' pixels in order, decoded a little ahead of the backbone."""
    source = iter(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = [pool.submit(pixels, item) for item in islice(source, 2 * BATCH)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(pixels, item) for item in islice(source, 1)]
