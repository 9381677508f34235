"""`flowers check` on a small world: what it finds, shows and writes."""

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
    """The folder of the world's photos: 3 classes of 8, which the colours tell apart."""
    return world.folder / "photos"


def made_again(world, **changes) -> None:
    """Run the stages on the photos as they are now; the weights stay."""
    settings = world.settings(**changes)
    weights = paths.WEIGHTS.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowers.model.weights.provide", lambda choice, file: None)
        download.run(settings.dataset, settings.model.weights)
    assert paths.WEIGHTS.read_bytes() == weights
    split.run(settings.split)


def check(capsys, with_test=False) -> tuple[str, str, pd.DataFrame]:
    """What it says on standard output, its page and its table."""
    capsys.readouterr()
    run.check("float32", with_test)
    table = pd.read_csv(paths.DOUBTFUL, keep_default_na=False)
    return " ".join(capsys.readouterr().out.split()), paths.CHECK_PAGE.read_text(encoding="utf-8"), table


def swap(photos, one, other) -> None:
    """Two photos change places."""
    aside = photos / "aside"
    shutil.move(photos / one, aside)
    shutil.move(photos / other, photos / one)
    shutil.move(aside, photos / other)


def test_good_photos_are_called_good(photos, capsys):
    said, page, table = check(capsys)
    assert table.empty
    assert table.columns.tolist() == ["path", "label", "subset", "p_label", "suggested", "p_suggested"]
    assert "24 photos of 3 classes. 18 were judged" in said and "0 labels are in doubt" in said
    assert "Labels in doubt (0)" in page and "<img" not in page


def test_planted_errors_are_listed_and_shown(world, photos, capsys):
    for label in range(3):  # more photos, so that a few wrong ones stand out
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
    assert "2 labels are in doubt" in said
    for path, rather in wrong.items():
        assert f"{path}: {path.split('/')[0]}" in said and f"rather {rather}" in said
        assert path in page and f"or rather {rather}?" in page
    assert page.count("<img") == 6 and "a typical rose" in page  # each photo with one of its label and of the other


def test_a_test_photo_is_judged_on_demand_alone_and_never_learned_from(world, photos, capsys):
    everything = pd.read_csv(paths.SPLIT, keep_default_na=False)
    tested = everything[everything["subset"] == "test"].groupby("label")["path"].first()
    frame = pd.read_csv(paths.IMAGE_LIST, dtype=str, keep_default_na=False)
    for name in (paths.SPLIT, paths.IMAGE_LIST):  # the label alone is wrong
        frame = pd.read_csv(name, dtype=str, keep_default_na=False)
        frame.loc[frame["path"] == tested["NA"], "label"] = "rose"
        frame.to_csv(name, index=False)
    said, _, table = check(capsys)
    assert "18 were judged" in said and "The 6 test photos were not asked about" in said and table.empty
    said, _, table = check(capsys, with_test=True)
    assert "24 were judged" in said and "not asked about" not in said
    assert table["path"].tolist() == [tested["NA"]]
    assert (table["label"].item(), table["suggested"].item(), table["subset"].item()) == ("rose", "NA", "test")


def test_near_duplicates_are_shown_by_what_they_spoil(world, photos, capsys):
    def copy(source, target):
        image = ImageOps.mirror(Image.open(photos / source)) if "mirrored" in target else Image.open(photos / source)
        image.convert("RGB").save(photos / target, quality=95)

    def shape(number):
        """Noise has no shape that survives a JPEG: a few large blobs have."""
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        return Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)

    for number, name in enumerate(("NA/a.png", "rose/b.png", "rose/c.png")):
        shape(number).save(photos / name)
    copy("NA/a.png", "rose/a mirrored.jpg")
    copy("rose/b.png", "rose/b again.jpg")
    shutil.copy(photos / "rose/c.png", photos / "rose/c again.png")
    made_again(world)
    said, page, _ = check(capsys)
    assert "0 on more than one side of the split, 1 under several labels, 2 on one side under one label" in said
    assert re.search(r"NA/a.png \(\w+\) ~ rose/a mirrored.jpg", said)
    several, harmless = (page.index(f"<h2>The same picture {where}") for where in ("under several", "several times on"))
    assert several < page.index("rose/a mirrored.jpg") < harmless < page.index("rose/b again.jpg")
    assert "2 photos, equal pixels" in page and "2 photos, alike" in page

    frame = pd.read_csv(paths.SPLIT, dtype=str, keep_default_na=False).set_index("path")
    frame.loc[["rose/b.png", "rose/b again.jpg"], "subset"] = ["train", "test"]
    frame.reset_index().to_csv(paths.SPLIT, index=False)
    said, page, _ = check(capsys)
    assert "1 on more than one side of the split" in said
    assert "rose/b again.jpg (test) ~ rose/b.png (train)" in said
    assert page.index("rose/b again.jpg") < page.index("<h2>The same picture under several labels")


def test_twice_it_writes_the_same_bytes(world, photos, capsys):
    swap(photos, "NA/1.png", "rose/2.png")
    made_again(world)
    first = check(capsys)
    second = check(capsys)
    assert first[:2] == second[:2] and first[2].equals(second[2])
    assert str(world.folder) not in first[1]


def test_a_class_of_one_photo_to_learn_from_is_named(world, photos, capsys):
    for number in range(3, 8):
        (photos / "rose" / f"{number}.png").unlink()
    made_again(world)
    frame = pd.read_csv(paths.SPLIT, dtype=str, keep_default_na=False)
    frame.loc[(frame["label"] == "rose") & (frame["subset"] == "val"), "subset"] = "test"
    frame.to_csv(paths.SPLIT, index=False)
    said, _, table = check(capsys)
    assert "too few photos to judge a label of theirs: rose" in said
    assert "rose" not in set(table["label"])


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (paths.IMAGE_LIST, r"build/images\.csv: no such file; run `dvc repro`"),
        (paths.SPLIT, r"build/split\.csv: no such file; run `dvc repro`"),
        (paths.WEIGHTS, r"build/weights/resnet50\.npz: no such file; run `dvc repro`"),
        (paths.IMAGES / "NA" / "1.png", r"1\.png: .*run `dvc repro`"),
    ],
)
def test_what_the_stages_have_not_made_is_named(photos, lost, message):
    lost.unlink()
    with pytest.raises(UserError, match=message):
        run.check("float32", False)
    assert not paths.CHECK_PAGE.exists()


def test_a_list_of_before_there_were_perceptual_hashes_is_refused(photos):
    pd.read_csv(paths.IMAGE_LIST, keep_default_na=False).drop(columns="phash").to_csv(paths.IMAGE_LIST, index=False)
    with pytest.raises(UserError, match="column 'phash' is missing; make the list anew: dvc repro -f download"):
        run.check("float32", False)
