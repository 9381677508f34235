"""The activation cache: outputs of the frozen backbone for views of images, each computed once.

An activation is found by content: the image's bytes, view, weights, feature layer, precision, `VERSION` and the
versions of TensorFlow and Pillow. All clones share the folder. It holds immutable shards: a plain `.npy`, renamed into
place when complete, and a `.json` with its keys and checksum, written last, so that a kill at any moment leaves a valid
cache. The least recently used shards are evicted first (common/cache.py).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from flowers.common import ahead, cache, console, extras, paths
from flowers.common.errors import UserError
from flowers.data import images
from flowers.model import backend, weights
from flowers.model.backbone import BATCH, Backbone
from flowers.model.feature_layer import FeatureLayer
from flowers.model.int8 import Int8Backbone

# Raise this if a change of images.py or backbone.py changes the numbers; a golden test checks them.
VERSION = 1

# A kill loses at most one shard of each feature layer: about a minute of computation.
SHARD_BYTES = 64 * 2**20
SHARD_VIEWS = 1024

Index = dict[str, tuple[Path, int]]  # shard and row of each key


@dataclass(frozen=True)
class Item:
    """A view of an image: the file's path, the SHA-256 of its bytes, and the view."""

    path: Path
    sha256: str
    view: images.View = images.PLAIN

    @property
    def key(self) -> str:
        """A hash of bytes and view; the file's name does not matter."""
        return hashlib.sha256(f"{self.sha256} {self.view.key}".encode()).hexdigest()[:32]


