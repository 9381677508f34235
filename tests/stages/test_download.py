"""The stage `download`: readable images by class, listed and measured; other files listed with the reason."""

import csv
import hashlib
import io
import subprocess
import sys
import tarfile
import time
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.params import DatasetParams
from flowers.data import catalogue, images
from flowers.stages import download


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """An empty checkout with an empty cache and stand-in ImageNet weights."""
    provided = []
    fake = types.ModuleType("flowers.model.weights")
    fake.provide = lambda choice, destination: provided.append((choice, destination))
    monkeypatch.setitem(sys.modules, "flowers.model.weights", fake)
    monkeypatch.setenv("FLOWERS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    return provided


def run(path="data", name="local", mirror=None, bad_images="skip") -> None:
    download.run(DatasetParams(name=name, path=str(path), mirror=mirror, bad_images=bad_images), "random")


def picture(number: int, kind: str = "JPEG", size=(40, 30), **options) -> bytes:
    colour = tuple(int(value) for value in np.random.default_rng(number).integers(0, 256, 3))
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind, **options)
    return out.getvalue()


def write(root, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.fixture
def data(checkout):
    """`data/` with two classes of two images."""
    root = Path("data")
    names = ("rose/1.jpg", "rose/2.jpg", "tulip/1.jpg", "tulip/2.jpg")
    write(root, {name: picture(number) for number, name in enumerate(names)})
    return root


def table(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def made() -> dict[str, bytes]:
    """Every file below build/, byte for byte."""
    if not paths.BUILD.exists():
        return {}
    files = (path for path in sorted(paths.BUILD.rglob("*")) if path.is_file())
    return {path.relative_to(paths.BUILD).as_posix(): path.read_bytes() for path in files}


def test_images_are_copied_listed_and_measured(data, checkout):
    exif = Image.Exif()
    exif[0x0112] = 6
    write(data, {"tulip/on its side.jpg": picture(9, size=(40, 30), exif=exif)})
    run()
    rows = table(paths.IMAGE_LIST)
    assert list(rows[0]) == [
        *("path", "label", "sha256", "pixels", "phash", "mirrored_phash", "width", "height", "subset")
    ]
    assert [row["path"] for row in rows] == [
        *("rose/1.jpg", "rose/2.jpg", "tulip/1.jpg", "tulip/2.jpg", "tulip/on its side.jpg")
    ]
    for row in rows:
        content = (data / row["path"]).read_bytes()
        assert (paths.IMAGES / row["path"]).read_bytes() == content
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        measured = images.measure(content)
        assert (row["pixels"], row["phash"]) == (measured.pixels, measured.phash)
        assert row["mirrored_phash"] == measured.mirrored_phash
        assert (row["label"], row["subset"]) == (row["path"].split("/")[0], "")
    assert [(row["width"], row["height"]) for row in rows][-2:] == [("40", "30"), ("30", "40")]
    assert paths.SKIPPED_LIST.read_text() == "path,reason\n"
    assert checkout == [("random", paths.WEIGHTS)]


def test_a_second_run_gives_the_same_bytes_and_only_current_files(data):
    run()
    first = made()
    run()
    assert made() == first
    (data / "rose" / "2.jpg").unlink()
    run()
    assert first.keys() - made().keys() == {"images/rose/2.jpg"}
    assert {name.split("/")[0] for name in made()} == {"images", "images.csv", "skipped.csv"}


def test_an_official_split_is_listed_and_equal_names_are_kept_apart(tmp_path):
    root = tmp_path / "elsewhere"
    write(root, {"train/rose/1.jpg": picture(1), "val/rose/1.jpg": picture(2), "test/rose/3.jpg": picture(3)})
    write(root, {"train/tulip/1.jpg": picture(4), "train/rose/val_1.jpg": picture(5)})
    run(root)
    listed = {row["path"]: (row["subset"], row["sha256"]) for row in table(paths.IMAGE_LIST)}
    sha = {number: hashlib.sha256(picture(number)).hexdigest() for number in range(1, 6)}
    assert listed == {
        "rose/3.jpg": ("test", sha[3]),
        "rose/_val_1.jpg": ("val", sha[2]),
        "rose/train_1.jpg": ("train", sha[1]),
        "rose/val_1.jpg": ("train", sha[5]),
        "tulip/1.jpg": ("train", sha[4]),
    }
    assert {path.relative_to(paths.IMAGES).as_posix() for path in paths.IMAGES.rglob("*.jpg")} == set(listed)


def test_names_with_quotes_newlines_and_other_scripts_are_kept(data):
    names = ('the "old", rose/a, "b".jpg', "colt's foot/фото 1.jpg", "苹果花/two\nlines.jpg", "NA/nan.jpg")
    write(data, {name: picture(50 + number) for number, name in enumerate(names)})
    run()
    rows = {row["path"]: row["label"] for row in table(paths.IMAGE_LIST)}
    assert rows.items() >= {name: name.split("/")[0] for name in names}.items()
    assert all((paths.IMAGES / path).is_file() for path in rows)


BAD = {
    "rose/cut.jpg": (picture(0, size=(400, 300))[:800], "truncated"),
    "rose/notes.txt": (b"remember to water", "not an image"),
    "tulip/empty.png": (b"", "empty file"),
}


def test_bad_images_are_skipped_and_listed_with_their_reason(data, capsys):
    write(data, {name: content for name, (content, _) in BAD.items()})
    run()
    assert len(table(paths.IMAGE_LIST)) == 4
    skipped = table(paths.SKIPPED_LIST)
    assert [row["path"] for row in skipped] == sorted(BAD)
    assert all(row["reason"].startswith(BAD[row["path"]][1]) for row in skipped)
    assert not any((paths.IMAGES / name).exists() for name in BAD)
    err = capsys.readouterr().err
    assert "3 files are not readable images" in err and "rose/notes.txt: not an image" in err


def test_bad_images_are_an_error_with_bad_images_refuse(data):
    run()
    before = made()
    write(data, {name: content for name, (content, _) in BAD.items()})
    with pytest.raises(UserError) as error:
        run(bad_images="refuse")
    assert "rose/cut.jpg: truncated" in str(error.value) and "build/skipped.csv" in str(error.value)
    assert [row["path"] for row in table(paths.SKIPPED_LIST)] == sorted(BAD)
    assert made() | {"skipped.csv": b""} == before | {"skipped.csv": b""}  # earlier outputs stay


def test_a_long_list_of_bad_images_is_cut_only_in_the_message(data, capsys):
    write(data, {f"rose/{number:03}.txt": b"no" for number in range(40)})
    run()
    assert "and 30 more" in capsys.readouterr().err
    assert len(table(paths.SKIPPED_LIST)) == 40


def test_a_class_without_a_readable_image_is_an_error_naming_it(data):
    write(data, {"daisy/1.jpg": b"not an image"})
    with pytest.raises(UserError, match="without a readable image: daisy"):
        run()
    assert made() == {}


def test_a_single_class_is_an_error(tmp_path):
    write(tmp_path / "one", {"rose/1.jpg": picture(1)})
    with pytest.raises(UserError, match=r"only one class \(rose\)"):
        run(tmp_path / "one")


def test_a_missing_folder_is_an_error_with_the_remedy(checkout):
    with pytest.raises(UserError, match=r"dataset\.path: there is no folder data; name a folder"):
        run()
    with pytest.raises(UserError, match=r"data\.dvc is missing; put images into data/<class>/"):
        run("data.yaml")
    Path("data.dvc").write_text("outs: []")
    with pytest.raises(UserError, match=r"data/ does not exist yet\. Type: dvc pull data\.dvc"):
        run("data.yaml")
    assert made() == {} and checkout == []


def test_an_unknown_data_set_is_an_error_before_anything_is_made():
    with pytest.raises(UserError, match="did you mean 'flower_photos'"):
        run(name="flower_photo")
    assert not paths.BUILD.exists()


def test_a_build_folder_that_cannot_be_written_is_an_error_naming_it(data):
    paths.BUILD.write_text("in the way")
    with pytest.raises(NotADirectoryError, match="build"):
        run()


def test_the_set_of_kaggle_is_read_from_the_cache_else_an_error_gives_its_address(tmp_path):
    with pytest.raises(UserError) as error:
        run(name="flowers_recognition")
    place = tmp_path / "cache" / "archives" / "flowers-recognition.zip"
    assert "kaggle.com/datasets/alxmamaev/flowers-recognition" in str(error.value) and str(place) in str(error.value)
    with zipfile.ZipFile(place, "w") as archive:
        for number, name in enumerate(("daisy", "dandelion", "rose", "sunflower", "tulip")):
            archive.writestr(f"flowers/{name}/1.jpg", picture(number))
        archive.writestr("flowers/dandelion/flickr.py", "print()")
    run(name="flowers_recognition")
    assert len(table(paths.IMAGE_LIST)) == 5
    assert [row["path"] for row in table(paths.SKIPPED_LIST)] == ["flowers/dandelion/flickr.py"]


def test_the_archives_of_oxford_become_named_classes_with_the_official_split(tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with tarfile.open(mirror / "102flowers.tgz", "w:gz") as archive:
        for number in (1, 2, 3):
            info = tarfile.TarInfo(f"jpg/image_{number:05d}.jpg")
            info.size = len(picture(number))
            archive.addfile(info, io.BytesIO(picture(number)))
    scipy.io.savemat(mirror / "imagelabels.mat", {"labels": np.array([[102, 12, 12]], dtype=np.uint8)})
    scipy.io.savemat(mirror / "setid.mat", {"trnid": [[3]], "valid": [[1]], "tstid": [[2]]})
    official = catalogue.find("oxford_flowers102")
    with pytest.raises(UserError, match="truncated or altered"):  # a mirror must serve the official bytes
        run(name="oxford_flowers102", mirror=str(mirror))

    def checked(archive: catalogue.Archive) -> catalogue.Archive:
        content = (mirror / archive.file_name).read_bytes()
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        return catalogue.Archive(archive.file_name, archive.addresses, len(content), checksum)

    ours = vars(official) | {"archives": tuple(checked(archive) for archive in official.archives)}
    monkeypatch.setitem(catalogue.SOURCES, "oxford_flowers102", catalogue.Source(**ours))
    run(name="oxford_flowers102", mirror=str(mirror))
    assert [(row["path"], row["label"], row["subset"]) for row in table(paths.IMAGE_LIST)] == [
        ("blackberry lily/image_00001.jpg", "blackberry lily", "val"),
        ("colt's foot/image_00002.jpg", "colt's foot", "test"),
        ("colt's foot/image_00003.jpg", "colt's foot", "train"),
    ]
    assert {name.split("/")[0] for name in made()} == {"images", "images.csv", "skipped.csv"}


KILLED = """
import sys, types
fake = types.ModuleType("flowers.model.weights")
fake.provide = lambda choice, destination: None
sys.modules["flowers.model.weights"] = fake
from flowers.config.params import DatasetParams
from flowers.stages import download
download.run(DatasetParams(name="local", path="data", mirror=None, bad_images="skip"), "random")
"""


def test_a_killed_run_leaves_the_earlier_result_and_the_next_run_cleans_up(data):
    run()
    before = made()
    write(data, {f"rose/large {number:03}.jpg": picture(number, size=(900, 900)) for number in range(150)})
    process = subprocess.Popen([sys.executable, "-c", KILLED])
    deadline = time.monotonic() + 30
    while not any((paths.BUILD / ".download").rglob("*.jpg")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    left = made()
    assert any(name.startswith(".download/") for name in left), "the kill came too late"
    assert {name: content for name, content in left.items() if not name.startswith(".")} == before
    run()
    assert len(table(paths.IMAGE_LIST)) == 154
    assert {name.split("/")[0] for name in made()} == {"images", "images.csv", "skipped.csv"}
