"""The activation cache: computed once, found by content, kept within a limit, valid after every interruption."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich import filesize

from flowers.common import cache as user_cache
from flowers.common.errors import UserError
from flowers.data import images
from flowers.model.feature_layer import FeatureLayer
from flowers.training import activation_cache
from flowers.training.activation_cache import Item

TENSORS = {"some/kernel": np.ones(3, np.float32)}
POOLED, CONV5 = FeatureLayer(0), FeatureLayer(3)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FLOWERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FLOWERS_CACHE_LIMIT", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def five(tmp_path) -> list[Item]:
    """Five images that differ in every pixel."""
    found = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
        found.append(item(path))
    return found


def item(path: Path, view: images.View = images.PLAIN) -> Item:
    return Item(path, hashlib.sha256(path.read_bytes()).hexdigest(), view)


def get(items, *layers: FeatureLayer, precision: str = "float32", tensors=TENSORS) -> dict[FeatureLayer, np.ndarray]:
    found = activation_cache.stored(items, layers or (POOLED,), tensors, precision)
    return {layer: values[:] for layer, values in found.items()}


def files(cache: Path, pattern: str = "*.npy") -> dict[Path, bytes]:
    found = (path for path in sorted(cache.rglob(pattern)) if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in found}


def wanted(cheap_backbone, items, layer: FeatureLayer = POOLED) -> np.ndarray:
    """The activations of the items, computed without the cache."""
    before = cheap_backbone.computed
    pixels = np.stack([images.load(each.path, each.view) for each in items])
    values = cheap_backbone(TENSORS, [layer], "float32")(pixels)[layer]
    cheap_backbone.computed = before
    return values


def test_items_get_their_activations_in_the_order_of_the_query(cheap_backbone, five):
    views = [item(five[0].path, images.View((0.1, 0.1, 0.7, 0.8), flip)) for flip in (False, True)]
    items = [five[3], *views, five[0], five[3]]
    found = get(items, POOLED, CONV5)
    for layer in (POOLED, CONV5):
        np.testing.assert_array_equal(found[layer], wanted(cheap_backbone, items, layer))
    assert len(np.unique(found[POOLED], axis=0)) == 4
    assert cheap_backbone.computed == 4  # repeated items are computed once


def test_rows_are_gathered_across_shards_by_any_index(cheap_backbone, five):
    for one in five:
        get([one])  # a shard each
    stored = activation_cache.stored(five, [POOLED], TENSORS, "float32")[POOLED]
    whole = wanted(cheap_backbone, five)
    assert len(stored) == 5 and stored.shape == POOLED.shape
    for rows in (np.array([4, 0, 0, 2]), np.array([], int), slice(1, 4), slice(None)):
        np.testing.assert_array_equal(stored[rows], whole[rows])
        assert stored[rows].dtype == np.float32


def test_cached_activations_are_not_computed_again(cheap_backbone, five):
    first = get(five, POOLED, CONV5)
    assert cheap_backbone.computed == 5
    again = get(five[::-1], POOLED, CONV5)
    assert cheap_backbone.computed == 5
    np.testing.assert_array_equal(again[POOLED], first[POOLED][::-1])


def test_only_new_images_are_computed_and_cached_shards_stay(cheap_backbone, five, cache):
    get(five[:3])
    before = files(cache)
    found = get(five)
    assert cheap_backbone.computed == 5
    after = files(cache)
    assert {path: after[path] for path in before} == before
    np.testing.assert_array_equal(found[POOLED], wanted(cheap_backbone, five))


def test_another_feature_layer_adds_shards_without_writing_the_first_again(cheap_backbone, five, cache):
    get(five[:3], POOLED)
    before = files(cache)
    found = get(five, POOLED, CONV5)
    for layer in (POOLED, CONV5):
        np.testing.assert_array_equal(found[layer], wanted(cheap_backbone, five, layer))
    assert {path: files(cache)[path] for path in before} == before
    pooled = sum(len(np.load(path)) for path in files(cache) if path.parent.name == POOLED.name)
    assert pooled == 5


@pytest.mark.parametrize("change", ["weights", "precision", "view", "content"])
def test_a_change_of_weights_precision_view_or_content_computes_again(cheap_backbone, five, change):
    get(five[:1])
    if change == "content":
        Image.new("RGB", (40, 50), "red").save(five[0].path)
    view = images.View(flip=True) if change == "view" else images.PLAIN
    tensors = {"some/kernel": np.zeros(3, np.float32)} if change == "weights" else TENSORS
    get([item(five[0].path, view)], tensors=tensors, precision="bfloat16" if change == "precision" else "float32")
    assert cheap_backbone.computed == 2


def test_a_renamed_image_is_found(cheap_backbone, five, tmp_path):
    first = get(five)
    (tmp_path / "elsewhere").mkdir()
    moved = [item(each.path.rename(tmp_path / "elsewhere" / f"new {each.path.name}")) for each in five]
    np.testing.assert_array_equal(get(moved)[POOLED], first[POOLED])
    assert cheap_backbone.computed == 5


def test_an_image_that_changed_since_it_was_listed_is_never_cached(cheap_backbone, five, cache):
    Image.new("RGB", (40, 50), "red").save(five[2].path)
    with pytest.raises(UserError, match=r"2\.png.*changed since it was listed"):
        get(five)
    assert not files(cache)


@pytest.mark.parametrize(
    "damage",
    [
        lambda array: array.write_bytes(array.read_bytes()[:-5]),
        lambda array: array.write_bytes(array.read_bytes()[:-1] + b"!"),
        lambda array: array.unlink(),
        lambda array: array.with_suffix(".json").write_text("{"),
        lambda array: array.with_suffix(".json").write_text("[]"),
        lambda array: array.with_suffix(".json").unlink(),
    ],
    ids=["truncated", "altered", "missing", "json truncated", "json a list", "json missing"],
)
def test_a_damaged_shard_is_noticed_and_computed_again(cheap_backbone, five, cache, damage):
    first = get(five[:2])
    second = get(five[2:])
    before = files(cache, "*.*")
    damage(next(iter(files(cache))))
    both = get(five)
    np.testing.assert_array_equal(both[POOLED], np.concatenate([first[POOLED], second[POOLED]]))
    assert cheap_backbone.computed in (5 + 2, 5 + 3)  # only the damaged shard
    assert files(cache, "*.*") == before
    get(five)
    assert cheap_backbone.computed <= 5 + 3


def test_bfloat16_is_stored_in_two_bytes_and_read_back_exactly(cheap_backbone, five, cache):
    import ml_dtypes

    exact = wanted(cheap_backbone, five).astype(ml_dtypes.bfloat16)
    for _ in range(2):
        np.testing.assert_array_equal(get(five, precision="bfloat16")[POOLED], exact.astype(np.float32))
    assert cheap_backbone.computed == 5
    (array,) = files(cache)
    assert np.load(array).dtype == np.uint16 and np.load(array).tobytes() == exact.tobytes()


def test_many_images_make_several_shards(cheap_backbone, five, cache, monkeypatch):
    monkeypatch.setattr(activation_cache, "BATCH", 2)
    monkeypatch.setattr(activation_cache, "SHARD_BYTES", 2 * POOLED.shape[0] * 4)
    np.testing.assert_array_equal(get(five)[POOLED], wanted(cheap_backbone, five))
    assert sorted(len(np.load(path)) for path in files(cache)) == [1, 2, 2]


def test_a_shard_lists_its_keys_and_its_checksum(cheap_backbone, five, cache):
    get(five)
    (array,) = files(cache)
    content = json.loads(array.with_suffix(".json").read_text())
    assert content == {"sha256": hashlib.sha256(array.read_bytes()).hexdigest(), "keys": [each.key for each in five]}
    assert not list(cache.rglob("*.partial"))


def test_an_error_names_an_unreadable_image_and_finished_shards_stay(cheap_backbone, five, cache, monkeypatch):
    monkeypatch.setattr(activation_cache, "BATCH", 2)
    monkeypatch.setattr(activation_cache, "SHARD_BYTES", 2 * POOLED.shape[0] * 4)
    five[4].path.write_bytes(b"")
    with pytest.raises(UserError, match=r"4\.png"):
        get(five)
    get(five[:4])
    assert cheap_backbone.computed == 4


def test_an_error_names_a_cache_that_cannot_be_written(cheap_backbone, five, cache):
    cache.write_text("a file in the way")
    with pytest.raises(UserError, match="activation cache cannot be used"):
        get(five)


def allow(monkeypatch, size: int | str) -> None:
    monkeypatch.setenv("FLOWERS_CACHE_LIMIT", str(size))


def size_of(cache: Path) -> int:
    """Size of all activations in bytes."""
    return sum(len(content) for content in files(cache, "*.*").values())


def age(cache: Path) -> None:
    """Make every use an hour older."""
    for description in cache.rglob("*.json"):
        moment = description.stat().st_mtime - 3600
        os.utime(description, (moment, moment))


def uses(cheap_backbone, *arguments, **options) -> bool:
    """Whether these activations come from the cache."""
    before = cheap_backbone.computed
    get(*arguments, **options)
    return cheap_backbone.computed == before


def test_the_least_recently_used_shards_are_evicted(cheap_backbone, five, cache, monkeypatch, capsys):
    for one in five[:3]:
        get([one])
        age(cache)
    for one in (five[1], five[0]):
        get([one])  # used in another order than computed
        age(cache)
    room = size_of(cache)
    allow(monkeypatch, room)
    get(five[3:4])
    assert room // 2 < size_of(cache) <= room
    assert "least recently used" in capsys.readouterr().err
    age(cache)
    assert not uses(cheap_backbone, five[2:3])  # evicted first; this evicts the next one
    assert [uses(cheap_backbone, [five[number]]) for number in (0, 3)] == [True, True]
    assert not uses(cheap_backbone, five[1:2])


def test_nothing_is_evicted_within_the_limit(cheap_backbone, five, cache, monkeypatch, capsys):
    get(five[:2])
    get(five[2:])
    allow(monkeypatch, size_of(cache))
    limited = cache.with_name("limited")
    monkeypatch.setenv("FLOWERS_CACHE", str(limited))
    get(five[:2])
    get(five[2:])
    assert size_of(limited) == size_of(cache)
    assert "warning" not in capsys.readouterr().err


def test_all_weights_precisions_and_feature_layers_share_one_limit(cheap_backbone, five, cache, monkeypatch):
    others = {"some/kernel": np.zeros(3, np.float32)}
    get(five[:1], CONV5)
    age(cache)
    get(five[:1], precision="bfloat16")
    age(cache)
    get(five[:1], tensors=others)
    size = size_of(cache)
    allow(monkeypatch, size)
    get(five[1:2])  # far smaller than the first, whose eviction is enough
    assert size_of(cache) < size // 2
    assert uses(cheap_backbone, five[:1], precision="bfloat16") and uses(cheap_backbone, five[:1], tensors=others)
    assert not uses(cheap_backbone, five[:1], CONV5)


def test_shards_in_use_stay_beyond_the_limit_with_a_warning(cheap_backbone, five, cache, monkeypatch, capsys):
    get(five[:1])
    get(five[1:2])
    mine = files(cache)
    get(five[4:])
    capsys.readouterr()
    allow(monkeypatch, "1 kB")
    np.testing.assert_array_equal(get(five[:3])[POOLED], wanted(cheap_backbone, five[:3]))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and filesize.decimal(size_of(cache)) in warnings[0] and "1.0 kB" in warnings[0]
    assert len(files(cache)) == 3 and files(cache).items() >= mine.items()
    assert uses(cheap_backbone, five[:3])
    assert capsys.readouterr().err == ""  # warned once
    value = warnings[0].rpartition("FLOWERS_CACHE_LIMIT=")[2].strip("'")
    allow(monkeypatch, value)  # the suggested value suffices
    get(five[:4])
    assert "warning" not in capsys.readouterr().err


def test_evicted_activations_are_computed_again_with_equal_values(cheap_backbone, five, cache, monkeypatch):
    first = {number: get([five[number]], POOLED, CONV5) for number in range(2)}
    before = files(cache, "*.*")
    allow(monkeypatch, 0)
    get(five[2:])
    assert not before.keys() & files(cache, "*.*").keys()
    for number, layers in first.items():
        again = get([five[number]], POOLED, CONV5)
        for layer, values in layers.items():
            np.testing.assert_array_equal(again[layer], values)
    assert cheap_backbone.computed == 5 + 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot remove mapped files")
def test_evicted_shards_stay_readable_while_open(cheap_backbone, five, cache, monkeypatch):
    opened = activation_cache.stored(five[:2], [POOLED], TENSORS, "float32")[POOLED]
    before = files(cache)
    allow(monkeypatch, 0)
    get(five[2:])
    assert not before.keys() & files(cache).keys()
    np.testing.assert_array_equal(opened[:], wanted(cheap_backbone, five[:2]))


def test_eviction_comes_before_computing(cheap_backbone, five, cache, monkeypatch):
    """Otherwise nothing could be written on a full disk, and nothing would be evicted."""
    get(five[:1])
    monkeypatch.setenv("FLOWERS_CACHE_LIMIT", str(POOLED.shape[0] * 4 + 1000))
    five[1].path.write_bytes(b"")
    with pytest.raises(UserError):
        get(five[1:2])
    assert not files(cache)


def test_more_shards_than_the_limit_of_open_files(cheap_backbone, five):
    resource = pytest.importorskip("resource")
    for one in five:
        get([one])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 3, hard))
    try:
        found = get(five)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(found[POOLED], wanted(cheap_backbone, five))


@pytest.mark.parametrize("value", ["lots", "-1", "20 XB", "20 GB or so"])
def test_an_invalid_limit_raises_an_error_before_anything_is_computed(cheap_backbone, five, monkeypatch, value):
    allow(monkeypatch, value)
    with pytest.raises(UserError, match=rf"FLOWERS_CACHE_LIMIT: '{value}' .*20 GB"):
        get(five)
    assert cheap_backbone.computed == 0


@pytest.mark.parametrize("where", ["in the same folder", "in another store"])
def test_unfinished_files_of_a_killed_process_are_removed_before_computing(cheap_backbone, five, cache, where):
    tensors = TENSORS if where == "in the same folder" else {"some/kernel": np.zeros(3, np.float32)}
    get(five[:1], tensors=tensors)
    (array,) = files(cache)
    whole = files(cache, "*.*")
    for name in ("a.partial", "b.npy"):
        array.with_name(name).write_bytes(b"half of somethi")
    get(five[:1], tensors=tensors)  # nothing to compute: no cleaning
    assert len(files(cache, "*.*")) == 4
    get(five[1:])
    left = files(cache, "*.*")
    assert len(left) == 4 and left.items() >= whole.items()


def drawn() -> dict[str, bytes]:
    """An image made of integers only, coloured rings on a gradient, as PNG and as JPEG."""
    rows, columns = np.mgrid[:300, :400]
    rings = ((rows - 120) ** 2 + (columns - 230) ** 2) // 400
    pixels = np.stack([rows * 255 // 299, columns * 255 // 399, rings * 37 % 256], axis=-1).astype(np.uint8)
    found = {}
    for kind in ("PNG", "JPEG"):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        found[kind] = stream.getvalue()
    return found


# By VERSION: the first digits of the SHA-256 of the pixels of the PNG's plain view and of a mirrored crop; and for the
# activations of these and of the JPEG, by feature layer, mean, standard deviation and a weighted sum per image.
GOLDEN = {
    1: (
        ["4496584103a96e22", "e4fe0395c30b7f48"],
        {
            FeatureLayer(16): [68.492195, 74.861841, -0.007532, -0.006166, -0.007301],
            CONV5: [292.552346, 309.395551, -0.005445, -0.006474, -0.005468],
            POOLED: [395.72144, 406.490899, -0.003339, -0.002925, -0.003863],
        },
    )
}


def test_activations_are_those_of_the_cache_version(run_backbone):
    """A failure means that cached activations are outdated: raise VERSION in activation_cache.py and update GOLDEN."""
    hashes, numbers = GOLDEN[activation_cache.VERSION]
    encoded = drawn()
    crop = images.View((0.1, 0.05, 0.8, 0.9), flip=True)
    views = [images.load(encoded["PNG"]), images.load(encoded["PNG"], crop), images.load(encoded["JPEG"])]
    assert [hashlib.sha256(view.tobytes()).hexdigest()[:16] for view in views[:2]] == hashes
    found = run_backbone(np.stack(views))
    for layer, wanted in numbers.items():
        values = found[layer].astype(np.float64).reshape(len(views), -1)
        wave = np.cos(np.arange(values.shape[1]) ** 2 % 97)
        measured = [values.mean(), values.std(), *(values @ wave / np.abs(values).sum(axis=1))]
        np.testing.assert_allclose(measured, wanted, rtol=1e-3, atol=1e-5)


# Computes activations of argv[2:] with a backbone that records every image in argv[1]; all processes start together.
FETCH = """
import hashlib, os, signal, sys, time
from pathlib import Path
import numpy as np
from flowers.model import backbone
from flowers.training import activation_cache

