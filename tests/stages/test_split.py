"""The split stage: what it writes for a given list of images, and what it refuses."""

import hashlib
import json
import random
from pathlib import Path

import pandas as pd
import pytest

from flowers.common.errors import UserError
from flowers.config.params import SplitParams
from flowers.stages import split

COLUMNS = ["path", "label", "sha256", "pixels", "phash", "mirrored_phash", "width", "height", "subset"]


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def phash(text, changed=0):
    """A perceptual hash that is like that of no other text, with some of its bits changed."""
    order = random.Random(text).sample(range(64), 64)  # a hash has half of its bits set
    return f"{sum(1 << place for place in order[:32]) ^ sum(1 << place for place in range(changed)):016x}"


def photo(label, name, pixels=None, subset="", like=None, changed=0, mirror=False):
    """A row of the image list; photos with the same `pixels`, or `like` the same, show the same picture."""
    path = f"build/images/{label}/{name}.jpg"
    shown = like or pixels or path
    hashes = phash(shown, changed), phash("mirrored " + shown, changed)
    return [
        *(path, label, digest("file" + path), digest(pixels or path)),
        *(hashes[::-1] if mirror else hashes),
        *("20", "20", subset),
    ]


def photos(count, label, subset=""):
    return [photo(label, f"{number:04}", subset=subset) for number in range(count)]


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    return tmp_path


