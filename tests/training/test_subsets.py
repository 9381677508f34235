"""The images of a split: order, labels, views, and errors about missing files."""

import re
from dataclasses import replace

import pytest

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.params import AugmentationParams
from flowers.data import images
from flowers.training import subsets

ROWS = [  # path, label, subset, sha256, in no order
    ("rose/b.jpg", "rose", "train", "sha-b"),
    ("NA/x.jpg", "NA", "train", "sha-x"),
    ("rose/a.jpg", "rose", "val", "sha-a"),
    ("café/1, 2.jpg", "café", "test", "sha-1"),
    ("NA/y.jpg", "NA", "val", "sha-y"),
    ("rose/c.jpg", "rose", "train", "sha-c"),
]


def write(rows=ROWS) -> None:
    paths.BUILD.mkdir(exist_ok=True)
    split = [f'"{path}",{label},{subset}' for path, label, subset, _ in rows]
    listed = [f'"{path}",{label},{sha256},pixels,300,200,' for path, label, _, sha256 in reversed(rows)]
    paths.SPLIT.write_text("\n".join(["path,label,subset", *split, ""]), encoding="utf-8")
    header = "path,label,sha256,pixels,width,height,subset"
    paths.IMAGE_LIST.write_text("\n".join([header, *listed, ""]), encoding="utf-8")


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write()


def augmentation(**changes) -> AugmentationParams:
    return AugmentationParams(**{"views": 3, "size": None, "flip": True, "min_area": 0.5, "seed": 0} | changes)


def test_images_are_ordered_by_path_with_labels_among_all_classes_of_the_split():
    found = subsets.read("train", "val")
    assert found.classes == ["NA", "café", "rose"]  # "café" has test images only, but is counted
    assert list(found.table["path"]) == ["NA/x.jpg", "NA/y.jpg", "rose/a.jpg", "rose/b.jpg", "rose/c.jpg"]
    assert found.labels.tolist() == [0, 0, 2, 2, 2] and found.labels.dtype.name == "int32"
    assert len(found) == 5 and len(subsets.read("test")) == 1


def test_the_order_of_the_rows_in_the_files_does_not_matter():
    before = [item.sha256 for item in subsets.read("train").plain()]
    write(ROWS[::-1])
    assert [item.sha256 for item in subsets.read("train").plain()] == before == ["sha-x", "sha-b", "sha-c"]


def test_an_item_has_the_file_and_the_hash_of_its_image():
    (item,) = subsets.read("test").plain()
    assert (item.path, item.sha256, item.view) == (paths.IMAGES / "café" / "1, 2.jpg", "sha-1", images.PLAIN)


def test_every_image_has_its_plain_view_first_and_then_random_ones():
    views = [[item.view for item in of_image] for of_image in subsets.read("train").augmented(augmentation())]
    assert [len(of_image) for of_image in views] == [4, 4, 4]
    assert all(of_image[0] == images.PLAIN for of_image in views)
    assert len({view.key for of_image in views for view in of_image[1:]}) == 9


def test_views_depend_on_content_and_seed_and_more_views_keep_the_first_ones():
    few, more = (subsets.read("train").augmented(augmentation(views=views)) for views in (1, 3))
    assert [of_image[:2] for of_image in more] == few
    write([(f"renamed {path}", *rest) for path, *rest in ROWS])
    renamed = subsets.read("train").augmented(augmentation())
    assert [[item.key for item in of_image] for of_image in renamed] == [
        [item.key for item in of_image] for of_image in more
    ]
    other = subsets.read("train").augmented(augmentation(seed=1))
    assert not {item.key for of_image in other for item in of_image[1:]} & {
        item.key for of_image in more for item in of_image
    }


def test_flips_follow_the_plain_views():
    chosen = subsets.read("train")
    assert chosen.with_flips(mirror=False) == chosen.plain()
    assert chosen.with_flips(mirror=True)[:3] == chosen.plain()
    for plain, mirrored in zip(chosen.plain(), chosen.with_flips(mirror=True)[3:], strict=True):
        assert mirrored.path == plain.path and mirrored.view == images.View(flip=True)


def test_all_views_have_the_given_size():
    chosen, changes = subsets.read("train"), {"size": 96}
    of_usual = [item.view for item in chosen.with_flips(mirror=True)]
    assert [item.view for item in chosen.with_flips(mirror=True, size=96)] == [replace(v, **changes) for v in of_usual]
    augmented = (chosen.augmented(augmentation()), chosen.augmented(augmentation(), size=96))
    usual, small = ([item.view for of_image in views for item in of_image] for views in augmented)
    assert small == [replace(view, **changes) for view in usual]


def test_without_augmented_views_only_the_plain_view_is_left():
    assert [len(of_image) for of_image in subsets.read("train").augmented(augmentation(views=0))] == [1, 1, 1]


@pytest.mark.parametrize("missing", [paths.SPLIT, paths.IMAGE_LIST])
def test_an_error_names_the_missing_file_of_an_earlier_stage(missing):
    missing.unlink()
    with pytest.raises(UserError, match=f"{missing}: no such file; run `dvc repro`"):
        subsets.read("train")


def test_a_subset_without_images_raises_an_error():
    write([row for row in ROWS if row[2] != "val"])
    with pytest.raises(UserError, match="no images in val"):
        subsets.read("val")


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        (paths.SPLIT, "rose,train", "rosf,train", "damaged at 'rose/b.jpg'"),
        (paths.SPLIT, "rose,val", "rose,vam", "damaged at 'rose/a.jpg'"),
        (paths.IMAGE_LIST, "café,sha-1", "cafè,sha-1", "damaged at 'café/1, 2.jpg'"),
        (paths.SPLIT, "path,label,subset", "path,label,sucset", "column 'subset' is missing"),
        (paths.IMAGE_LIST, "sha256,", "sha356,", "column 'sha256' is missing"),
    ],
)
def test_a_damaged_table_raises_an_error_instead_of_another_score(file, old, new, reason):
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(reason)):
        subsets.read("train")


def test_a_split_of_other_images_than_the_listed_ones_raises_an_error():
    split = paths.SPLIT.read_text(encoding="utf-8")
    write(ROWS[1:])
    paths.SPLIT.write_text(split, encoding="utf-8")
    with pytest.raises(UserError, match=f"{paths.SPLIT}.*rose/b.jpg"):
        subsets.read("train")
