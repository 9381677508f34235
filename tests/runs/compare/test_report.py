"""The document of a comparison, read as its Markdown."""

import re
import subprocess
from dataclasses import replace

import pytest
from results import predictions

from flowers.reporting import document, measures
from flowers.runs.compare import groups, report


def text(*results) -> str:
    return document.markdown(report.document(results)).replace("\\", "")


def row(page: str, start: str) -> list[str]:
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_significant_difference():
    page = text(predictions("main", wrong=range(12)), predictions("mine", wrong=[0, 40]))
    assert page.startswith("## 'mine' against 'main'\n")
    assert "'mine' has 96.7 % accuracy, 'main' 80.0 %: +16.7 points, 95 % interval " in page
    assert f"95 % interval {row(page, 'accuracy')[4]}, significant" in page
    assert "(exact McNemar p = 0.0063: 11 images right in 'mine' only, 1 in 'main' only)." in page
    assert row(page, "accuracy")[1:4] == ["80.0 %", "96.7 %", "+16.7"]
    low, high = row(page, "accuracy")[4].split(" to ")
    assert 0 < float(low) < 16.7 < float(high) < 30
    assert row(page, "daisy") == ["daisy", "20", "8", "19", "+55"]
    assert row(page, "tulip") == ["tulip", "20", "20", "19", "-5"]
    assert "Right in 'mine' only (11 images):" in page and "Right in 'main' only (1 image):" in page
    assert "- tulip · main: tulip 80 % · mine: daisy 80 % · tulip/40.jpg" in page


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ([], [], "is right on the same images as 'main'"),
        ([1, 2, 3], [3], "too few images differ for a significant result"),
        (range(0, 12), range(8, 20), "not significant"),
        ([], range(12), ", significant (exact"),
    ],
)
def test_the_verdict_depends_on_the_images_that_differ(one, other, verdict):
    assert verdict in text(predictions("main", wrong=one), predictions("mine", wrong=other))


def test_with_few_images_the_difference_that_could_be_missed_is_named():
    few, many = (
        report.document([predictions("a", [0], per_class=size), predictions("b", [1], per_class=size)]).lead
        for size in (33, 34)
    )
    assert few[1].startswith("Only 99 test images: a difference of accuracy below about 8 points is likely missed")
    assert many[1:] == [groups.ONE_SEED]


def group(name, *wrong, per_class=100):
    found = predictions(name, per_class=per_class)
    return replace(found, group=[predictions(name, each, per_class=per_class).table for each in wrong])


def test_groups_of_trainings_are_compared_by_their_means():
    """Each of the other group has 30 of the first one's 60 errors, and two of its own that vary with the seed."""
    first = group("main", range(60), range(1, 61), range(2, 62))
    other = group("mine", [*range(30), 100, 101], [*range(30), 102, 103], [*range(31), 104])
    page = text(first, other)
    assert "'mine' has 89.3 % accuracy, 'main' 80.0 %: +9.3 points, 95 % interval +6.2 to +12.4, significant" in page
    assert "3 and 3 trainings)." in page
    assert row(page, "accuracy")[1:4] == ["80.0 % ± 0.0", "89.3 % ± 0.0", "+9.3"]
    assert row(page, "daisy")[1:] == ["100", "40", "69.7", "+30"]
    assert "macro F1" not in page and "One training each" not in page
    assert "Right more often in 'mine' (32 images, 24 shown):" in page


def test_confusions_that_changed_are_listed_and_drawn_in_html():
    results = [predictions("main", wrong=range(5)), predictions("mine", wrong=[0, 20, 21])]
    page = text(*results)
    assert row(page, "daisy → rose") == ["daisy → rose", "5", "1", "-4"]
    assert row(page, "rose → tulip") == ["rose → tulip", "0", "2", "+2"]
    assert "No two classes are confused more often or less." in text(results[0], predictions("same", wrong=range(5)))
    assert "data:image/png" in document.html(report.document(results, lambda path, sha256: None))
    assert "data:image/png" not in document.html(report.document(results))


def test_code_that_changed_between_the_commits_is_listed_with_links_to_its_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    file, commits = tmp_path / "src/train.py", []
    file.parent.mkdir()
    for git in (["init", "-q"], ["remote", "add", "origin", "git@example.org:flowers/mine.git"]):
        subprocess.run(["git", *git], check=True)
    for lines in ("one\ntwo\n", "one\n2\nthree\n"):
        file.write_text(lines)
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "add", "."], check=True)
        subprocess.run(["git", *who, "commit", "-qm", "."], check=True)
        commits.append(subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip())
    one, two = (replace(predictions(name), commit=commit) for name, commit in zip("ab", commits, strict=True))
    page = text(one, two)
    link = f"https://example.org/flowers/mine/blob/{commits[1]}/src/train.py#L2"
    assert row(page, "src/train.py") == ["src/train.py", link, "+2", "-1"]
    assert f"git diff {commits[0][:8]} {commits[1][:8]}" in page
    for other in (replace(two, commit=commits[0]), replace(two, commit="0" * 40), replace(two, commit="")):
        assert "Code of" not in text(one, other)


