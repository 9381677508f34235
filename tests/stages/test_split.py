"""The stage `split`: what it writes for a list of images, and its errors."""

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
    """A perceptual hash far from that of any other text, with some of its bits changed."""
    order = random.Random(text).sample(range(64), 64)
    return f"{sum(1 << place for place in order[:32]) ^ sum(1 << place for place in range(changed)):016x}"


def image(label, name, pixels=None, subset="", like=None, changed=0, mirror=False):
    """A row of the image list; the same `pixels` make duplicates, the same `like` near-duplicates."""
    path = f"build/images/{label}/{name}.jpg"
    shown = like or pixels or path
    hashes = phash(shown, changed), phash("mirrored " + shown, changed)
    return [
        *(path, label, digest("file" + path), digest(pixels or path)),
        *(hashes[::-1] if mirror else hashes),
        *("20", "20", subset),
    ]


def images(count, label, subset=""):
    return [image(label, f"{number:04}", subset=subset) for number in range(count)]


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


def test_each_class_is_split_by_the_fractions():
    _, report = run(images(100, "daisy") + images(20, "rose"), train=0.6, val=0.25, test=0.15)
    assert report["classes"] == {
        "daisy": {"train": 60, "val": 25, "test": 15},
        "rose": {"train": 12, "val": 5, "test": 3},
    }
    assert report["totals"] == {"train": 72, "val": 30, "test": 18}
    assert report["method"] == "random"


def test_every_image_is_listed_once_ordered_by_path():
    rows = images(9, "b b") + images(9, "a,a") + images(9, "B")
    subsets, _ = run(rows)
    assert list(subsets) == sorted(row[0] for row in rows)


def test_the_output_does_not_depend_on_the_order_of_the_image_list(checkout):
    rows = images(40, "daisy") + images(30, "rose") + [image("rose", "copy", pixels="build/images/rose/0003.jpg")]
    run(rows)
    first = [(checkout / "build" / name).read_bytes() for name in ("split.csv", "split.json")]
    random.Random(1).shuffle(rows)
    run(rows)
    assert [(checkout / "build" / name).read_bytes() for name in ("split.csv", "split.json")] == first


def test_the_subset_depends_on_pixels_not_on_names():
    rows = images(50, "daisy") + images(50, "rose")
    before, _ = run(rows)
    renamed = [[row[0].replace(".jpg", "-renamed.jpg"), *row[1:]] for row in rows]
    after, _ = run(renamed)
    assert list(after.values()) == list(before.values())


def test_another_seed_gives_another_split_of_the_same_sizes():
    rows = images(100, "daisy") + images(100, "rose")
    zero, report_zero = run(rows, seed=0)
    one, report_one = run(rows, seed=1)
    assert len(moved(zero, one)) > 40
    assert report_zero["classes"] == report_one["classes"]


def test_an_added_image_moves_at_most_the_images_at_the_two_cuts():
    rows = images(60, "daisy") + images(60, "rose")
    before, _ = run(rows)
    changes = []
    for number in range(30):
        after, _ = run([*rows, image("rose", f"new {number}")])
        changes.append(moved(before, after))
    assert all(len(paths) <= 2 and all("/rose/" in path for path in paths) for paths in changes)
    assert any(changes)  # some additions do move an image over a cut


KINDS = ["duplicates", "near_duplicates"]


def copies(kind, count=30, label="daisy"):
    """Images with up to three duplicates each, or near-duplicates: resaved, mirrored, or like another one of them."""
    changes = [{}, {"changed": 2}, {"mirror": True}, {"changed": 4}] if kind == "near_duplicates" else [{}] * 4
    shown = "like" if kind == "near_duplicates" else "pixels"
    return [
        image(label, f"{k}-{copy}", **{shown: f"{label} {k}"}, **changes[copy])
        for k in range(count)
        for copy in range(1 + k % 4)
    ]


def subsets_of_groups(subsets):
    """The subsets of each group of copies."""
    found = {}
    for path, subset in subsets.items():
        found.setdefault(path.rpartition("-")[0], set()).add(subset)
    return {group: of_group for group, of_group in found.items() if "/daisy/" in group}


