"""The verdict, and the likely causes of a difference."""

from dataclasses import replace

import pytest

from flowers.reporting.document import markdown
from flowers.runs.reproduce import verdict
from flowers.runs.reproduce.evidence import Facts
from flowers.runs.reproduce.files import DIFFERS, NOT_IN_RUN, NOT_MADE, SAME, File

THEN = Facts(
    processor="Xeon (x86_64)",
    precision="float32",
    versions={"tensorflow": "2.21.0", "keras": "3.15.1"},
    inputs={"photos": "p", "split": "s", "weights": "w", "code": "c"},
    result="then",
)
HERE = replace(THEN, result="here")
SCORES, HISTORY = "build/evaluation/metrics.json", "build/history.csv"


def causes(then: Facts = THEN, here: Facts = HERE, lost: bool = False, fresh: bool = True) -> list[str]:
    return verdict.causes(then, here, lost, fresh)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"processor": "EPYC (x86_64)"}, "another processor: trained on Xeon (x86_64), here EPYC (x86_64)"),
        ({"precision": "bfloat16"}, "another precision: float32 then, bfloat16 here"),
        (
            {"versions": {"tensorflow": "2.20.0"}},
            "other library versions: tensorflow 2.21.0 then, 2.20.0 here; keras 3.15.1 then, not installed here",
        ),
        ({"inputs": {"photos": "other"}}, "other photos: those of the run are no longer there, or were changed"),
        ({"inputs": {"code": "other"}}, "other source files than those that made it (flowers.code_digest)"),
    ],
)
def test_each_difference_is_a_cause(changed, said):
    assert causes(here=replace(HERE, **changed)) == [said]


def test_inputs_come_before_the_machine():
    here = replace(HERE, inputs={"photos": "other", "split": "other"}, processor="EPYC")
    assert [cause.split()[1] for cause in causes(here=here)] == ["photos:", "split", "processor:"]


def test_changes_that_were_lost_explain_the_code():
    here = replace(HERE, inputs={"code": "other"})
    assert causes(here=here, lost=True) == ["uncommitted changes at the time, which the run does not hold"]


def test_the_same_result_as_was_published_leaves_but_the_store():
    (only,) = causes(here=replace(THEN, processor="EPYC"), lost=True)
    assert "changed in MLflow" in only


def test_where_nothing_differs_the_stored_activations_are_left():
    assert causes()[0].startswith("none that is known") and len(causes()) == 1
    assert "--fresh" in causes(fresh=False)[1]


def test_a_run_that_was_published_from_files_does_not_say_where_it_was_trained():
    then = replace(THEN, processor="Xeon (x86_64), published there from files")
    assert causes(then)[0].startswith("none that is known")
    assert causes(then, replace(HERE, processor="EPYC")) == ["another processor: published on Xeon (x86_64), here EPYC"]


def test_what_the_run_does_not_say_is_no_cause():
    assert causes(Facts(), HERE)[0].startswith("none that is known")


@pytest.mark.parametrize(
    ("verdicts", "same"),
    [
        ({SCORES: SAME, HISTORY: SAME}, True),
        ({SCORES: SAME, HISTORY: NOT_IN_RUN}, True),
        ({SCORES: SAME, HISTORY: DIFFERS}, False),
        ({SCORES: SAME, HISTORY: NOT_MADE}, False),
        ({SCORES: NOT_IN_RUN, HISTORY: SAME}, False),  # of the scores nothing is left to compare
        ({}, False),
    ],
)
def test_it_is_the_same_where_all_that_the_run_holds_is(verdicts, same):
    compared = [File(path, what) for path, what in verdicts.items()]
    assert verdict.same(compared) is same
    text = markdown(verdict.document("title", compared, ["a cause"]))
    assert text.strip().endswith("the same bytes") is same
    assert ("Likely cause: a cause." in text) is not same


def test_what_could_not_be_compared_is_named():
    text = markdown(verdict.document("title", [File(SCORES, SAME), File(HISTORY, NOT_IN_RUN)], []))
    assert "Not compared, because the run does not hold it: build/history.csv." in text
