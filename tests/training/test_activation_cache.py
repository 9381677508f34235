"""The store of activations: computed once, found by content, kept within a limit, right after any accident."""

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
def photos(tmp_path) -> list[Item]:
    """Five photos that differ in every pixel."""
    found = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
        found.append(item(path))
    return found


def item(path: Path, view: images.View = images.PLAIN) -> Item:
    return Item(path, hashlib.sha256(path.read_bytes()).hexdigest(), view)


def get(
    items, *feature_layers: FeatureLayer, precision: str = "float32", tensors=TENSORS
) -> dict[FeatureLayer, np.ndarray]:
    found = activation_cache.stored(items, feature_layers or (POOLED,), tensors, precision)
    return {feature_layer: values[:] for feature_layer, values in found.items()}


def files(cache: Path, pattern: str = "*.npy") -> dict[Path, bytes]:
    found = (path for path in sorted(cache.rglob(pattern)) if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in found}


def wanted(cheap_backbone, items, feature_layer: FeatureLayer = POOLED) -> np.ndarray:
    """What the backbone makes of the items, without a store."""
    before = cheap_backbone.computed
    values = cheap_backbone(TENSORS, [feature_layer], "float32")(
        np.stack([images.load(each.path, each.view) for each in items])
    )[feature_layer]
    cheap_backbone.computed = before
    return values


def test_every_item_gets_its_own_activation_in_the_order_asked(cheap_backbone, photos):
    views = [item(photos[0].path, images.View((0.1, 0.1, 0.7, 0.8), flip)) for flip in (False, True)]
    items = [photos[3], *views, photos[0], photos[3]]
    found = get(items, POOLED, CONV5)
    for feature_layer in (POOLED, CONV5):
        np.testing.assert_array_equal(found[feature_layer], wanted(cheap_backbone, items, feature_layer))
    assert len(np.unique(found[POOLED], axis=0)) == 4
    assert cheap_backbone.computed == 4  # what is asked twice is computed once


def test_rows_are_gathered_across_shards_by_any_index(cheap_backbone, photos):
    for one in photos:
        get([one])  # a shard each
    stored = activation_cache.stored(photos, [POOLED], TENSORS, "float32")[POOLED]
    whole = wanted(cheap_backbone, photos)
    assert len(stored) == 5 and stored.shape == POOLED.shape
    for rows in (np.array([4, 0, 0, 2]), np.array([], int), slice(1, 4), slice(None)):
        np.testing.assert_array_equal(stored[rows], whole[rows])
        assert stored[rows].dtype == np.float32


def test_the_second_time_nothing_is_computed(cheap_backbone, photos):
    first = get(photos, POOLED, CONV5)
    assert cheap_backbone.computed == 5
    again = get(photos[::-1], POOLED, CONV5)
    assert cheap_backbone.computed == 5
    np.testing.assert_array_equal(again[POOLED], first[POOLED][::-1])


def test_only_new_photos_are_computed_and_what_is_stored_stays(cheap_backbone, photos, cache):
    get(photos[:3])
    before = files(cache)
    found = get(photos)
    assert cheap_backbone.computed == 5
    after = files(cache)
    assert {path: after[path] for path in before} == before
    np.testing.assert_array_equal(found[POOLED], wanted(cheap_backbone, photos))


def test_another_cut_adds_to_the_store_without_storing_the_first_again(cheap_backbone, photos, cache):
    get(photos[:3], POOLED)
    before = files(cache)
    found = get(photos, POOLED, CONV5)
    for feature_layer in (POOLED, CONV5):
        np.testing.assert_array_equal(found[feature_layer], wanted(cheap_backbone, photos, feature_layer))
    assert {path: files(cache)[path] for path in before} == before
    pooled = sum(len(np.load(path)) for path in files(cache) if path.parent.name == POOLED.name)
    assert pooled == 5


