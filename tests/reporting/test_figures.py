"""The figures, tested by their pixels."""

import re
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.stats import binomtest

from flowers.metrics import classification
from flowers.reporting import curves, figures

FIVE = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def labelled(n_classes, images=400, right=0.8):
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=images)])
    other = (labels + rng.integers(1, n_classes, size=len(labels))) % n_classes
    return labels, np.where(rng.random(len(labels)) < right, labels, other)


def history(head=8, fine_tune=4, validation=True):
    epochs = np.arange(1, head + fine_tune + 1)
    loss = 2 / epochs
    table = pd.DataFrame(
        {"epoch": epochs, "phase": ["head"] * head + ["fine_tune"] * fine_tune, "learning_rate": 0.001}
    )
    table["loss"], table["accuracy"] = loss, 1 - loss / 2.5
    score = 1 - loss / 2 - 0.001 * np.maximum(epochs - 10, 0) ** 2 if validation else np.nan
    table["val_loss"] = loss * 1.1 if validation else np.nan
    table["val_accuracy"] = table["val_mean_per_class_accuracy"] = score
    return table


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def share_of(path, colour, within=30):
    """The share of the pixels that are near a colour."""
    wanted = np.array(to_rgb(colour)) * 255
    return (np.abs(pixels(path) - wanted).max(axis=2) < within).mean()


def draw_confusion(classes, path, labels, predicted):
    figures.confusion(classification.confusion(labels, predicted, classes), path)
    return path


def draw_per_class(classes, path, labels, predicted):
    figures.per_class(classification.per_class(labels, predicted, classes), path)
    return path


@pytest.mark.parametrize("draw", [draw_confusion, draw_per_class])
def test_the_same_result_gives_the_same_bytes_and_another_does_not(draw, tmp_path):
    labels, predicted = labelled(5)
    one = draw(FIVE, tmp_path / "1.png", labels, predicted).read_bytes()
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 40}):  # a user's taste
        two = draw(FIVE, tmp_path / "2.png", labels, predicted).read_bytes()
    three = draw(FIVE, tmp_path / "3.png", labels, labels).read_bytes()
    assert one == two != three