def run(rows, method="auto", train=0.7, val=0.15, test=0.15, seed=0):
    """Write the image list, run the stage; returns each path's subset, and the report."""
    write(rows)
    split.run(SplitParams(method=method, train=train, val=val, test=test, seed=seed))
    table = pd.read_csv("build/split.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == ["path", "label", "subset"]
    report = json.loads(Path("build/split.json").read_text(encoding="utf-8"))
    return dict(zip(table["path"], table["subset"], strict=True)), report


def write(rows):
    pd.DataFrame(rows, columns=COLUMNS).to_csv("build/images.csv", index=False)


def moved(before, after):
    return [path for path in before if path in after and before[path] != after[path]]


def test_each_class_is_dealt_in_the_fractions():
    _, report = run(photos(100, "daisy") + photos(20, "rose"), train=0.6, val=0.25, test=0.15)
    assert report["classes"] == {
        "daisy": {"train": 60, "val": 25, "test": 15},
        "rose": {"train": 12, "val": 5, "test": 3},
    }
    assert report["totals"] == {"train": 72, "val": 30, "test": 18}
    assert report["method"] == "random"


def test_every_photo_is_listed_once_in_the_order_of_paths():
    rows = photos(9, "b b") + photos(9, "a,a") + photos(9, "B")
    subsets, _ = run(rows)
    assert list(subsets) == sorted(row[0] for row in rows)


def test_the_order_of_the_image_list_and_a_second_run_change_no_byte(checkout):
    rows = photos(40, "daisy") + photos(30, "rose") + [photo("rose", "copy", pixels="build/images/rose/0003.jpg")]
    run(rows)
    first = [(checkout / "build" / name).read_bytes() for name in ("split.csv", "split.json")]
    random.Random(1).shuffle(rows)
    run(rows)
    assert [(checkout / "build" / name).read_bytes() for name in ("split.csv", "split.json")] == first


def test_names_do_not_decide_only_pixels_do():
    rows = photos(50, "daisy") + photos(50, "rose")
    before, _ = run(rows)
    renamed = [[row[0].replace(".jpg", "-renamed.jpg"), *row[1:]] for row in rows]
    after, _ = run(renamed)
    assert list(after.values()) == list(before.values())


def test_another_seed_deals_otherwise_in_the_same_numbers():
    rows = photos(100, "daisy") + photos(100, "rose")
    zero, report_zero = run(rows, seed=0)
    one, report_one = run(rows, seed=1)
    assert len(moved(zero, one)) > 40
    assert report_zero["classes"] == report_one["classes"]


def test_one_photo_more_moves_at_most_the_photos_at_the_two_cuts():
    rows = photos(60, "daisy") + photos(60, "rose")
    before, _ = run(rows)
    changes = []
    for number in range(30):
        after, _ = run([*rows, photo("rose", f"new {number}")])
        changes.append(moved(before, after))
    assert all(len(paths) <= 2 and all("/rose/" in path for path in paths) for paths in changes)
    assert any(changes)  # sometimes the new photo does push one over a cut


def test_photos_with_the_same_pixels_stay_together():
    rows = [photo("daisy", f"{k}-{copy}", pixels=f"daisy {k}") for k in range(30) for copy in range(1 + k % 4)]
    rows += photos(40, "rose")
    for seed in range(5):
        subsets, report = run(rows, seed=seed)
        sides = {}
        for row in rows:
            sides.setdefault(row[3], set()).add(subsets[row[0]])
        assert all(len(found) == 1 for found in sides.values())
        daisies = sum(report["classes"]["daisy"].values())
        for subset, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            assert abs(report["classes"]["daisy"][subset] - share * daisies) <= 4  # within a picture with its copies
    assert report["duplicates"]["groups"] == 22  # 30 pictures but those with a single file
    assert report["duplicates"]["photos"] == daisies - 8


def near_copies(count, label="daisy"):
    """Pictures that each have from none to three near-duplicates: resaved, mirrored, or like another near-duplicate."""
    kinds = [{}, {"changed": 2}, {"mirror": True}, {"changed": 4}]
    return [
        photo(label, f"{k}-{copy}", like=f"{label} {k}", **kinds[copy])
        for k in range(count)
        for copy in range(1 + k % 4)
    ]


def sides_of_pictures(subsets):
    """The sides on which the near copies of each picture stand."""
    sides = {}
    for path, subset in subsets.items():
        sides.setdefault(path.rpartition("-")[0], set()).add(subset)
    return {picture: found for picture, found in sides.items() if "/daisy/" in picture}


def test_near_duplicates_stay_together_in_a_drawn_split():
    rows = near_copies(30) + photos(40, "rose")
    for seed in range(5):
        subsets, report = run(rows, seed=seed)
        assert all(len(found) == 1 for found in sides_of_pictures(subsets).values())
        daisies = sum(report["classes"]["daisy"].values())
        for subset, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            assert abs(report["classes"]["daisy"][subset] - share * daisies) <= 4
    assert (report["near_duplicates"]["groups"], report["near_duplicates"]["photos"]) == (22, daisies - 8)
    assert report["duplicates"]["groups"] == 0


def test_photos_that_are_no_nearer_than_others_are_dealt_alone():
    rows = [photo("daisy", f"{k}-{copy}", like=f"{k}", changed=8 * copy) for k in range(30) for copy in range(2)]
    subsets, report = run(rows + photos(40, "rose"))
    assert any(len(found) > 1 for found in sides_of_pictures(subsets).values())
    assert report["near_duplicates"]["groups"] == 0


def test_one_photo_more_moves_only_the_pictures_at_the_cuts_with_their_near_duplicates():
    rows = near_copies(60) + photos(60, "rose")
    before, _ = run(rows)
    changes = []
    for number in range(30):
        after, _ = run([*rows, photo("daisy", f"new {number}")])
        changes.append(moved(before, after))
        assert len({path.rpartition("-")[0] for path in changes[-1]}) <= 2
    assert any(changes)


def test_a_near_duplicate_more_moves_its_own_picture_and_those_at_the_cuts():
    rows = photos(60, "daisy") + photos(60, "rose")
    before, _ = run(rows)
    for number in range(30):
        own = rows[number][0]
        after, _ = run([*rows, photo("daisy", "copy", like=own, changed=2)])
        assert after[own] == after["build/images/daisy/copy.jpg"]
        assert len([path for path in moved(before, after) if path != own]) <= 4
        assert all("/daisy/" in path for path in moved(before, after))


def test_near_duplicates_under_two_labels_are_named_and_stay_on_one_side(capsys):
    rows = photos(30, "daisy") + photos(30, "rose")
    rows += [photo("daisy", "twin a", like="twin"), photo("rose", "twin b", like="twin", changed=2)]
    for seed in range(5):
        subsets, report = run(rows, seed=seed)
        assert subsets["build/images/daisy/twin a.jpg"] == subsets["build/images/rose/twin b.jpg"]
    assert report["near_duplicates"]["under_several_labels"] == {
        "groups": 1,
        "list": [{"daisy": ["build/images/daisy/twin a.jpg"], "rose": ["build/images/rose/twin b.jpg"]}],
    }
    assert report["duplicates"]["under_several_labels"]["groups"] == 0
    warning = capsys.readouterr().err
    assert "1 group of near-duplicates under several labels" in warning
    assert "daisy/twin a.jpg (daisy) ~ build/images/rose/twin b.jpg (rose)" in warning


def test_near_duplicates_across_official_sides_are_kept_counted_and_reported(capsys):
    rows = official()
    rows += [photo("daisy", "copy 1", like=rows[0][0], changed=4, subset="test")]  # of a train photo
    rows += [photo("daisy", "copy 2", like=rows[1][0], mirror=True, subset="train")]  # on the same side: harmless
    subsets, report = run(rows)
    assert subsets["build/images/daisy/copy 1.jpg"] == "test"
    assert (report["near_duplicates"]["groups"], report["near_duplicates"]["photos"]) == (2, 4)
    assert report["near_duplicates"]["across_subsets"] == {
        "groups": 1,
        "list": [{"train": [rows[0][0]], "test": ["build/images/daisy/copy 1.jpg"]}],
    }
    warning = capsys.readouterr().err
    assert "1 group of near-duplicates on more than one side" in warning
    assert "copy 1.jpg" in warning and "copy 2" not in warning


def test_a_group_of_copies_and_near_copies_is_told_of_as_both(capsys):
    rows = [*photos(9, "daisy"), *photos(9, "rose")]
    rows += [photo("rose", "a", pixels="twin"), photo("rose", "b", pixels="twin")]
    rows += [photo("rose", "c", like="twin", changed=2)]
    _, report = run(rows)
    assert (report["duplicates"]["photos"], report["near_duplicates"]["photos"]) == (2, 3)


def test_val_out_of_official_train_keeps_near_duplicates_together():
    rows = [[*row[:-1], "train"] for row in near_copies(30) + photos(40, "rose")]
    rows += photos(9, "tulip", "train") + [photo(label, "t", subset="test") for label in ("daisy", "rose", "tulip")]
    subsets, report = run(rows)
    assert report["method"] == "official, val out of train"
    assert all(len(found) == 1 for found in sides_of_pictures(subsets).values())


def test_the_same_picture_under_two_labels_is_named_and_stays_on_one_side(capsys):
    rows = photos(30, "daisy") + photos(30, "rose")
    rows += [photo("daisy", "twin a", pixels="twin"), photo("rose", "twin b", pixels="twin")]
    for seed in range(5):
        subsets, report = run(rows, seed=seed)
        assert subsets["build/images/daisy/twin a.jpg"] == subsets["build/images/rose/twin b.jpg"]
        assert all(abs(counts["train"] - 0.7 * 31) < 1.5 for counts in report["classes"].values())
    assert report["duplicates"]["under_several_labels"] == {
        "groups": 1,
        "list": [{"daisy": ["build/images/daisy/twin a.jpg"], "rose": ["build/images/rose/twin b.jpg"]}],
    }
    warning = capsys.readouterr().err
    assert "warning" in warning and "daisy/twin a.jpg" in warning and "rose/twin b.jpg" in warning


def test_pictures_under_two_labels_are_dealt_in_the_fractions_too():
    rows = [photo(label, f"{k}", pixels=f"shared {k}") for k in range(400) for label in ("daisy", "rose")]
    _, report = run(rows)
    assert abs(report["classes"]["daisy"]["train"] - 280) < 40
    assert abs(report["classes"]["daisy"]["val"] - 60) < 30


def test_a_picture_under_two_labels_does_not_carry_a_change_from_class_to_class():
    rows = photos(30, "daisy") + photos(30, "rose")
    rows += [photo(label, f"s{k}", pixels=f"shared {k}") for k in range(20) for label in ("daisy", "rose")]
    for seed in range(8):
        before, _ = run(rows, seed=seed)
        for number in range(4):
            after, _ = run([*rows, photo("daisy", f"new {number}")], seed=seed)
            assert not [path for path in moved(before, after) if "/rose/" in path]


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7])
def test_every_class_has_a_photo_on_every_side_however_small_the_fraction(count):
    _, report = run(photos(count, "daisy") + photos(100, "rose"), train=0.98, val=0.01, test=0.01)
    assert report["classes"]["daisy"] == {"train": count - 2, "val": 1, "test": 1}


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_too_small_to_split_is_refused_by_name(count):
    with pytest.raises(UserError, match=rf"class 'tiny one' has {count} photos? .*at least 3"):
        run(photos(count, "tiny one") + photos(10, "rose"))