@pytest.mark.parametrize("change", ["weights", "precision", "view", "content"])
def test_whatever_changes_the_numbers_is_computed_anew(cheap_backbone, photos, change):
    get(photos[:1])
    if change == "content":
        Image.new("RGB", (40, 50), "red").save(photos[0].path)
    view = images.View(flip=True) if change == "view" else images.PLAIN
    tensors = {"some/kernel": np.zeros(3, np.float32)} if change == "weights" else TENSORS
    get([item(photos[0].path, view)], tensors=tensors, precision="bfloat16" if change == "precision" else "float32")
    assert cheap_backbone.computed == 2


def test_a_photo_is_found_under_any_other_name(cheap_backbone, photos, tmp_path):
    first = get(photos)
    (tmp_path / "elsewhere").mkdir()
    moved = [item(each.path.rename(tmp_path / "elsewhere" / f"new {each.path.name}")) for each in photos]
    np.testing.assert_array_equal(get(moved)[POOLED], first[POOLED])
    assert cheap_backbone.computed == 5


def test_a_photo_that_is_not_what_its_list_says_never_gets_into_the_store(cheap_backbone, photos, cache):
    Image.new("RGB", (40, 50), "red").save(photos[2].path)
    with pytest.raises(UserError, match=r"2\.png.*changed since it was listed"):
        get(photos)
    assert not files(cache)


@pytest.mark.parametrize(
    "damage",
    [
        lambda array: array.write_bytes(array.read_bytes()[:-5]),
        lambda array: array.write_bytes(array.read_bytes()[:-1] + b"!"),
        lambda array: array.write_bytes(b""),
        lambda array: array.unlink(),
        lambda array: array.with_suffix(".json").write_text("{"),
        lambda array: array.with_suffix(".json").write_text("[]"),
        lambda array: array.with_suffix(".json").write_text("{}"),
        lambda array: array.with_suffix(".json").unlink(),
    ],
    ids=["truncated", "altered", "empty", "gone", "json feature_layer", "json a list", "json empty", "json gone"],
)
def test_a_damaged_shard_is_noticed_and_computed_again(cheap_backbone, photos, cache, damage):
    first = get(photos[:2])
    second = get(photos[2:])
    before = files(cache, "*.*")
    damage(next(iter(files(cache))))
    both = get(photos)
    np.testing.assert_array_equal(both[POOLED], np.concatenate([first[POOLED], second[POOLED]]))
    assert cheap_backbone.computed in (5 + 2, 5 + 3)  # what was in the damaged shard, and no more
    assert files(cache, "*.*") == before
    get(photos)
    assert cheap_backbone.computed <= 5 + 3


def test_bfloat16_is_stored_in_two_bytes_and_read_back_exactly(cheap_backbone, photos, cache):
    import ml_dtypes

    exact = wanted(cheap_backbone, photos).astype(ml_dtypes.bfloat16)
    for _ in range(2):
        np.testing.assert_array_equal(get(photos, precision="bfloat16")[POOLED], exact.astype(np.float32))
    assert cheap_backbone.computed == 5
    (array,) = files(cache)
    assert np.load(array).dtype == np.uint16 and np.load(array).tobytes() == exact.tobytes()


def test_many_photos_make_many_shards(cheap_backbone, photos, cache, monkeypatch):
    monkeypatch.setattr(activation_cache, "BATCH", 2)
    monkeypatch.setattr(activation_cache, "SHARD_BYTES", 2 * POOLED.shape[0] * 4)
    np.testing.assert_array_equal(get(photos)[POOLED], wanted(cheap_backbone, photos))
    assert sorted(len(np.load(path)) for path in files(cache)) == [1, 2, 2]


def test_a_shard_lists_its_keys_and_its_checksum(cheap_backbone, photos, cache):
    get(photos)
    (array,) = files(cache)
    content = json.loads(array.with_suffix(".json").read_text())
    assert content == {"sha256": hashlib.sha256(array.read_bytes()).hexdigest(), "keys": [each.key for each in photos]}
    assert not list(cache.rglob("*.partial"))


