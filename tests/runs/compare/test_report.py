"""What a comparison says, read as the Markdown of its document."""

import pytest
from results import answers

from flowers.reporting import document
from flowers.runs.compare import report


def text(*results) -> str:
    return document.markdown(report.document(results)).replace("\\", "")


def row(page: str, start: str) -> list[str]:
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_more_photos_right_than_chance_would_give():
    page = text(answers("main", wrong=range(12)), answers("mine", wrong=[0, 40]))
    assert page.startswith("## 'mine' against 'main'\n")
    assert "'mine' gets 11 photos right that 'main' gets wrong, and 1 the other way: more than chance" in page
    assert "exact McNemar p = 0.0063" in page
    assert row(page, "accuracy")[1:4] == ["80.0 %", "96.7 %", "+16.7"]
    low, high = row(page, "accuracy")[4].split(" to ")
    assert 0 < float(low) < 16.7 < float(high) < 30
    assert row(page, "daisy") == ["daisy", "20", "8", "19", "+55"]
    assert row(page, "tulip") == ["tulip", "20", "20", "19", "-5"]
    assert "Right in 'mine' alone (11 photos):" in page and "Right in 'main' alone (1 photo):" in page
    assert "- tulip · main: tulip 80 % · mine: daisy 80 % · tulip/40.jpg" in page


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ([], [], "is right on the same photos as 'main'"),
        ([1, 2, 3], [3], "too few photos to tell"),
        (range(10), range(4, 10), "too few photos to tell"),
        (range(0, 12), range(8, 20), "no more than chance may do"),
        ([], range(12), "more than chance"),
    ],
)
def test_the_verdict_says_what_the_photos_can_tell(one, other, said):
    assert said in text(answers("main", wrong=one), answers("mine", wrong=other))


def test_parameters_and_inputs_that_differ_are_named_and_no_others():
    other = answers("mine", params={"head.dropout": "0.3", "head.units": "[]"}, inputs={"code": "b" * 32})
    page = text(answers("main"), other)
    assert row(page, "head.dropout") == ["head.dropout", "0.2", "0.3"]
    assert row(page, "head.units") == ["head.units", "-", "[]"]
    assert row(page, "code") == ["code", "a", "bbbbbbbb"]
    assert "train.seed" not in page
    same = text(answers("main"), answers("mine"))
    assert "No parameter differs." in same and "All else that went in is the same" in same


def test_inputs_that_are_not_known_are_not_called_equal():
    page = text(answers("main"), answers("mine", inputs={}))
    assert "What else went into mine is not known: dvc.lock is of another result." in page
    assert "is the same" not in page


def test_parameters_that_are_not_known_are_not_made_up():
    unknown = answers("mine")
    object.__setattr__(unknown, "params", {})
    page = text(answers("main"), unknown)
    assert "The parameters of mine are not known" in page and "head.dropout" not in page


def test_one_number_written_in_two_ways_is_no_difference():
    page = text(answers("main", params={"head.dropout": "0.0"}), answers("mine", params={"head.dropout": "0"}))
    assert "No parameter differs." in page


def test_a_processor_that_only_one_knows_is_no_difference():
    one, other = ({"code": "a"} | ({"processor": name} if name else {}) for name in ("EPYC", ""))
    assert "All else that went in is the same" in text(answers("main", inputs=one), answers("mine", inputs=other))
    other["processor"] = "Xeon"
    assert row(text(answers("main", inputs=one), answers("mine", inputs=other)), "processor")[1:] == ["EPYC", "Xeon"]


def test_other_classes_on_the_same_photos_are_called_that():
    other = answers("mine")
    other.table["p(violet)"] = 0.0
    page = text(answers("main"), other)
    assert "'main' and 'mine' tell other classes apart: nothing is compared." in page
    assert "Only 'mine' knows violet." in page and "same photos" not in page


@pytest.mark.parametrize("kind", [{"per_class": 21}, {"classes": ["daisy", "rose", "violet"]}])
def test_other_test_photos_are_not_compared_as_if_they_were_the_same(kind):
    page = text(answers("main"), answers("mine", wrong=range(10), **kind))
    assert "were not tested on the same photos: nothing is compared." in page
    assert "are the same in both" in page
    assert "McNemar" not in page and "| accuracy |" not in page and "flipped" not in page


def test_a_photo_under_another_label_is_another_test():
    other = answers("mine")
    other.table.loc[0, "label"] = next(name for name in other.classes if name != other.table["label"][0])
    assert "nothing is compared" in text(answers("main"), other)


def test_several_are_each_compared_with_the_first_and_chance_is_shared():
    """Two comparisons: p = 0.039 is chance's, which alone it would not be."""
    worse = answers("c", wrong=range(8))
    page = text(answers("a", wrong=[50]), answers("b"), worse)
    assert "With 2 comparisons, a p below 0.025 counts as more than chance." in page
    assert "'c' gets 1 photo right that 'a' gets wrong, and 8 the other way: no more than chance may do" in page
    alone = text(answers("a", wrong=[50]), worse)
    assert "and 8 the other way: more than chance (exact McNemar p = 0.039)" in alone


def test_a_page_shows_the_photos_that_flipped():
    asked = []

    def thumbnail(path, sha256):
        asked.append(path)
        return b"\xff\xd8 photo" if path.startswith("daisy") else None

    found = report.document([answers("main", wrong=[0]), answers("mine", wrong=[30])], thumbnail)
    page = document.html(found)
    assert sorted(asked) == ["daisy/0.jpg", "rose/30.jpg"]
    assert page.count("data:image/jpeg") == 1 and page.count("not here") == 1


def test_alone_a_result_has_its_scores_and_the_reason():
    page = document.markdown(report.alone(answers("workspace", wrong=[0, 1, 2]), "main has none")).replace("\\", "")
    assert "main has none" in page
    assert row(page, "accuracy")[:2] == ["accuracy", "95.0 %"]
