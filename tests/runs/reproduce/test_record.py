"""Which of the commits that lead to a run it is made again from."""

import json

import pytest

from flowers.common.errors import UserError
from flowers.runs.reproduce.record import Origin, choose, origins

A, B, C = "a" * 40, "b" * 40, "c" * 40


def test_commits_are_read_from_the_tag_and_what_a_person_wrote_is_passed_over():
    tag = json.dumps([f"{A} with changes", "see my notes", f"{B} clean"])
    assert origins({"flowers.commits": tag}) == [Origin(A, False), Origin(B, True)]
    assert origins({"flowers.commits": "by hand"}) == origins({}) == []


@pytest.mark.parametrize(
    ("listed", "here", "patched", "chosen"),
    [
        ([Origin(A, False), Origin(B, True), Origin(C, True)], {A, B, C}, {A}, B),
        ([Origin(A, False), Origin(B, True)], {A}, {A}, A),  # the clean one is not here
        ([Origin(A, False), Origin(B, False)], {A, B}, {B}, B),
        ([Origin(A, False), Origin(B, False)], {A, B}, set(), A),
    ],
)
def test_a_clean_commit_comes_first_then_one_whose_changes_were_kept(listed, here, patched, chosen):
    assert choose(listed, here.__contains__, patched).commit == chosen


def test_commits_that_are_not_here_are_named():
    with pytest.raises(UserError, match=f"made at {A[:12]}, {B[:12]}, which this clone does not have; `git fetch`"):
        choose([Origin(A, True), Origin(A, False), Origin(B, True)], lambda commit: False, set())