def test_a_photo_that_cannot_be_read_is_named_and_the_finished_shards_stay(cheap_backbone, photos, cache, monkeypatch):
    monkeypatch.setattr(activation_cache, "BATCH", 2)
    monkeypatch.setattr(activation_cache, "SHARD_BYTES", 2 * POOLED.shape[0] * 4)
    photos[4].path.write_bytes(b"")
    with pytest.raises(UserError, match=r"4\.png"):
        get(photos)
    get(photos[:4])
    assert cheap_backbone.computed == 4


def test_a_store_that_cannot_be_written_is_named(cheap_backbone, photos, cache):
    cache.write_text("a file in the way")
    with pytest.raises(UserError, match="store of activations cannot be used"):
        get(photos)


def allow(monkeypatch, size: int | str) -> None:
    monkeypatch.setenv("FLOWERS_CACHE_LIMIT", str(size))


def taken(cache: Path) -> int:
    """Bytes that all activations take."""
    return sum(len(content) for content in files(cache, "*.*").values())


def age(cache: Path) -> None:
    """Let an hour pass since every use."""
    for description in cache.rglob("*.json"):
        moment = description.stat().st_mtime - 3600
        os.utime(description, (moment, moment))


def uses(cheap_backbone, *arguments, **options) -> bool:
    """Whether these activations come from the store."""
    before = cheap_backbone.computed
    get(*arguments, **options)
    return cheap_backbone.computed == before


def test_what_was_not_used_for_longest_makes_room(cheap_backbone, photos, cache, monkeypatch, capsys):
    for one in photos[:3]:
        get([one])
        age(cache)
    for one in (photos[1], photos[0]):
        get([one])  # used in another order than made
        age(cache)
    room = taken(cache)
    allow(monkeypatch, room)
    get(photos[3:4])
    assert room // 2 < taken(cache) <= room
    assert "least recently used" in capsys.readouterr().err
    age(cache)
    assert not uses(cheap_backbone, photos[2:3])  # it went first, and now the next one
    assert [uses(cheap_backbone, [photos[number]]) for number in (0, 3)] == [True, True]
    assert not uses(cheap_backbone, photos[1:2])


def test_nothing_goes_while_there_is_room(cheap_backbone, photos, cache, monkeypatch, capsys):
    get(photos[:2])
    get(photos[2:])
    allow(monkeypatch, taken(cache))
    limited = cache.with_name("limited")
    monkeypatch.setenv("FLOWERS_CACHE", str(limited))
    get(photos[:2])
    get(photos[2:])
    assert taken(limited) == taken(cache)
    assert "warning" not in capsys.readouterr().err


def test_all_weights_precisions_and_cuts_share_one_limit(cheap_backbone, photos, cache, monkeypatch):
    others = {"some/kernel": np.zeros(3, np.float32)}
    get(photos[:1], CONV5)
    age(cache)
    get(photos[:1], precision="bfloat16")
    age(cache)
    get(photos[:1], tensors=others)
    size = taken(cache)
    allow(monkeypatch, size)
    get(photos[1:2])  # far smaller than the first, which makes room alone
    assert taken(cache) < size // 2
    assert uses(cheap_backbone, photos[:1], precision="bfloat16") and uses(cheap_backbone, photos[:1], tensors=others)
    assert not uses(cheap_backbone, photos[:1], CONV5)


def test_what_a_call_uses_stays_even_beyond_the_limit_and_it_says_so(
    cheap_backbone, photos, cache, monkeypatch, capsys
):
    get(photos[:1])
    get(photos[1:2])
    mine = files(cache)
    get(photos[4:])
    capsys.readouterr()
    allow(monkeypatch, "1 kB")
    np.testing.assert_array_equal(get(photos[:3])[POOLED], wanted(cheap_backbone, photos[:3]))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and filesize.decimal(taken(cache)) in warnings[0] and "1.0 kB" in warnings[0]
    assert len(files(cache)) == 3 and files(cache).items() >= mine.items()
    assert uses(cheap_backbone, photos[:3])
    assert capsys.readouterr().err == ""  # nothing new
    value = warnings[0].rpartition("FLOWERS_CACHE_LIMIT=")[2].strip("'")
    allow(monkeypatch, value)  # what it says helps
    get(photos[:4])
    assert "warning" not in capsys.readouterr().err


