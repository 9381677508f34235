"""Each layout is read into the same list of images in any order of the file system; errors name what does not fit."""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from flowers.common.errors import UserError
from flowers.data import readers

FIVE = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


def touch(root, *names) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(root, reader="folder", class_names=()) -> list[tuple[str, str, str | None]]:
    listed = readers.read(reader, root, class_names)
    return [(image.source.relative_to(root).as_posix(), image.label, image.subset) for image in listed]


def test_class_folders_give_labels_and_no_split(tmp_path):
    touch(tmp_path, "tulip/b.jpg", "tulip/a.png", "rose/c.jpg")
    assert found(tmp_path) == [
        ("rose/c.jpg", "rose", None),
        ("tulip/a.png", "tulip", None),
        ("tulip/b.jpg", "tulip", None),
    ]


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_subset_folders_give_the_official_split(tmp_path, val):
    touch(tmp_path, "train/rose/1.jpg", f"{val}/rose/2.jpg", "test/rose/3.jpg", "train/tulip/1.jpg")
    assert found(tmp_path) == [
        ("test/rose/3.jpg", "rose", "test"),
        ("train/rose/1.jpg", "rose", "train"),
        (f"{val}/rose/2.jpg", "rose", "val"),
        ("train/tulip/1.jpg", "tulip", "train"),
    ]


def test_a_class_may_be_called_train(tmp_path):
    touch(tmp_path, "train/1.jpg", "car/1.jpg")
    assert {label for _, label, _ in found(tmp_path)} == {"train", "car"}


def test_subsets_beside_classes_and_two_folders_of_one_subset_are_errors(tmp_path):
    touch(tmp_path, "mixed/train/rose/1.jpg", "mixed/test/rose/1.jpg", "mixed/extra/rose/1.jpg")
    with pytest.raises(UserError, match=r"subsets \(test, train\) beside other folders \(extra\)"):
        readers.read("folder", tmp_path / "mixed")
    touch(tmp_path, "twice/train/rose/1.jpg", "twice/val/rose/1.jpg", "twice/valid/rose/1.jpg")
    with pytest.raises(UserError, match="val, valid"):
        readers.read("folder", tmp_path / "twice")


def test_names_with_spaces_quotes_commas_and_other_letters_are_kept(tmp_path):
    names = ("colt's foot", 'the "rose", red', "苹果花", "цветок ü", " leading")
    touch(tmp_path, *(f"{name}/фото 'а', \"b\".jpg" for name in names))
    assert found(tmp_path) == sorted((f"{name}/фото 'а', \"b\".jpg", name, None) for name in names)


@pytest.mark.parametrize("name", ["=1+1", "@sum", "-rf", "new\nline", "\x1b[31mred", "rose\u202egpj.exe"])
def test_a_class_name_that_is_dangerous_in_a_table_or_on_a_terminal_is_an_error(tmp_path, name):
    touch(tmp_path, f"{name}/1.jpg", "half-hardy = perennial/-1.jpg")
    with pytest.raises(UserError, match="rename these folders") as raised:
        found(tmp_path)
    assert repr(name) in str(raised.value) and "perennial" not in str(raised.value)


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch, capsys):
    touch(tmp_path, *(f"{label}/{number}.jpg" for label in "cab" for number in (3, 10, 1)), "y.jpg", "x.jpg")
    expected, warned = found(tmp_path), capsys.readouterr().err
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: sorted(listing(folder), reverse=True))
    assert (found(tmp_path), capsys.readouterr().err) == (expected, warned)
    assert "x.jpg, y.jpg" in warned
    assert [name for name, _, _ in expected][:4] == ["a/1.jpg", "a/10.jpg", "a/3.jpg", "b/1.jpg"]


def test_hidden_files_are_ignored_without_a_warning(tmp_path, capsys):
    touch(tmp_path, "rose/1.jpg", "rose/.DS_Store", "rose/Thumbs.db", "rose/._1.jpg", ".DS_Store", ".git/x/1.jpg")
    touch(tmp_path, "__MACOSX/rose/1.jpg", "desktop.ini", "tulip/1.jpg")
    assert [name for name, _, _ in found(tmp_path)] == ["rose/1.jpg", "tulip/1.jpg"]
    assert capsys.readouterr().err == ""