@pytest.mark.parametrize("kind", KINDS)
def test_copies_stay_in_one_subset(kind):
    rows = copies(kind) + images(40, "rose")
    for seed in range(5):
        subsets, report = run(rows, seed=seed)
        assert all(len(found) == 1 for found in subsets_of_groups(subsets).values())
        daisies = sum(report["classes"]["daisy"].values())
        for subset, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            assert abs(report["classes"]["daisy"][subset] - share * daisies) <= 4  # at most one group too many
    assert report[kind]["groups"] == 22  # 30 groups minus those of a single file
    assert report[kind]["photos"] == daisies - 8
    (other,) = {*KINDS} - {kind}
    assert report[other]["groups"] == 0


def test_images_with_distant_hashes_are_not_grouped():
    rows = [image("daisy", f"{k}-{copy}", like=f"{k}", changed=8 * copy) for k in range(30) for copy in range(2)]
    subsets, report = run(rows + images(40, "rose"))
    assert any(len(found) > 1 for found in subsets_of_groups(subsets).values())
    assert report["near_duplicates"]["groups"] == 0


def test_an_added_image_moves_at_most_the_groups_at_the_two_cuts():
    rows = copies("near_duplicates", 60) + images(60, "rose")
    before, _ = run(rows)
    changes = []
    for number in range(30):
        after, _ = run([*rows, image("daisy", f"new {number}")])
        changes.append(moved(before, after))
        assert len({path.rpartition("-")[0] for path in changes[-1]}) <= 2
    assert any(changes)


def test_an_added_near_duplicate_moves_at_most_its_group_and_those_at_the_cuts():
    rows = images(60, "daisy") + images(60, "rose")
    before, _ = run(rows)
    for number in range(30):
        own = rows[number][0]
        after, _ = run([*rows, image("daisy", "copy", like=own, changed=2)])
        assert after[own] == after["build/images/daisy/copy.jpg"]
        assert len([path for path in moved(before, after) if path != own]) <= 4
        assert all("/daisy/" in path for path in moved(before, after))


@pytest.mark.parametrize(("kind", "sign"), [("duplicates", "="), ("near_duplicates", "~")])
def test_a_group_with_two_labels_stays_in_one_subset_and_is_reported(capsys, kind, sign):
    rows = images(30, "daisy") + images(30, "rose")
    if kind == "duplicates":
        rows += [image("daisy", "twin a", pixels="twin"), image("rose", "twin b", pixels="twin")]
    else:
        rows += [image("daisy", "twin a", like="twin"), image("rose", "twin b", like="twin", changed=2)]
    for seed in range(5):
        subsets, report = run(rows, seed=seed)
        assert subsets["build/images/daisy/twin a.jpg"] == subsets["build/images/rose/twin b.jpg"]
        assert all(abs(counts["train"] - 0.7 * 31) < 1.5 for counts in report["classes"].values())
    assert report[kind]["under_several_labels"] == {
        "groups": 1,
        "list": [{"daisy": ["build/images/daisy/twin a.jpg"], "rose": ["build/images/rose/twin b.jpg"]}],
    }
    (other,) = {*KINDS} - {kind}
    assert report[other]["under_several_labels"]["groups"] == 0
    warning = capsys.readouterr().err
    assert f"1 group of {kind.replace('_', '-')} with several labels" in warning
    assert f"daisy/twin a.jpg (daisy) {sign} build/images/rose/twin b.jpg (rose)" in warning


def test_a_warning_of_many_copies_has_an_end_and_the_report_lists_all(capsys):
    twins = [image(("daisy", "rose")[number % 2], f"twin {number}", like="twin") for number in range(600)]
    twins += [image(label, f"copy {n}", pixels=f"c{n}") for n in range(50) for label in ("daisy", "rose")]
    _, report = run(images(30, "daisy") + images(30, "rose") + twins)
    (group,) = report["near_duplicates"]["under_several_labels"]["list"]
    assert sum(map(len, group.values())) == 600
    warning = capsys.readouterr().err
    assert "~ and 596 more, in build/split.json" in warning and "; and 40 more, in build/split.json" in warning
    assert max(map(len, warning.splitlines())) < 2000


