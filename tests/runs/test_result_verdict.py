"""Which outputs differ, by how much, and the likely causes."""

import hashlib
import json
from dataclasses import replace

from results import table

from flowers.runs import verdict
from flowers.runs.dvc_lock import Lock
from flowers.runs.verdict import DIFFERS, METRICS, NOT_IN_RUN, NOT_MADE, PREDICTIONS, SAME, Result, judge
from flowers.tracking import provenance

HISTORY = "build/history.csv"


def result(metrics: dict, wrong=(), outputs=None, inputs=None, params=None, per_class=20) -> Result:
    files = {
        METRICS: json.dumps(metrics).encode(),
        PREDICTIONS: table(wrong, per_class=per_class).to_csv(index=False).encode(),
    }
    hashes = {path: hashlib.md5(content, usedforsecurity=False).hexdigest() for path, content in files.items()}
    inputs = inputs or {"build/images": "i", "src/flowers/training": "c"}
    return Result(Lock(inputs, (outputs or {}) | hashes, {"head.dropout": "0.2"} | (params or {})), files, "float32")


THEN = result({"accuracy": 0.75, "log_loss": 0.5})


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


def test_the_same_bytes_of_train_and_evaluate_are_the_same_whatever_else_differs():
    here = replace(THEN, lock=replace(THEN.lock, inputs=THEN.lock.inputs | {"src/flowers/training": "other"}))
    found = judge(THEN, here)
    assert (found.lines, found.status) == (["same bytes: all 2 outputs of train and evaluate"], 0)


def test_a_few_other_labels_are_equivalent():
    then, here = result({}, wrong=[0, 1, 2, 3], per_class=40), result({}, wrong=[0, 1, 2, 3, 4], per_class=40)
    assert judge(then, here).lines == [
        "equivalent: 119 of 120 test images have the same label, accuracy 95.8 % against 96.7 %, 95 % CI of the "
        "difference -3.1 to +1.4; float32 on another processor"
    ]
    assert judge(then, here).status == 0


def test_with_few_images_the_difference_that_could_be_missed_is_named():
    line, note = judge(THEN, result({}, wrong=[0])).lines
    assert line.startswith("equivalent: 59 of 60 test images have the same label, accuracy 98.3 % against 100.0 %")
    assert note.startswith("Only 60 test images: a difference of accuracy below about 13 points is likely missed")


def test_a_significant_difference_is_different_even_with_the_same_inputs():
    for wrong, kind in ((range(5), "equivalent"), (range(6), "different")):  # the exact test needs six of six
        found = judge(THEN, result({}, wrong=wrong))
        assert (found.kind, found.status) == (kind, int(kind == "different"))
    assert "exact McNemar p = 0.031; likely cause: float32 on another processor" in found.text


def test_other_parameters_or_data_are_different_however_similar_the_result():
    found = judge(THEN, result({}, params={"head.dropout": "0.3"}))
    assert (found.kind, found.status) == ("different", 1)
    assert found.text.startswith("not the same experiment: head.dropout 0.2 -> 0.3; 60 of 60 test images")
    other = result({}, inputs={"build/images": "other", "src/flowers/training": "c"})
    assert judge(THEN, other).text.startswith("other data: build/images; 60 of 60 test images")


def test_parameters_of_stages_that_did_not_run_are_not_other_parameters():
    lock = Lock({"build/images": "other"}, {}, {"split.seed": "1"})
    then = result({}, params={"split.seed": "1"})
    assert judge(then, Result(lock, {})).text == "other data: build/images"


def test_other_code_can_be_equivalent():
    here = result({}, wrong=[0], inputs={"build/images": "i", "src/flowers/training": "other"})
    assert judge(THEN, here).text.endswith("; other code: src/flowers/training")


def test_other_test_images_are_different():
    found = judge(THEN, result({}, per_class=19))
    assert (found.kind, found.text) == ("different", "other test images, 54 of 60 are the same")


def test_a_result_without_readable_labels_is_different():
    for files in ({METRICS: b"{}"}, {METRICS: b"{}", PREDICTIONS: b"a,b\n1\n"}):
        hashes = {path: hashlib.md5(content, usedforsecurity=False).hexdigest() for path, content in files.items()}
        found = judge(THEN, replace(THEN, files=files, lock=replace(THEN.lock, outputs=hashes)))
        assert (found.kind, found.text.partition(";")[0]) == ("different", "a result has no labels of the test images")


def test_lost_changes_and_changed_files_are_different():
    assert judge(THEN, result({}), lost=True).text.startswith("uncommitted changes at the time, which the run does not")
    then = replace(THEN, files=THEN.files | {METRICS: b"{}"})
    assert judge(then, THEN).text.startswith(
        f"{METRICS} or {PREDICTIONS} was changed, or dvc.lock is of another result"
    )


def test_another_precision_or_processor_is_a_cause_if_both_are_known(monkeypatch):
    monkeypatch.setattr(provenance, "processor", lambda: "EPYC")
    here = replace(result({}), precision="bfloat16")
    assert judge(THEN, here).text.endswith("; another precision: float32 then, bfloat16 here")
    assert judge(replace(THEN, precision=""), here).text.endswith("; bfloat16 on another processor")
    assert judge(replace(THEN, processor="Xeon"), result({})).text.endswith("; another processor: Xeon then, EPYC here")


def test_without_a_known_cause_fresh_activations_are_suggested(monkeypatch):
    monkeypatch.setattr(provenance, "processor", lambda: "EPYC")
    then = replace(THEN, processor="EPYC")
    none = "no cause known: images, code, package versions, precision and processor are the same"
    assert judge(then, result({})).text.endswith(f"; {none}")
    assert judge(then, result({}), fresh=False).text.endswith("(`--fresh` computes them anew)")


def test_another_processor_and_other_package_versions_are_named(monkeypatch):
    monkeypatch.setattr(provenance, "processor", lambda: "EPYC")
    monkeypatch.setattr("importlib.metadata.version", {"tensorflow": "2.20.0", "numpy": "2.4.6"}.__getitem__)
    assert verdict.of_machine("Xeon", {"tensorflow": "2.21.0", "numpy": "2.4.6"}) == [
        "other package versions: tensorflow 2.21.0 then, 2.20.0 here",
        "another processor: Xeon then, EPYC here",
    ]
    assert verdict.of_machine("EPYC", {}) == verdict.of_machine("", {}) == []
