"""The table of test scores on a terminal."""

import hashlib
import io
from pathlib import Path

import pytest
from rich.console import Console

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.reporting import document, measures
from flowers.runs import scores


def shown(metrics, intervals, width=80):
    out = io.StringIO()
    Console(file=out, width=width).print(document.grid(measures.table(metrics, intervals)))
    return out.getvalue().splitlines()


def line(lines, start):
    return next(line for line in lines if start in line)


def test_shares_are_in_percent_and_the_log_loss_is_a_plain_number():
    scores = {"accuracy": 0.8791, "log_loss": 0.41234, "macro_f1": 0.9}
    intervals = {"accuracy": (0.8512, 0.9049), "log_loss": (0.39, 0.44), "macro_f1": (0.88, 1.0)}
    lines = shown(scores, intervals)
    assert "87.9 %" in line(lines, "accuracy") and "85.1 % – 90.5 %" in line(lines, "accuracy")
    assert "0.412" in line(lines, "log-loss") and "0.390 – 0.440" in line(lines, "log-loss")
    assert "%" not in line(lines, "log-loss")
    assert "88.0 % – 100.0 %" in line(lines, "macro F1")


def test_the_table_fits_eighty_columns():
    names = ["accuracy", "mean_per_class_accuracy", "top5_accuracy", "log_loss", "macro_f1"]
    lines = shown(dict.fromkeys(names, 1.0), dict.fromkeys(names, (1.0, 1.0)))
    assert max(map(len, lines)) <= 80
    assert "100.0 %" in line(lines, "mean per-class accuracy")
    assert sum("100.0 % – 100.0 %" in text for text in lines) == 4


def test_measures_have_a_fixed_order():
    scores = {"log_loss": 0.4, "accuracy": 0.9}
    lines = shown(scores, {})
    assert lines.index(line(lines, "accuracy")) < lines.index(line(lines, "log-loss"))


def test_a_measure_without_interval_or_with_an_unknown_name_is_shown():
    lines = shown({"some_new_score": 12.5, "accuracy": 0.5}, {})
    assert "12.500" in line(lines, "some new score")
    assert "–" not in line(lines, "accuracy")


@pytest.mark.parametrize("found", ["0.75", "0.76"])
def test_scores_that_are_not_those_of_the_lock_come_with_a_warning(tmp_path, monkeypatch, capsys, found):
    """A damaged byte, or an evaluation by hand."""
    monkeypatch.chdir(tmp_path)
    paths.EVALUATION.mkdir(parents=True)
    paths.INTERVALS.write_text("{}")
    paths.LABELS.write_text("path,label,predicted\na,rose,rose\n")
    paths.METRICS.write_text(f'{{"accuracy": {found}}}')
    committed = hashlib.md5(b'{"accuracy": 0.75}', usedforsecurity=False).hexdigest()
    Path("dvc.lock").write_text(
        f"stages:\n  evaluate:\n    outs:\n    - path: {paths.METRICS.as_posix()}\n      md5: {committed}\n"
    )
    scores.print_scores()
    warned = "metrics.json is not the one of dvc.lock; `dvc repro` makes it again" in capsys.readouterr().err
    assert warned == (found == "0.76")


def test_a_damaged_name_of_a_score_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths.EVALUATION.mkdir(parents=True)
    paths.METRICS.write_text('{"acCuracy": 0.75}')
    paths.INTERVALS.write_text("{}")
    with pytest.raises(UserError, match=r"damaged .*accuracy.* run `dvc repro -f evaluate`"):
        scores.print_scores()
