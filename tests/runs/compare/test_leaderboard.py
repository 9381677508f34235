"""The ranking of results, and which of them cannot be told from the best."""

import numpy as np

from flowers.reporting import document
from flowers.runs.compare import leaderboard
from flowers.runs.compare.leaderboard import Entry, ranked

IMAGES = 300
LABELS = np.array(["rose", "tulip", "daisy"] * 100)


def entry(name, *wrong) -> Entry:
    """A run, or a group of several trainings, that has these images wrong."""
    predicted = np.stack([LABELS] * len(wrong))
    for row, images in zip(predicted, wrong, strict=True):
        row[list(images)] = "thistle"
    images = np.column_stack([np.arange(IMAGES).astype(str), LABELS])
    return Entry(name, f"{name}0123456789", images, predicted)


def rows(*entries) -> list[list[str]]:
    page = document.markdown(ranked(entries))
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ][2:]


def test_results_are_ranked_and_those_as_good_as_the_best_are_marked():
    table = rows(entry("far", range(60)), entry("near", range(34)), entry("best", range(30)), entry("also", range(30)))
    assert [row[:5] for row in table] == [
        ["=", "1", "also", "also0123", "90.0 %"],
        ["=", "2", "best", "best0123", "90.0 %"],
        ["=", "3", "near", "near0123", "88.7 %"],
        ["", "4", "far", "far01234", "80.0 %"],
    ]
    assert table[3][5:] == ["-10.0", "-13.4 to -6.5"] and table[0][5:] == ["", ""]


def test_a_group_is_compared_by_the_spread_of_its_seeds():
    """The means differ by 8 points, which is less than what another seed changes."""
    wild, steady = entry("wild", range(10), range(110)), entry("steady", range(30), range(31))
    (first, second) = rows(wild, steady)
    assert (first[2], second[2], second[0]) == ("steady", "wild", "=")
    assert second[4] == "80.0 % ± 23.6"
    (first, second) = rows(entry("wild", range(60), range(61)), steady)
    assert second[0] == ""


def test_holms_correction():
    assert leaderboard.holm([0.04], 1) == [True]
    assert leaderboard.holm([0.04], 2) == [False]
    assert leaderboard.holm([0.04, 0.3], 2) == [False, False]
    assert leaderboard.holm([0.04, 0.001, 0.024], 3) == [True, True, True]
    assert leaderboard.holm([0.04, 0.001, 0.026], 3) == [False, True, False]
    assert leaderboard.holm([], 0) == []


def test_equal_results_are_rarely_told_from_the_best_of_them():
    """The best of ten is selected by these scores: a correction for nine comparisons finds a difference in 8 of 100."""
    rng, told = np.random.default_rng(0), 0
    for _ in range(100):
        hard = rng.random(IMAGES) < 0.3
        entries = [entry(str(n), np.flatnonzero(hard & (rng.random(IMAGES) < 0.5))) for n in range(10)]
        told += any(row[0] == "" for row in rows(*entries))
    assert told <= 5