class Backbone(backbone.Backbone):
    def __init__(self, tensors, feature_layers, precision):
        self.feature_layers, self.batch = tuple(feature_layers), backbone.BATCH
    def __call__(self, images):
        time.sleep(0.3)
        with open(sys.argv[1] + "/computed", "a") as file:
            file.write("x" * len(images))
        means = images.mean((1, 2, 3))[:, None]
        return {layer: np.ones((len(images), *layer.shape), np.float32) * means for layer in self.feature_layers}

activation_cache.Backbone = Backbone
if os.environ.get("SLOW_TO_OPEN"):
    load = np.load
    def slow(*arguments, **options):
        Path(sys.argv[1], "opening").touch()
        time.sleep(float(os.environ["SLOW_TO_OPEN"]))
        return load(*arguments, **options)
    np.load = slow
if os.environ.get("DIE_AT"):
    calls, replace = iter(range(1, 99)), Path.replace
    def dying(self, target):
        if next(calls) == int(os.environ["DIE_AT"]):
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)
    Path.replace = dying
Path(sys.argv[1], f"ready{os.getpid()}").touch()
while len(list(Path(sys.argv[1]).glob("ready*"))) < int(os.environ["PROCESSES"]):
    time.sleep(0.01)
paths = [Path(name) for name in sys.argv[2:]]
items = [activation_cache.Item(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
tensors = {"some/kernel": np.full(3, os.getpid() if os.environ.get("OWN_WEIGHTS") else 1, np.float32)}
found = activation_cache.stored(items, [backbone.FeatureLayer(0)], tensors, "float32")
print(found[backbone.FeatureLayer(0)][:].mean(axis=1).tolist())
assert "tensorflow" not in sys.modules
"""


def fetch(folder: Path, *photos_of_each: list[Item], **environment: str) -> list[subprocess.CompletedProcess]:
    """Run one process per list of images, all at once."""
    commands = [
        [sys.executable, "-c", FETCH, str(folder), *(str(each.path) for each in five)] for five in photos_of_each
    ]
    variables = os.environ | {"PROCESSES": str(len(commands))} | environment
    for ready in folder.glob("ready*"):
        ready.unlink()
    running = [
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    outputs = [process.communicate(timeout=60) for process in running]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *output)
        for process, output in zip(running, outputs, strict=True)
    ]


def test_two_processes_compute_the_same_activations_once(five, tmp_path):
    first, second = fetch(tmp_path, five, five)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert (tmp_path / "computed").read_text() == "x" * 5


@pytest.mark.parametrize("moment", ["before the shard", "before its list"])
def test_a_kill_while_a_shard_is_written_leaves_a_valid_cache(five, tmp_path, cache, moment):
    fetch(tmp_path, five[:2])
    (killed,) = fetch(tmp_path, five, DIE_AT={"before the shard": "1", "before its list": "2"}[moment])
    assert killed.returncode == -signal.SIGKILL
    assert len(files(cache, "*.json")) == 1 and list(cache.rglob("*.partial"))
    (again,) = fetch(tmp_path, five)
    assert again.returncode == 0, again.stderr
    means = [float(images.load(each.path).mean()) for each in five]
    np.testing.assert_allclose(json.loads(again.stdout), means, rtol=1e-5)
    assert (tmp_path / "computed").read_text() == "x" * (2 + 3 + 3)
    assert len(files(cache)) == len(files(cache, "*.json")) == 2 and not list(cache.rglob("*.partial"))


@pytest.mark.parametrize("differ", ["images", "weights"])
def test_two_processes_with_room_for_one_both_succeed(five, tmp_path, cache, differ):
    fetch(tmp_path, five[2:3])
    room = size_of(cache)
    shares = (five[:1], five[1:2] if differ == "images" else five[:1])
    own_weights = "yes" if differ == "weights" else ""
    processes = fetch(tmp_path, *shares, OWN_WEIGHTS=own_weights, FLOWERS_CACHE_LIMIT=str(room))
    for process, (one,) in zip(processes, shares, strict=True):
        assert process.returncode == 0, process.stderr
        np.testing.assert_allclose(json.loads(process.stdout), [images.load(one.path).mean()], rtol=1e-5)
        assert "warning" not in process.stderr
    assert (tmp_path / "computed").read_text() == "x" * 3
    assert size_of(cache) == room and len(files(cache, "*.*")) == 2


def test_clearing_waits_until_shards_are_open(five, tmp_path, cache, capsys):
    found = []
    fetching = threading.Thread(target=lambda: found.extend(fetch(tmp_path, five, SLOW_TO_OPEN="0.5")))
    fetching.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "opening").exists():
        assert time.monotonic() < deadline and fetching.is_alive()
        time.sleep(0.01)
    user_cache.clear("activations")
    fetching.join()
    assert found[0].returncode == 0, found[0].stderr
    assert len(json.loads(found[0].stdout)) == 5
    assert "waiting for another process" in capsys.readouterr().err
    assert not files(cache, "*.*")