def test_a_group_of_duplicates_and_near_duplicates_is_reported_as_both():
    rows = [*images(9, "daisy"), *images(9, "rose")]
    rows += [image("rose", "a", pixels="twin"), image("rose", "b", pixels="twin")]
    rows += [image("rose", "c", like="twin", changed=2)]
    _, report = run(rows)
    assert (report["duplicates"]["photos"], report["near_duplicates"]["photos"]) == (2, 3)


def test_val_taken_from_official_train_keeps_near_duplicates_together():
    rows = [[*row[:-1], "train"] for row in copies("near_duplicates") + images(40, "rose")]
    rows += images(9, "tulip", "train") + [image(label, "t", subset="test") for label in ("daisy", "rose", "tulip")]
    subsets, report = run(rows)
    assert report["method"] == "official, val out of train"
    assert all(len(found) == 1 for found in subsets_of_groups(subsets).values())


@pytest.mark.parametrize("seed", range(4))
def test_groups_with_two_labels_count_towards_the_fractions_of_each_class(seed):
    """They come first and unevenly; the other images of a class make up for it, in every subset."""
    rows = images(40, "daisy") + images(40, "rose")
    rows += [image(label, f"s{k}", pixels=f"shared {k}") for k in range(20) for label in ("daisy", "rose")]
    _, report = run(rows, train=0.5, val=0.25, test=0.25, seed=seed)
    for counts in report["classes"].values():
        assert counts == {"train": 30, "val": 15, "test": 15}


def test_groups_with_two_labels_are_split_by_the_fractions():
    rows = [image(label, f"{k}", pixels=f"shared {k}") for k in range(400) for label in ("daisy", "rose")]
    _, report = run(rows)
    assert abs(report["classes"]["daisy"]["train"] - 280) < 40
    assert abs(report["classes"]["daisy"]["val"] - 60) < 30


def test_an_added_image_moves_nothing_in_a_class_with_shared_groups():
    rows = images(30, "daisy") + images(30, "rose")
    rows += [image(label, f"s{k}", pixels=f"shared {k}") for k in range(20) for label in ("daisy", "rose")]
    for seed in range(8):
        before, _ = run(rows, seed=seed)
        for number in range(4):
            after, _ = run([*rows, image("daisy", f"new {number}")], seed=seed)
            assert not [path for path in moved(before, after) if "/rose/" in path]


@pytest.mark.parametrize("large", ["train", "val", "test"])
def test_every_class_has_an_image_in_every_subset_however_small_the_fraction(large):
    fractions = dict.fromkeys(("train", "val", "test"), 0.01) | {large: 0.98}
    _, report = run(images(3, "daisy") + images(7, "iris") + images(100, "rose"), **fractions)
    for label, count in (("daisy", 3), ("iris", 7)):
        assert report["classes"][label] == {"train": 1, "val": 1, "test": 1} | {large: count - 2}


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_names_a_class_that_is_too_small(count):
    with pytest.raises(UserError, match=rf"class 'tiny one' has {count} images? .*at least 3"):
        run(images(count, "tiny one") + images(10, "rose"))


def test_duplicates_do_not_count_towards_the_smallest_class_size():
    rows = [image("tiny one", f"{k}", pixels="a" if k < 4 else "b") for k in range(5)]
    with pytest.raises(UserError, match=r"class 'tiny one' has 5 images \(3 of them copies.*at least 3 different"):
        run(rows + images(10, "rose"))


def test_labels_with_spaces_quotes_commas_other_scripts_and_na_are_kept():
    labels = ["NA", 'the "wild", rose', "l'œillet", "向日葵", "Роза", " led by a space"]
    rows = [row for label in labels for row in images(5, label)]
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
        for row in [image(label, f"{subset}{number}", subset=subset) for number in range(count)]
    ]


