"""Which outputs differ, by how much, and the likely causes."""

import hashlib
import json
from dataclasses import replace

from results import table

from flowers.reporting.document import markdown
from flowers.runs.dvc_lock import Lock
from flowers.runs.reproduce import verdict
from flowers.runs.reproduce.verdict import DIFFERS, METRICS, NOT_IN_RUN, NOT_MADE, PREDICTIONS, SAME, Result
from flowers.tracking import provenance

HISTORY = "build/history.csv"


def result(metrics: dict, wrong=(), outputs=None, inputs=None) -> Result:
    files = {METRICS: json.dumps(metrics).encode(), PREDICTIONS: table(wrong).to_csv(index=False).encode()}
    hashes = {path: hashlib.md5(content, usedforsecurity=False).hexdigest() for path, content in files.items()}
    inputs = inputs or {"build/images": "i", "src/flowers/training": "c"}
    return Result(Lock(inputs, (outputs or {}) | hashes), files, "float32")


THEN = result({"accuracy": 0.75, "log_loss": 0.5})


def causes(then: Result = THEN, here: Result = THEN, machine=(), lost=False, fresh=True) -> list[str]:
    return verdict.causes(then, here, machine, lost, fresh)


def test_every_output_of_either_result_has_a_verdict():
    then = result({"accuracy": 1.0}, outputs={"a": "1", "b": "2", "c": "3"})
    here = result({"accuracy": 1.0}, outputs={"a": "1", "b": "other", "d": "4"})
    verdicts = {path: found for path, found, _ in verdict.compare(then, here)}
    assert verdicts == {"a": SAME, "b": DIFFERS, "c": NOT_MADE, "d": NOT_IN_RUN, METRICS: SAME, PREDICTIONS: SAME}


def test_metrics_and_predictions_that_differ_show_by_how_much():
    here = result({"accuracy": 0.75, "log_loss": 0.625}, wrong=[0, 1])
    rows = {path: difference for path, _, difference in verdict.compare(THEN, here)}
    assert rows[METRICS] == "log_loss 0.5 -> 0.625"
    assert rows[PREDICTIONS] == "2 of 60 predicted labels, probabilities by at most 0.7"


def test_a_damaged_file_differs():
    for path, content in {METRICS: b"{", PREDICTIONS: b"a,b\n1\n"}.items():
        rows = {row[0]: row[1:] for row in verdict.compare(replace(THEN, files={path: content}), THEN)}
        assert rows[path][0] == DIFFERS and rows[path][1].startswith("one of them cannot be read")


def test_a_result_is_the_same_if_every_output_of_the_run_is():
    for verdicts, same in (
        ({METRICS: SAME, HISTORY: SAME}, True),
        ({METRICS: SAME, HISTORY: NOT_IN_RUN}, True),
        ({METRICS: SAME, HISTORY: DIFFERS}, False),
        ({METRICS: SAME, HISTORY: NOT_MADE}, False),
        ({METRICS: NOT_IN_RUN, HISTORY: SAME}, False),
    ):
        rows = [[path, found, ""] for path, found in verdicts.items()]
        assert verdict.same(rows) is same, verdicts
        text = markdown(verdict.document("title", rows, ["a cause", "another"]))
        assert text.strip().endswith("the same bytes") is same
        assert ("Likely cause: a cause.\n\nOr: another." in text) is not same


def test_other_inputs_are_named_before_differences_of_the_machine():
    here = result({}, inputs={"build/images": "other", "src/flowers/training": "other"})
    inputs = "other inputs than those of the run: build/images, src/flowers/training"
    assert causes(here=here, machine=["another processor"]) == [inputs, "another processor"]


def test_lost_changes_explain_other_code():
    here = result({}, inputs={"build/images": "i", "src/flowers/training": "other"})
    assert causes(here=here, lost=True) == ["uncommitted changes at the time, which the run does not hold"]


def test_files_changed_in_mlflow_are_a_cause():
    then = replace(THEN, files=THEN.files | {METRICS: b"{}"})
    assert causes(then)[0].startswith("the run's files were changed in MLflow")


def test_another_precision_is_a_cause_if_both_are_known():
    assert causes(here=replace(THEN, precision="bfloat16")) == ["another precision: float32 then, bfloat16 here"]
    assert causes(here=replace(THEN, precision=""))[0].startswith("none known")


def test_without_a_known_cause_fresh_activations_are_suggested():
    assert causes() == ["none known: images, code, package versions, precision and processor are the same"]
    assert "`--fresh`" in causes(fresh=False)[1]


def test_another_processor_and_other_package_versions_are_named(monkeypatch):
    monkeypatch.setattr(provenance, "processor", lambda: "EPYC")
    monkeypatch.setattr("importlib.metadata.version", {"tensorflow": "2.20.0", "numpy": "2.4.6"}.__getitem__)
    assert verdict.of_machine("Xeon", {"tensorflow": "2.21.0", "numpy": "2.4.6"}) == [
        "other package versions: tensorflow 2.21.0 then, 2.20.0 here",
        "another processor: Xeon then, EPYC here",
    ]
    assert verdict.of_machine("EPYC", {}) == verdict.of_machine("", {}) == []