def test_the_trainings_or_images_that_would_show_the_difference_are_named():
    first, other = group("main", [0, 1], [0, 2], [3, 100]), group("mine", [0], [0, 5], [150, 100])
    lead = report.document([first, other]).lead
    assert lead[0].startswith("'mine' has 99.4 % accuracy, 'main' 99.3 %: +0.1 points, 95 % interval -")
    assert ", not significant (p = 0.66, 3 and 3 trainings)." in lead[0]
    assert re.fullmatch(
        r"A difference of 0.1 points would show with probability 80 % with about [\d,]+ .*images\.", lead[1]
    )


def test_a_group_of_folds_says_what_its_interval_leaves_out():
    first, other = group("main", range(60), range(1, 61)), group("mine", range(30), range(31))
    assert measures.FOLDS not in text(first, other)
    assert measures.FOLDS in text(first, replace(other, params={"folds": "2"}))


def test_a_group_of_one_says_where_the_spread_between_seeds_comes_from():
    lead = report.document([predictions("main", range(60), per_class=100), group("mine", range(30), range(31))]).lead
    assert lead[1] == "'main' is one training; the interval takes the spread between seeds from the other group."
    lead = report.document([predictions("main", per_class=100), group("mine", [0])]).lead
    assert lead[1] == "'main' and 'mine': one training, so the spread between seeds is not in the interval."


def test_only_parameters_and_inputs_that_differ_are_listed():
    other = predictions("mine", params={"head.dropout": "0.3", "head.units": "[]"}, inputs={"code": "b" * 32})
    page = text(predictions("main"), other)
    assert row(page, "head.dropout") == ["head.dropout", "0.2", "0.3"]
    assert row(page, "head.units") == ["head.units", "-", "[]"]
    assert row(page, "code") == ["code", "a", "bbbbbbbb"]
    assert "train.seed" not in page
    same = text(predictions("main"), predictions("mine", params={"train.seed": "0.0"}))  # the number 0, too
    assert "No parameter differs." in same and "All other inputs are the same" in same


def test_unknown_parameters_and_inputs_are_not_called_equal():
    unknown = predictions("mine", inputs={})
    object.__setattr__(unknown, "params", {})
    page = text(predictions("main"), unknown)
    assert "The parameters of mine are unknown: dvc.lock is of another result." in page
    assert "The inputs of mine are unknown: dvc.lock is of another result." in page
    assert "head.dropout" not in page and "are the same" not in page


def test_a_processor_counts_only_where_all_results_record_it():
    one, other = ({"code": "a"} | ({"processor": name} if name else {}) for name in ("EPYC", ""))
    same = text(predictions("main", inputs=one), predictions("mine", inputs=other))
    assert "All other inputs are the same" in same
    other["processor"] = "Xeon"
    page = text(predictions("main", inputs=one), predictions("mine", inputs=other))
    assert row(page, "processor")[1:] == ["EPYC", "Xeon"]


def test_other_classes_on_the_same_images_are_not_compared():
    other = predictions("mine")
    other.table["p(violet)"] = 0.0
    page = text(predictions("main"), other)
    assert "'main' and 'mine' have different classes (only one has violet): nothing is compared." in page
    assert "| accuracy |" not in page


@pytest.mark.parametrize("kind", [{"per_class": 21}, {"classes": ["daisy", "rose", "violet"]}])
def test_other_test_images_are_not_compared(kind):
    page = text(predictions("main"), predictions("mine", wrong=range(10), **kind))
    assert "have different test images (60 and " in page and "nothing is compared." in page
    assert "McNemar" not in page and "| accuracy |" not in page and "flipped" not in page


def test_an_image_with_another_label_is_another_test_image():
    other = predictions("mine")
    other.table.loc[0, "label"] = next(name for name in other.classes if name != other.table["label"][0])
    assert "have different test images (60 and 60, 59 of them the same)" in text(predictions("main"), other)


def test_several_comparisons_share_the_level_of_significance():
    """p = 0.039 is significant alone, but not as one of two comparisons."""
    worse = predictions("c", wrong=range(8))
    page = text(predictions("a", wrong=[50]), predictions("b"), worse)
    assert "With 2 comparisons, a p below 0.025 is significant." in page
    assert "not significant (exact McNemar p = 0.039: 1 image right in 'c' only, 8 in 'a' only)" in page
    alone = text(predictions("a", wrong=[50]), worse)
    assert ", significant (exact McNemar p = 0.039: 1 image right in 'c' only, 8 in 'a' only)" in alone


def test_a_page_shows_the_images_that_flipped():
    requested = []

    def thumbnail(path, _):
        requested.append(path)
        return b"\xff\xd8 image" if path.startswith("daisy") else None

    found = report.document([predictions("main", wrong=[0]), predictions("mine", wrong=[30])], thumbnail)
    page = document.html(found)
    assert sorted(requested) == ["daisy/0.jpg", "rose/30.jpg"]
    assert page.count("data:image/jpeg") == 1 and page.count(">missing<") == 1


def test_a_result_alone_has_its_scores_and_the_reason():
    found = report.alone(predictions("workspace", wrong=[0, 1, 2]), "main has none")
    page = document.markdown(found).replace("\\", "")
    assert "main has none" in page
    assert row(page, "accuracy")[:2] == ["accuracy", "95.0 %"]