def test_a_missing_folder_a_file_and_an_empty_folder_are_errors_that_name_them(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        readers.read("folder", tmp_path / "nowhere")
    touch(tmp_path, "file", "only/.hidden")
    with pytest.raises(UserError, match="file: not a folder"):
        readers.read("folder", tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no images"):
        readers.read("folder", tmp_path / "empty")


def test_an_empty_class_is_an_error_that_names_it(tmp_path):
    touch(tmp_path, "rose/1.jpg", "tulip/.DS_Store")
    with pytest.raises(UserError, match=r"without an image: tulip$"):
        readers.read("folder", tmp_path)


def test_a_class_empty_in_one_subset_alone_is_a_warning(tmp_path, capsys):
    touch(tmp_path, "train/rose/1.jpg", "train/tulip/1.jpg", "test/rose/2.jpg")
    (tmp_path / "test" / "tulip").mkdir()
    assert len(found(tmp_path)) == 3
    assert "empty class folders: test/tulip" in capsys.readouterr().err


def test_a_folder_one_level_too_high_is_recognised(tmp_path):
    touch(tmp_path, "flower_photos/rose/1.jpg", "flower_photos/tulip/1.jpg")
    with pytest.raises(UserError, match=r"flower_photos/rose, flower_photos/tulip\): is it one level too high"):
        readers.read("folder", tmp_path)


def test_files_outside_class_folders_and_folders_inside_them_are_named(tmp_path, capsys):
    touch(tmp_path, "rose/1.jpg", "tulip/1.jpg", "lost image.jpg", "tulip/more/2.jpg")
    assert [name for name, _, _ in found(tmp_path)] == ["rose/1.jpg", "tulip/1.jpg"]
    err = capsys.readouterr().err
    assert "lost image.jpg" in err and "tulip/more" in err
    touch(tmp_path, *(f"split/{subset}/rose/{subset}.jpg" for subset in ("train", "test")), "split/train/stray.jpg")
    assert len(found(tmp_path / "split")) == 2
    assert "train/stray.jpg" in capsys.readouterr().err


def test_a_name_that_is_not_text_is_an_error_that_shows_it(tmp_path):
    folder = os.fsencode(tmp_path) + b"/rose"
    Path(os.fsdecode(folder)).mkdir()
    try:
        with open(folder + b"/\xff\xfe.jpg", "wb"):  # noqa: PTH123 (a name in bytes)
            pass
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(UserError, match=r"\\xff\\xfe\.jpg.*not valid UTF-8"):
        readers.read("folder", tmp_path)


@pytest.mark.parametrize("top", ["flower_photos", "flowers"])
def test_the_five_classes_are_read_from_their_one_top_folder(tmp_path, top, capsys):
    touch(tmp_path, f"{top}/LICENSE.txt", *(f"{top}/{name}/1.jpg" for name in FIVE))
    assert found(tmp_path, "five_classes", FIVE) == [(f"{top}/{name}/1.jpg", name, None) for name in FIVE]
    assert capsys.readouterr().err == ""


def test_the_copy_nested_in_an_old_zip_is_not_read_twice(tmp_path, capsys):
    touch(tmp_path, *(f"{top}/{name}/1.jpg" for name in FIVE for top in ("flowers", "flowers/flowers")))
    assert len(found(tmp_path, "five_classes", FIVE)) == 5
    assert "no class of this data set" in capsys.readouterr().err


def test_an_archive_without_the_five_classes_is_an_error(tmp_path):
    touch(tmp_path, *(f"flowers/{name}/1.jpg" for name in FIVE[:4]))
    with pytest.raises(UserError, match="no folder with daisy, dandelion, roses, sunflowers, tulips"):
        readers.read("five_classes", tmp_path, FIVE)


def oxford(root, labels=(1, 2, 2, 1), train=(3,), val=(1,), test=(2, 4)) -> None:
    """A small Oxford set of four images, in the form of the official files."""
    touch(root, *(f"jpg/image_{number:05d}.jpg" for number in range(1, len(labels) + 1)))
    scipy.io.savemat(root / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    ids = {"trnid": train, "valid": val, "tstid": test}
    scipy.io.savemat(root / "setid.mat", {key: np.array([value], dtype=np.uint16) for key, value in ids.items()})


def test_oxfords_labels_and_split_come_from_its_mat_files(tmp_path):
    oxford(tmp_path)
    assert found(tmp_path, "oxford102", ("lily", "crocus")) == [
        ("jpg/image_00002.jpg", "crocus", "test"),
        ("jpg/image_00003.jpg", "crocus", "train"),
        ("jpg/image_00004.jpg", "lily", "test"),
        ("jpg/image_00001.jpg", "lily", "val"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": (1, 2, 3, 1)}, r"imagelabels\.mat: 'labels' must hold numbers from 1 to 2"),
        ({"train": (5,)}, r"setid\.mat: 'trnid' must hold numbers from 1 to 4"),
        ({"train": (1,)}, "an image is in two subsets"),
    ],
)
def test_oxfords_files_that_contradict_each_other_are_errors(tmp_path, change, message):
    oxford(tmp_path, **change)
    with pytest.raises(UserError, match=message):
        readers.read("oxford102", tmp_path, ("lily", "crocus"))


def test_oxfords_missing_and_damaged_files_are_named(tmp_path):
    oxford(tmp_path)
    (tmp_path / "jpg" / "image_00003.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 4 images are missing: image_00003\.jpg"):
        readers.read("oxford102", tmp_path, ("lily", "crocus"))
    (tmp_path / "setid.mat").write_bytes(b"not a MATLAB file")
    with pytest.raises(UserError, match=r"setid\.mat: 'trnid' cannot be read"):
        readers.read("oxford102", tmp_path, ("lily", "crocus"))
    (tmp_path / "imagelabels.mat").unlink()
    with pytest.raises(UserError, match=r"imagelabels\.mat: no such file"):
        readers.read("oxford102", tmp_path, ("lily", "crocus"))