def test_copies_do_not_make_a_class_large_enough():
    copies = [photo("tiny one", f"{k}", pixels="a" if k < 4 else "b") for k in range(5)]
    with pytest.raises(UserError, match=r"class 'tiny one' has 5 photos \(3 of them copies.*at least 3 different"):
        run(copies + photos(10, "rose"))


def test_names_with_spaces_quotes_commas_other_scripts_and_na_survive():
    labels = ["NA", 'the "wild", rose', "l'œillet", "向日葵", "Роза", " led by a space"]
    rows = [row for label in labels for row in photos(5, label)]
    subsets, report = run(rows)
    assert set(subsets) == {row[0] for row in rows}
    assert list(report["classes"]) == sorted(labels)
    table = pd.read_csv("build/split.csv", dtype=str, keep_default_na=False)
    assert set(table["label"]) == set(labels)


def official(train=6, val=4, test=10):
    return [
        row
        for label in ("daisy", "rose")
        for subset, count in (("train", train), ("val", val), ("test", test))
        for row in [photo(label, f"{subset}{number}", subset=subset) for number in range(count)]
    ]


@pytest.mark.parametrize("method", ["auto", "official"])
def test_an_official_split_is_kept_as_it_is(method):
    rows = official()
    subsets, report = run(rows, method=method)
    assert subsets == {row[0]: row[8] for row in rows}
    assert report["method"] == "official"