def test_what_made_room_is_computed_again_to_the_same_numbers(cheap_backbone, photos, cache, monkeypatch):
    first = {number: get([photos[number]], POOLED, CONV5) for number in range(2)}
    before = files(cache, "*.*")
    allow(monkeypatch, 0)
    get(photos[2:])
    assert not before.keys() & files(cache, "*.*").keys()
    for number, feature_layers in first.items():
        again = get([photos[number]], POOLED, CONV5)
        for feature_layer, values in feature_layers.items():
            np.testing.assert_array_equal(again[feature_layer], values)
    assert cheap_backbone.computed == 5 + 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps what is mapped")
def test_what_somebody_still_reads_can_make_room(cheap_backbone, photos, cache, monkeypatch):
    opened = activation_cache.stored(photos[:2], [POOLED], TENSORS, "float32")[POOLED]
    before = files(cache)
    allow(monkeypatch, 0)
    get(photos[2:])
    assert not before.keys() & files(cache).keys()
    np.testing.assert_array_equal(opened[:], wanted(cheap_backbone, photos[:2]))


def test_room_is_made_before_anything_is_computed(cheap_backbone, photos, cache, monkeypatch):
    """Else a full disk would stay full: what can go would go only after what cannot be written."""
    get(photos[:1])
    monkeypatch.setenv("FLOWERS_CACHE_LIMIT", str(POOLED.shape[0] * 4 + 1000))
    photos[1].path.write_bytes(b"")
    with pytest.raises(UserError):
        get(photos[1:2])
    assert not files(cache)


def test_more_shards_than_files_may_be_open(cheap_backbone, photos):
    resource = pytest.importorskip("resource")
    for one in photos:
        get([one])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 3, hard))
    try:
        found = get(photos)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(found[POOLED], wanted(cheap_backbone, photos))


@pytest.mark.parametrize("value", ["lots", "GB", "-1", "20 XB", "20,5 GB", "20 GB or so", "1e9", "0x10", "٣ GB"])
def test_a_limit_that_is_no_size_is_told_before_anything_is_computed(cheap_backbone, photos, monkeypatch, value):
    allow(monkeypatch, value)
    with pytest.raises(UserError, match=rf"FLOWERS_CACHE_LIMIT: '{value}' .*20 GB"):
        get(photos)
    assert cheap_backbone.computed == 0


@pytest.mark.parametrize("where", ["in the same folder", "in another store"])
def test_what_a_killed_process_left_is_removed_when_something_is_computed(cheap_backbone, photos, cache, where):
    tensors = TENSORS if where == "in the same folder" else {"some/kernel": np.zeros(3, np.float32)}
    get(photos[:1], tensors=tensors)
    (array,) = files(cache)
    whole = files(cache, "*.*")
    for name in ("a.partial", "b.npy"):
        array.with_name(name).write_bytes(b"half of somethi")
    get(photos[:1], tensors=tensors)  # nothing to compute: nobody looks for it
    assert len(files(cache, "*.*")) == 4
    get(photos[1:])
    left = files(cache, "*.*")
    assert len(left) == 4 and left.items() >= whole.items()