class Activations:
    """Memory-mapped activations of a list of items at one feature layer: `len(a)`, and `a[rows]` as float32."""

    def __init__(self, shards: list[np.ndarray], places: np.ndarray, shape: tuple[int, ...]) -> None:
        """`places` (n, 2) int64: shard number and row of every item."""
        self._shards, self._places, self.shape = shards, places, shape

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Activations of these items, (n, *shape) float32."""
        places = self._places[rows]
        result = np.empty((len(places), *self.shape), np.float32)
        for shard in np.unique(places[:, 0]):
            here = np.flatnonzero(places[:, 0] == shard)
            result[here] = self._shards[shard][places[here, 1]]
        return result

    def at(self, rows: np.ndarray) -> "Activations":
        """Those of these items, still on disk."""
        return Activations(self._shards, self._places[rows], self.shape)


class Store:
    """The activations of one set of weights in one precision, below `folder`."""

    def __init__(self, folder: Path, weights_digest: str, precision: str) -> None:
        self.root = folder
        # Versions and kind of device change the last bits; each combination has activations of its own.
        if precision == "int8":
            runtime, gpu = f"openvino-{extras.version('openvino')}", ""
        else:
            runtime, gpu = f"tensorflow-{backend.version()}", "-gpu" if backend.device() == "gpu" else ""
        versions = f"{runtime}-pillow-{version('pillow')}{gpu}"
        self.folder = folder / f"{weights_digest[:16]}-{precision}-v{VERSION}-{versions}"
        self.precision = precision

    def get(
        self,
        items: Sequence[Item],
        feature_layers: Sequence[FeatureLayer],
        backbone: Callable[[Sequence[FeatureLayer]], Backbone | Int8Backbone],
    ) -> dict[FeatureLayer, Activations]:
        """The items' activations at each feature layer; missing ones are computed in one pass and cached.

        Raises UserError if an image cannot be read or FLOWERS_CACHE_LIMIT is invalid, OSError if the folder cannot be
        written.
        """
        limit = cache.limit()
        self.root.mkdir(parents=True, exist_ok=True)
        # Processes that need the same activations compute them once; none are evicted before they are opened.
        with cache.activations_held(self.root):
            wanted = {item.key for item in items}
            known = {layer: self._index(layer, wanted) for layer in feature_layers}
            missing = {item.key: item for item in items if any(item.key not in index for index in known.values())}
            if missing:
                network = backbone(feature_layers)  # first: it may need a package that is missing
                cache.remove_unfinished(self.root)
                room = len(missing) * sum(self._item_bytes(layer) for layer in feature_layers)
                cache.evict(self.root, {shard for index in known.values() for shard, _ in index.values()}, limit, room)
                self._compute(list(missing.values()), known, network)
                known = {layer: self._index(layer, wanted) for layer in feature_layers}
            in_use = {index[key][0] for index in known.values() for key in wanted}
            cache.note_use(in_use)
            if missing:
                cache.evict(self.root, in_use, limit)
            return {layer: self._open(layer, index, items) for layer, index in known.items()}

    def _item_bytes(self, layer: FeatureLayer) -> int:
        return int(np.prod(layer.shape)) * (2 if self.precision == "bfloat16" else 4)

    def _compute(self, items: list[Item], known: dict[FeatureLayer, Index], backbone: Backbone | Int8Backbone) -> None:
        largest = max(self._item_bytes(layer) for layer in backbone.feature_layers)
        rows = max(1, min(SHARD_VIEWS, SHARD_BYTES // largest) // BATCH) * BATCH
        console.say(f"Extracting features for {len(items):,} views (cached afterwards)")
        with console.progress_bar(len(items), "Extracting features", "views") as bar:
            for start in range(0, len(items), rows):
                chunk, batches = items[start : start + rows], []
                for batch in backbone.batches(ahead.computed(pixels, chunk, 2 * BATCH)):
                    batches.append(batch)
                    bar.update(len(batch[backbone.feature_layers[0]]))
                for layer in backbone.feature_layers:
                    if new := [row for row, item in enumerate(chunk) if item.key not in known[layer]]:
                        values = np.concatenate([batch[layer] for batch in batches])
                        self._write(layer, [chunk[row].key for row in new], values[new])

    def _write(self, layer: FeatureLayer, keys: list[str], values: np.ndarray) -> None:
        folder = self.folder / layer.name
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:32]
        array = folder / f"{name}.npy"
        temporary = array.with_suffix(".partial")
        with temporary.open("wb") as file:
            # NumPy's format has no bfloat16: the bits are stored as integers.
            np.save(file, values.view(np.uint16) if values.dtype.itemsize == 2 else values)
        checksum = _checksum(temporary)
        temporary.replace(array)
        temporary.write_text(json.dumps({"sha256": checksum, "keys": keys}))
        temporary.replace(array.with_suffix(".json"))

    def _index(self, layer: FeatureLayer, wanted: set[str]) -> Index:
        """Shard and row of the wanted keys that are cached; shards that fail their checksum are removed."""
        index: Index = {}
        for description in sorted((self.folder / layer.name).glob("*.json")):
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

    def _open(self, layer: FeatureLayer, index: Index, items: Sequence[Item]) -> Activations:
        found = [index[item.key] for item in items]
        numbers = {path: number for number, path in enumerate(sorted({path for path, _ in found}))}
        _allow_open_files(2 * len(numbers))  # shards of other feature layers count too
        shards = [np.load(path, mmap_mode="r") for path in numbers]
        if self.precision == "bfloat16":
            import ml_dtypes

            shards = [shard.view(ml_dtypes.bfloat16) for shard in shards]
        places = np.array([(numbers[path], row) for path, row in found], np.int64).reshape(-1, 2)
        return Activations(shards, places, layer.shape)


def stored(
    items: Sequence[Item], feature_layers: Iterable[FeatureLayer], tensors: weights.Tensors, precision: str
) -> dict[FeatureLayer, Activations]:
    """The items' activations at these feature layers, from the user's cache; missing ones are computed.

    Raises UserError if an image cannot be read, the cache cannot be written or FLOWERS_CACHE_LIMIT is invalid.
    """
    store = Store(paths.cache_folder() / "activations", weights.digest(tensors), precision)
    layers = sorted(set(feature_layers), key=lambda layer: layer.unfreeze_blocks)
    try:
        return store.get(
            items,
            layers,
            lambda missing: (
                Int8Backbone(tensors, missing) if precision == "int8" else Backbone(tensors, missing, precision)
            ),
        )
    except OSError as error:
        raise UserError(f"{store.folder}: the activation cache cannot be used: {error.strerror or error}") from None


def pixels(item: Item) -> np.ndarray:
    """The item's pixels, uint8 (size, size, 3).

    Raises UserError if the image cannot be read, or if its bytes are not those of the item's key: a wrong activation
    would otherwise stay in the cache.
    """
    try:
        content = images.read(item.path)
        if hashlib.sha256(content).hexdigest() != item.sha256:
            raise images.UnreadableImage("changed since it was listed")
        return images.load(content, item.view)
    except images.UnreadableImage as error:
        raise UserError(f"{item.path}: {error}; run `dvc repro`") from None


def _allow_open_files(more: int) -> None:
    """Raise the limit of open files, often 1,024: each mapped shard counts as one."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = more + 1024 if hard == resource.RLIM_INFINITY else min(more + 1024, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