def test_the_bytes_hold_no_version_and_no_time(tmp_path):
    curves.draw(history(), tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as image:
        assert set(image.info) <= {"dpi"}


def test_correct_is_blue_and_wrong_is_orange(tmp_path):
    labels, _ = labelled(5)
    right = draw_confusion(FIVE, tmp_path / "right.png", labels, labels)
    wrong = draw_confusion(FIVE, tmp_path / "wrong.png", labels, (labels + 1) % 5)
    full_blue, full_orange = figures.BLUES(1.0)[:3], figures.ORANGES(1.0)[:3]
    assert share_of(right, full_blue) > 0.05 > 0.02 > share_of(right, full_orange)
    assert share_of(wrong, full_orange) > 0.05 > 0.02 > share_of(wrong, full_blue)


def test_rows_are_normalised_by_the_images_of_the_class(tmp_path):
    """Ten times the images in one class change its numbers, not the colours."""
    matrix = pd.DataFrame([[8, 2], [1, 9]], index=["a", "b"], columns=["a", "b"])
    more = pd.DataFrame([[8, 2], [100, 900]], index=["a", "b"], columns=["a", "b"])
    figures.confusion(matrix, tmp_path / "1.png")
    figures.confusion(more, tmp_path / "2.png")
    for share, colours in ((0.8, figures.RIGHT), (0.9, figures.RIGHT), (0.2, figures.WRONG), (0.1, figures.WRONG)):
        colour = colours.to_rgba(share)[:3]
        assert share_of(tmp_path / "1.png", colour, 3) > 0.04
        assert share_of(tmp_path / "2.png", colour, 3) == pytest.approx(
            share_of(tmp_path / "1.png", colour, 3), rel=0.1
        )


def test_a_hundred_classes_have_room_for_every_name_and_no_text_in_cells(tmp_path):
    names = [f"flower number {k}" for k in range(102)]
    labels, predicted = labelled(102, images=1000)
    path = draw_confusion(names, tmp_path / "c.png", labels, predicted)
    with Image.open(path) as image:
        assert min(image.size) > 102 * 24  # 24 pixels a name: letters of 7 points at 150 dots an inch fit
        assert max(image.size) < 4000
    few = labels < 40
    with Image.open(draw_per_class(names[:40], tmp_path / "p.png", labels[few], labels[few])) as image:
        assert image.height > 40 * 24


@pytest.mark.parametrize("n_classes", [151, 1000])
def test_of_more_classes_the_most_telling_are_drawn(n_classes, tmp_path, monkeypatch):
    names, drawn = [f"flower {k}" for k in range(n_classes)], []
    original = Axes.set_yticks
    monkeypatch.setattr(
        Axes, "set_yticks", lambda self, rows, names, **more: drawn.append(names) or original(self, rows, names, **more)
    )
    labels = np.repeat(np.arange(n_classes - 1), 4)  # the last class has no images
    predicted = labels.copy()
    predicted[[40, 41, 42]], predicted[[80, 81]], predicted[200] = 7, 9, 1
    for draw in (draw_confusion, draw_per_class):
        with Image.open(draw(names, tmp_path / "x.png", labels, predicted)) as image:
            assert max(image.size) < 1500
    pairs, recalls = drawn
    assert [re.findall(r"\d+", pair) for pair in pairs] == [["10", "7"], ["20", "9"], ["50", "1"]]
    assert recalls[-3:] == ["flower 50", "flower 20", "flower 10"] and len(recalls) == 40
    assert names[-1] not in recalls


def test_many_classes_without_a_confusion_are_drawn(tmp_path):
    labels = np.arange(151)
    path = draw_confusion([f"c{k}" for k in labels], tmp_path / "c.png", labels, labels)
    assert share_of(path, figures.ORANGE) == 0 < share_of(path, figures.INK)


def test_counts_stand_in_the_cells_up_to_twenty_classes(tmp_path):
    """The same shares with other counts look different exactly where counts are written."""

    def differ(n_classes):
        names = [f"c{k}" for k in range(n_classes)]
        for times in (1, 7):
            matrix = pd.DataFrame(np.eye(n_classes, dtype=int) * times, index=names, columns=names)
            figures.confusion(matrix, tmp_path / f"{times}.png")
        height = pixels(tmp_path / "1.png").shape[0]
        below_the_title = slice(int(0.15 * height), None)
        one, seven = pixels(tmp_path / "1.png")[below_the_title], pixels(tmp_path / "7.png")[below_the_title]
        return one.shape != seven.shape or (one != seven).any()

    assert differ(20)
    assert not differ(21)


def test_a_class_without_images_is_drawn(tmp_path):
    labels, predicted = np.array([0, 0, 1]), np.array([0, 1, 1])
    for draw in (draw_confusion, draw_per_class):
        assert pixels(draw(["daisy", "rose", "none"], tmp_path / "x.png", labels, predicted)).std() > 0


@pytest.mark.parametrize("draw", [draw_confusion, draw_per_class])
def test_names_in_any_script_are_drawn_without_a_warning(draw, tmp_path, capfd, caplog):
    odd = ["向日葵", "Роза", "a $^$ rose", "two\nlines", "x" * 300]
    labels, predicted = labelled(5)
    path = draw(odd, tmp_path / "odd.png", labels, predicted)
    with Image.open(path) as image:
        assert image.width < 2500  # the long name is cut
    assert capfd.readouterr().err == "" and caplog.text == ""


def test_curves_show_validation_and_the_best_epoch_if_there_is_validation(tmp_path):
    curves.draw(history(), tmp_path / "with.png")
    curves.draw(history(validation=False), tmp_path / "nan.png")
    without = [column for column in history() if not column.startswith("val_")]
    curves.draw(history()[without], tmp_path / "absent.png")
    assert share_of(tmp_path / "with.png", figures.ORANGE) > 0.002
    assert share_of(tmp_path / "with.png", figures.INK) > 1.2 * share_of(tmp_path / "absent.png", figures.INK)
    assert share_of(tmp_path / "absent.png", figures.ORANGE) == 0
    assert (tmp_path / "nan.png").read_bytes() == (tmp_path / "absent.png").read_bytes()


def test_the_best_epoch_is_the_first_of_the_lowest_validation_loss():
    table = history(head=12, fine_tune=0)
    table["val_mean_per_class_accuracy"] = [0.5, 0.9, 0.9, 0.9, *[0.7] * 8]
    table["val_loss"] = [float("nan"), 0.6, 0.5, 0.5, *[0.4] * 8]
    assert curves.best_epoch(table) == 5
    assert curves.best_epoch(history(validation=False)) is None


def test_the_second_phase_is_shaded(tmp_path):
    curves.draw(history(8, 4), tmp_path / "two.png")
    curves.draw(history(12, 0), tmp_path / "one.png")
    shade = "#F0F0F0"
    assert share_of(tmp_path / "two.png", shade, 3) > 0.1 > 0.02 > share_of(tmp_path / "one.png", shade, 3)


def test_one_epoch_is_enough_for_curves(tmp_path):
    curves.draw(history(1, 0), tmp_path / "one.png")
    assert share_of(tmp_path / "one.png", figures.BLUE) > 0


@pytest.mark.parametrize(("correct", "images"), [(0, 5), (17, 20)])
def test_whiskers_are_wilson_intervals(correct, images, tmp_path, monkeypatch):
    drawn = []
    original = Axes.hlines
    monkeypatch.setattr(
        Axes,
        "hlines",
        lambda self, y, low, high, **more: drawn.append((low, high)) or original(self, y, low, high, **more),
    )
    table = pd.DataFrame({"class": ["a"], "photos": [images], "correct": [correct], "recall": [correct / images]})
    figures.per_class(table, tmp_path / "p.png")
    expected = binomtest(correct, images).proportion_ci(method="wilson")
    assert np.ravel(drawn) == pytest.approx([expected.low, expected.high])


def test_drawing_neither_imports_pyplot_nor_changes_settings(tmp_path):
    code = (
        "import sys, pathlib, pandas, matplotlib\n"
        "def settings(): return {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}\n"
        "before = settings()\n"
        "from flowers.reporting import figures\n"
        "figures.confusion(pandas.DataFrame([[1, 0], [0, 1]], list('ab'), list('ab')), pathlib.Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert settings() == before\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "c.png")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "c.png").exists()
