"""The drawn sample: the same bytes every time, five classes, and no class that its mean colour would give away."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import draw_sample as sample
from flowers.common.errors import UserError

CLASSES = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
CHECKOUT = Path(__file__).parents[2]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.jpg"))
    return {
        file.relative_to(folder).as_posix(): hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        for file in files
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Three images of each class, drawn by the command line in a process of its own."""
    folder = tmp_path_factory.mktemp("sample") / "flowers"
    command = [sys.executable, "-m", "draw_sample", str(folder), "--train", "2", "--val", "0", "--test", "1"]
    subprocess.run(command, check=True, cwd=CHECKOUT / "tools")
    return folder


def test_images_are_small_jpegs_of_five_classes(drawn):
    places = [("train", 0), ("train", 1), ("test", 2)]
    expected = sorted(f"{subset}/{label}/{label}_{index:03d}.jpg" for label in CLASSES for subset, index in places)
    assert sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*") if path.is_file()) == expected
    assert len(set(digests(drawn).values())) == 15
    assert np.mean([file.stat().st_size for file in drawn.rglob("*.jpg")]) < 12_000  # 1,500 of them within 18 MB
    for file in drawn.rglob("*.jpg"):
        with Image.open(file) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (224, 224))
            assert np.asarray(image).std() > 10


def test_images_are_those_of_the_shipped_sample(drawn):
    """An image depends on seed, class and number alone, whatever subset it is in."""
    digest = YAML(typ="safe").load(CHECKOUT / "data.dvc")["outs"][0]["md5"]
    listing = CHECKOUT / ".dvc/sample/files/md5" / digest[:2] / digest[2:]
    shipped = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text())}
    assert Counter(path.split("/")[0] for path in shipped) == {"train": 300, "val": 300, "test": 900}
    by_name = {Path(path).name: digest for path, digest in shipped.items()}
    assert {Path(path).name: digest for path, digest in digests(drawn).items()}.items() <= by_name.items()


def test_another_seed_draws_other_images(drawn, tmp_path):
    sample.draw(tmp_path, {"train": 1}, seed=1)
    assert digests(tmp_path).keys() <= digests(drawn).keys()
    assert not set(digests(tmp_path).values()) & set(digests(drawn).values())


def test_a_folder_with_files_and_a_file_in_its_place_are_errors(tmp_path):
    kept = tmp_path / "notes.txt"
    kept.write_text("mine")
    for place in (tmp_path, kept):
        with pytest.raises(UserError, match="not an empty folder"):
            sample.draw(place)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_image_has_the_requested_size():
    for label in CLASSES:
        small = sample.image(label, np.random.default_rng(5), size=96)
        assert (small.mode, small.size) == ("RGB", (96, 96))


def test_an_unknown_class_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"orchid.*daisy, dandelion, roses, sunflowers, tulips"):
        sample.image("orchid", np.random.default_rng(0))


def test_mean_colour_does_not_tell_the_classes_apart():
    # Small images have the same mean colour, and the test is faster.
    seeds = range(16)
    colours = [
        np.asarray(sample.image(label, np.random.default_rng([index, number]), size=64)).mean(axis=(0, 1))
        for number, label in enumerate(CLASSES)
        for index in seeds
    ]
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    accuracy = cross_val_score(classifier, np.array(colours), np.repeat(CLASSES, len(seeds)), cv=4).mean()
    assert accuracy < 0.6