def drawn() -> dict[str, bytes]:
    """Two pictures of integers only, in the two formats most photos have: coloured rings on a slope."""
    rows, columns = np.mgrid[:300, :400]
    rings = ((rows - 120) ** 2 + (columns - 230) ** 2) // 400
    pixels = np.stack([rows * 255 // 299, columns * 255 // 399, rings * 37 % 256], axis=-1).astype(np.uint8)
    found = {}
    for kind in ("PNG", "JPEG"):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        found[kind] = stream.getvalue()
    return found


# By VERSION: the pixels of the PNG's plain view and of a mirrored crop (first digits of their SHA-256); and of what the
# backbone makes of these and of the JPEG, by feature_layer, the mean, the spread and a weighed sum for each picture.
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


def test_the_numbers_in_the_store_are_those_of_its_version(run_backbone):
    """What fails here changes stored activations: raise VERSION in activations.py and note the numbers anew."""
    hashes, numbers = GOLDEN[activation_cache.VERSION]
    pictures = drawn()
    crop = images.View((0.1, 0.05, 0.8, 0.9), flip=True)
    views = [images.load(pictures["PNG"]), images.load(pictures["PNG"], crop), images.load(pictures["JPEG"])]
    assert [hashlib.sha256(view.tobytes()).hexdigest()[:16] for view in views[:2]] == hashes
    found = run_backbone(np.stack(views))
    for feature_layer, wanted in numbers.items():
        values = found[feature_layer].astype(np.float64).reshape(len(views), -1)
        wave = np.cos(np.arange(values.shape[1]) ** 2 % 97)
        measured = [values.mean(), values.std(), *(values @ wave / np.abs(values).sum(axis=1))]
        np.testing.assert_allclose(measured, wanted, rtol=1e-3, atol=1e-5)


# Fetches activations of argv[2:] with a backbone that records in argv[1] each image; all processes begin at once.
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
    """Run as many processes at once as there are lists of photos."""
    commands = [
        [sys.executable, "-c", FETCH, str(folder), *(str(each.path) for each in photos)] for photos in photos_of_each
    ]
    variables = os.environ | {"PROCESSES": str(len(commands))} | environment
    for ready in folder.glob("ready*"):
        ready.unlink()
    running = [
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    answers = [process.communicate(timeout=60) for process in running]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *answer)
        for process, answer in zip(running, answers, strict=True)
    ]


def test_two_processes_that_want_the_same_compute_it_once(photos, tmp_path):
    first, second = fetch(tmp_path, photos, photos)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert (tmp_path / "computed").read_text() == "x" * 5


@pytest.mark.parametrize("moment", ["before the shard", "before its list"])
def test_a_kill_while_a_shard_is_written_leaves_a_right_store(photos, tmp_path, cache, moment):
    fetch(tmp_path, photos[:2])
    (killed,) = fetch(tmp_path, photos, DIE_AT={"before the shard": "1", "before its list": "2"}[moment])
    assert killed.returncode == -signal.SIGKILL
    assert len(files(cache, "*.json")) == 1 and list(cache.rglob("*.partial"))
    (again,) = fetch(tmp_path, photos)
    assert again.returncode == 0, again.stderr
    means = [float(images.load(each.path).mean()) for each in photos]
    np.testing.assert_allclose(json.loads(again.stdout), means, rtol=1e-5)
    assert (tmp_path / "computed").read_text() == "x" * (2 + 3 + 3)
    assert len(files(cache)) == len(files(cache, "*.json")) == 2 and not list(cache.rglob("*.partial"))


@pytest.mark.parametrize("differ", ["photos", "weights"])
def test_two_processes_at_once_with_room_for_one_of_them_end_right(photos, tmp_path, cache, differ):
    fetch(tmp_path, photos[2:3])
    room = taken(cache)
    shares = (photos[:1], photos[1:2] if differ == "photos" else photos[:1])
    own_weights = "yes" if differ == "weights" else ""
    answers = fetch(tmp_path, *shares, OWN_WEIGHTS=own_weights, FLOWERS_CACHE_LIMIT=str(room))
    for answer, (one,) in zip(answers, shares, strict=True):
        assert answer.returncode == 0, answer.stderr
        np.testing.assert_allclose(json.loads(answer.stdout), [images.load(one.path).mean()], rtol=1e-5)
        assert "warning" not in answer.stderr
    assert (tmp_path / "computed").read_text() == "x" * 3
    assert taken(cache) == room and len(files(cache, "*.*")) == 2


def test_nobody_clears_what_was_found_and_is_not_yet_opened(photos, tmp_path, cache, capsys):
    found = []
    fetching = threading.Thread(target=lambda: found.extend(fetch(tmp_path, photos, SLOW_TO_OPEN="0.5")))
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