def test_an_official_split_can_be_ignored():
    rows = official(train=10, val=5, test=85)
    subsets, report = run(rows, method="random")
    assert subsets != {row[0]: row[8] for row in rows}
    assert report["totals"]["train"] == 140


def test_duplicates_across_official_sides_are_kept_counted_and_reported(capsys):
    rows = official()
    rows += [photo("daisy", "copy 1", pixels=rows[0][0], subset="test")]  # of a train photo
    rows += [photo("daisy", "copy 2", pixels=rows[1][0], subset="train")]  # on the same side: harmless
    subsets, report = run(rows)
    assert subsets["build/images/daisy/copy 1.jpg"] == "test"
    assert report["duplicates"]["groups"] == 2
    assert report["duplicates"]["across_subsets"] == {
        "groups": 1,
        "list": [{"train": [rows[0][0]], "test": ["build/images/daisy/copy 1.jpg"]}],
    }
    warning = capsys.readouterr().err
    assert "1 picture on more than one side" in warning and "copy 1.jpg" in warning and "copy 2" not in warning


def test_an_official_split_without_val_gets_it_out_of_train():
    rows = official(train=40, val=0, test=10)
    subsets, report = run(rows, train=0.6, val=0.15, test=0.25)
    assert report["classes"]["daisy"] == {"train": 32, "val": 8, "test": 10}  # 0.15 / (0.6 + 0.15) of 40
    assert all((subsets[row[0]] == "test") == (row[8] == "test") for row in rows)
    assert report["method"] == "official, val out of train"


def test_official_is_refused_where_there_is_none():
    with pytest.raises(UserError, match=r"split\.method.*no official split.*random"):
        run(photos(10, "daisy") + photos(10, "rose"), method="official")


def test_official_is_refused_and_auto_random_where_it_covers_a_part(capsys):
    rows = official() + photos(3, "rose")
    with pytest.raises(UserError, match=r"3 of 43 have no subset.*rose/0000\.jpg"):
        run(rows, method="official")
    _, report = run(rows, method="auto")
    assert report["method"] == "random"
    assert "40 of 43" in capsys.readouterr().err


def test_an_official_split_without_test_is_refused():
    with pytest.raises(UserError, match="no test photos; use method: random"):
        run(official(test=0))


def test_a_class_without_official_train_photos_is_refused_by_name():
    with pytest.raises(UserError, match="no photo of class 'tulip' in train"):
        run([*official(), photo("tulip", "lonely", subset="test")])


def test_a_class_without_official_test_photos_is_warned_of_by_name(capsys):
    run([*official(), *photos(3, "tulip", subset="train"), photo("tulip", "v", subset="val")])
    assert "no photo in test of: tulip" in capsys.readouterr().err


def test_a_missing_or_spoilt_image_list_is_a_plain_error(checkout):
    params = SplitParams(method="auto", train=0.7, val=0.15, test=0.15, seed=0)
    with pytest.raises(UserError, match=r"images\.csv: no such file; run the download"):
        split.run(params)
    (checkout / "build" / "images.csv").write_text("path,label,subset\na,b,\n")
    with pytest.raises(UserError, match="column 'pixels' is missing"):
        split.run(params)
    (checkout / "build" / "images.csv").write_text("")
    with pytest.raises(UserError, match="not a readable list"):
        split.run(params)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "lists no photos"),
        (photos(9, "daisy"), "one class, 'daisy'"),
        ([*photos(9, "daisy"), photo("rose", "x", subset="validation")], r"rose/x\.jpg.*subset"),
        ([*photos(9, "daisy"), photo("", "x")], r"images//x\.jpg.*label"),
        (
            [*photos(9, "daisy"), [*photo("rose", "x")[:4], "12", *photo("rose", "x")[5:]]],
            r"rose/x\.jpg.*16 hex digits",
        ),
    ],
)
def test_a_list_that_cannot_be_learnt_from_is_refused(rows, message, checkout):
    with pytest.raises(UserError, match=message):
        run(rows)
    assert not (checkout / "build" / "split.csv").exists()
