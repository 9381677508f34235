"""The drawn sample: the same bytes every time, five classes, and no class that its mean colour would give away."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import draw_sample as sample
from flowers.common.errors import UserError

CLASSES = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.jpg"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "flowers"
    sample.draw(folder, per_class=2)
    return folder


def test_writes_numbered_jpegs_of_five_classes(drawn):
    expected = [f"{label}/{label}_{index:03d}.jpg" for label in CLASSES for index in range(2)]
    assert sorted(str(path.relative_to(drawn)) for path in drawn.rglob("*") if path.is_file()) == expected
    for file in drawn.rglob("*.jpg"):
        with Image.open(file) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (256, 256))


def test_pictures_are_small_files_that_show_something(drawn):
    sizes = [file.stat().st_size for file in drawn.rglob("*.jpg")]
    assert np.mean(sizes) < 20_000  # 300 of them within 6 MB
    for file in drawn.rglob("*.jpg"):
        assert np.asarray(Image.open(file)).std() > 10


def test_another_process_draws_the_same_bytes(drawn, tmp_path):
    code = "import sys, pathlib, draw_sample; draw_sample.draw(pathlib.Path(sys.argv[1]), per_class=2)"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "again")], check=True, cwd=Path(__file__).parents[2] / "tools"
    )
    assert digests(tmp_path / "again") == digests(drawn)


def test_a_larger_sample_begins_with_the_smaller_one(drawn, tmp_path):
    sample.draw(tmp_path, per_class=3)
    larger = digests(tmp_path)
    assert len(larger) == 15
    assert digests(drawn).items() <= larger.items()


def test_another_seed_draws_other_pictures(drawn, tmp_path):
    sample.draw(tmp_path, per_class=2, seed=1)
    assert digests(tmp_path).keys() == digests(drawn).keys()
    assert not set(digests(tmp_path).values()) & set(digests(drawn).values())


def test_no_picture_appears_twice(drawn):
    assert len(set(digests(drawn).values())) == 10


def test_refuses_a_folder_that_holds_something(tmp_path):
    kept = tmp_path / "notes.txt"
    kept.write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        sample.draw(tmp_path, per_class=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_refuses_a_file_in_the_folders_place(tmp_path):
    place = tmp_path / "data"
    place.write_text("")
    with pytest.raises(UserError, match="data"):
        sample.draw(place, per_class=1)


@pytest.mark.parametrize("label", CLASSES)
def test_draws_one_picture_of_any_size(label):
    small = sample.picture(label, np.random.default_rng(5), size=96)
    assert (small.mode, small.size) == ("RGB", (96, 96))


def test_an_unknown_class_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"orchid.*daisy, dandelion, roses, sunflowers, tulips"):
        sample.picture("orchid", np.random.default_rng(0))


def test_mean_colour_does_not_tell_the_classes_apart():
    # Small pictures, for the mean is the same and the test faster.
    seeds = range(16)
    colours = [
        np.asarray(sample.picture(label, np.random.default_rng([index, number]), size=64)).mean(axis=(0, 1))
        for number, label in enumerate(CLASSES)
        for index in seeds
    ]
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    accuracy = cross_val_score(classifier, np.array(colours), np.repeat(CLASSES, len(seeds)), cv=4).mean()
    assert accuracy < 0.6
