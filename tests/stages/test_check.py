"""`flowers check` on a small world: its findings, its page and its files."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from pictures import picture
from PIL import Image, ImageOps

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.stages import download, split
from flowers.stages.check import run


@pytest.fixture
def photos(world, cheap_backbone):
    """The folder of the world's images: 3 classes of 8 with different colours."""
    return world.folder / "photos"


def made_again(world, **changes) -> None:
    """Run the stages on the current images, without the weights."""
    settings = world.settings(**changes)
    weights = paths.WEIGHTS.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowers.model.weights.provide", lambda choice, file: None)
        download.run(settings.dataset, settings.model.weights)
    assert paths.WEIGHTS.read_bytes() == weights
    split.run(settings.split)


def check(capsys, with_test=False) -> tuple[str, str, pd.DataFrame]:
    """Its standard output, its page and its table."""
    capsys.readouterr()
    run.check("float32", with_test)
    table = pd.read_csv(paths.DOUBTFUL, keep_default_na=False)
    return " ".join(capsys.readouterr().out.split()), paths.CHECK_PAGE.read_text(encoding="utf-8"), table


def swap(photos, one, other) -> None:
    """Exchange two images."""
    aside = photos / "aside"
    shutil.move(photos / one, aside)
    shutil.move(photos / other, photos / one)
    shutil.move(aside, photos / other)


def test_good_data_has_no_findings(photos, capsys):
    said, page, table = check(capsys)
    assert table.empty
    assert table.columns.tolist() == ["path", "label", "subset", "p_label", "suggested", "p_suggested"]
    assert "24 images of 3 classes. 18 labels were checked" in said and "other images: 0 are doubtful" in said
    assert "Doubtful labels (0)" in page and "<img" not in page


def test_wrong_labels_are_listed_and_shown(world, photos, capsys):
    for label in range(3):  # more images, so that a few wrong labels stand out
        for number in range(8, 30):
            picture(label, number).save(photos / world.classes[label] / f"{number}.png")
    made_again(world)
    everything = pd.read_csv(paths.SPLIT, keep_default_na=False)
    own = everything[everything["subset"] != "test"].groupby("label")["path"].first()
    swap(photos, own["NA"], own["rose"])
    made_again(world, split={"seed": 1})
    subsets = pd.read_csv(paths.SPLIT, keep_default_na=False).set_index("path")["subset"]
    wrong = {own["NA"]: "rose", own["rose"]: "NA"}
    said, page, table = check(capsys, with_test=True)
    assert dict(zip(table["path"], table["suggested"], strict=True)) == wrong
    assert table["subset"].tolist() == subsets[table["path"]].tolist()
    assert (table["p_label"] < 0.3).all() and (table["p_suggested"] > 0.6).all()
    assert "2 are doubtful" in said
    for path, rather in wrong.items():
        assert f"{path}: {path.split('/')[0]}" in said and f"suggested {rather}" in said
        assert path in page and f" or {rather}?" in page
    assert page.count("<img") == 6 and "a typical rose" in page  # each image with a typical one of either class


def test_a_test_image_is_checked_only_on_demand_and_never_fitted_on(world, photos, capsys):
    everything = pd.read_csv(paths.SPLIT, keep_default_na=False)
    tested = everything[everything["subset"] == "test"].groupby("label")["path"].first()
    frame = pd.read_csv(paths.IMAGE_LIST, dtype=str, keep_default_na=False)
    for name in (paths.SPLIT, paths.IMAGE_LIST):  # only the label is wrong
        frame = pd.read_csv(name, dtype=str, keep_default_na=False)
        frame.loc[frame["path"] == tested["NA"], "label"] = "rose"
        frame.to_csv(name, index=False)
    said, _, table = check(capsys)
    assert "18 labels were checked" in said and "The 6 test images were not checked" in said and table.empty
    said, _, table = check(capsys, with_test=True)
    assert "24 labels were checked" in said and "not checked" not in said
    assert table["path"].tolist() == [tested["NA"]]
    assert (table["label"].item(), table["suggested"].item(), table["subset"].item()) == ("rose", "NA", "test")


def test_near_duplicates_are_listed_by_their_kind(world, photos, capsys):
    def copy(source, target):
        image = ImageOps.mirror(Image.open(photos / source)) if "mirrored" in target else Image.open(photos / source)
        image.convert("RGB").save(photos / target, quality=95)

    def shape(number):
        """A few large blobs, which survive a JPEG, unlike noise."""
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        return Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)

    for number, name in enumerate(("NA/a.png", "rose/b.png", "rose/c.png")):
        shape(number).save(photos / name)
    copy("NA/a.png", "rose/a mirrored.jpg")
    copy("rose/b.png", "rose/b again.jpg")
    shutil.copy(photos / "rose/c.png", photos / "rose/c again.png")
    made_again(world)
    said, page, _ = check(capsys)
    assert "0 across subsets, 1 with different labels, 2 in one subset with one label" in said
    assert re.search(r"NA/a.png \(\w+\) ~ rose/a mirrored.jpg", said)
    several, harmless = (page.index(f"<h2>Near-duplicates {kind}") for kind in ("with different", "in one subset"))
    assert several < page.index("rose/a mirrored.jpg") < harmless < page.index("rose/b again.jpg")
    assert "2 images, equal pixels" in page and "2 images, similar" in page

    frame = pd.read_csv(paths.SPLIT, dtype=str, keep_default_na=False).set_index("path")
    frame.loc[["rose/b.png", "rose/b again.jpg"], "subset"] = ["train", "test"]
    frame.reset_index().to_csv(paths.SPLIT, index=False)
    said, page, _ = check(capsys)
    assert "1 across subsets" in said
    assert "rose/b again.jpg (test) ~ rose/b.png (train)" in said
    assert page.index("rose/b again.jpg") < page.index("<h2>Near-duplicates with different labels")


def test_a_second_check_writes_the_same_bytes(world, photos, capsys):
    swap(photos, "NA/1.png", "rose/2.png")
    made_again(world)
    first = check(capsys)
    second = check(capsys)
    assert first[:2] == second[:2] and first[2].equals(second[2])
    assert str(world.folder) not in first[1]


def test_a_class_with_one_image_outside_test_is_named(world, photos, capsys):
    for number in range(3, 8):
        (photos / "rose" / f"{number}.png").unlink()
    made_again(world)
    frame = pd.read_csv(paths.SPLIT, dtype=str, keep_default_na=False)
    frame.loc[(frame["label"] == "rose") & (frame["subset"] == "val"), "subset"] = "test"
    frame.to_csv(paths.SPLIT, index=False)
    said, _, table = check(capsys)
    assert "too few images to check their labels: rose" in said
    assert "rose" not in set(table["label"])


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (paths.IMAGE_LIST, r"build/images\.csv: no such file; run `dvc repro`"),
        (paths.WEIGHTS, r"build/weights/resnet50\.npz: no such file; run `dvc repro`"),
        (paths.IMAGES / "NA" / "1.png", r"1\.png: .*run `dvc repro`"),
    ],
)
def test_a_missing_output_of_a_stage_is_an_error_naming_it(photos, lost, message):
    lost.unlink()
    with pytest.raises(UserError, match=message):
        run.check("float32", False)
    assert not paths.CHECK_PAGE.exists()


def test_an_image_list_without_perceptual_hashes_is_an_error_with_the_remedy(photos):
    pd.read_csv(paths.IMAGE_LIST, keep_default_na=False).drop(columns="phash").to_csv(paths.IMAGE_LIST, index=False)
    with pytest.raises(UserError, match="column 'phash' is missing; run `dvc repro -f download`"):
        run.check("float32", False)