@pytest.mark.parametrize("method", ["auto", "official"])
def test_an_official_split_is_kept(method):
    rows = official()
    subsets, report = run(rows, method=method)
    assert subsets == {row[0]: row[8] for row in rows}
    assert report["method"] == "official"


def test_an_official_split_can_be_ignored():
    rows = official(train=10, val=5, test=85)
    subsets, report = run(rows, method="random")
    assert subsets != {row[0]: row[8] for row in rows}
    assert report["totals"]["train"] == 140


@pytest.mark.parametrize("kind", KINDS)
def test_copies_across_official_subsets_are_reported_and_not_moved(capsys, kind):
    rows = official()
    shown, changed = ("like", 4) if kind == "near_duplicates" else ("pixels", 0)
    rows += [image("daisy", "copy 1", changed=changed, subset="test", **{shown: rows[0][0]})]  # of a train image
    rows += [image("daisy", "copy 2", changed=changed, subset="train", **{shown: rows[1][0]})]  # in the same subset
    subsets, report = run(rows)
    assert subsets["build/images/daisy/copy 1.jpg"] == "test"
    assert (report[kind]["groups"], report[kind]["photos"]) == (2, 4)
    assert report[kind]["across_subsets"] == {
        "groups": 1,
        "list": [{"train": [rows[0][0]], "test": ["build/images/daisy/copy 1.jpg"]}],
    }
    warning = capsys.readouterr().err
    assert f"1 group of {kind.replace('_', '-')} across subsets" in warning
    assert "copy 1.jpg" in warning and "copy 2" not in warning


def test_an_official_split_without_val_takes_it_from_train():
    rows = official(train=40, val=0, test=10)
    subsets, report = run(rows, train=0.6, val=0.15, test=0.25)
    assert report["classes"]["daisy"] == {"train": 32, "val": 8, "test": 10}  # 0.15 / (0.6 + 0.15) of 40
    assert all((subsets[row[0]] == "test") == (row[8] == "test") for row in rows)
    assert report["method"] == "official, val out of train"


def test_official_raises_an_error_without_an_official_split():
    with pytest.raises(UserError, match=r"split\.method.*no official split.*random"):
        run(images(10, "daisy") + images(10, "rose"), method="official")


def test_with_a_partial_official_split_official_raises_an_error_and_auto_is_random(capsys):
    rows = official() + images(3, "rose")
    with pytest.raises(UserError, match=r"3 of 43 have no subset.*rose/0000\.jpg"):
        run(rows, method="official")
    _, report = run(rows, method="auto")
    assert report["method"] == "random"
    assert "40 of 43" in capsys.readouterr().err


def test_an_official_split_without_test_raises_an_error():
    with pytest.raises(UserError, match="no test images; use method: random"):
        run(official(test=0))


def test_an_error_names_a_class_without_official_train_images():
    with pytest.raises(UserError, match="no image of class 'tulip' in train"):
        run([*official(), image("tulip", "lonely", subset="test")])


def test_a_warning_names_a_class_without_official_test_images(capsys):
    run([*official(), *images(3, "tulip", subset="train"), image("tulip", "v", subset="val")])
    assert "no image in test of: tulip" in capsys.readouterr().err


def test_an_error_names_a_missing_or_damaged_image_list(checkout):
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
        ([], "lists no images"),
        (images(9, "daisy"), "one class, 'daisy'"),
        ([*images(9, "daisy"), image("rose", "x", subset="validation")], r"rose/x\.jpg.*subset"),
        ([*images(9, "daisy"), image("", "x")], r"images//x\.jpg.*label"),
        (
            [*images(9, "daisy"), [*image("rose", "x")[:4], "12", *image("rose", "x")[5:]]],
            r"rose/x\.jpg.*16 hex digits",
        ),
    ],
)
def test_an_invalid_image_list_raises_an_error(rows, message, checkout):
    with pytest.raises(UserError, match=message):
        run(rows)
    assert not (checkout / "build" / "split.csv").exists()
