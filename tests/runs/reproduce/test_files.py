"""A result against another one, file by file."""

import io
import json

import numpy as np
import pytest

from flowers.runs.reproduce import files
from flowers.runs.reproduce.files import DIFFERS, NOT_IN_RUN, NOT_MADE, SAME


def npz(**arrays) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def test_every_file_of_either_side_has_a_verdict(tmp_path):
    for name, text in {"one": "a", "same": "a", "other": "b"}.items():
        (tmp_path / name).write_text(text)
    recorded = {"a.png": tmp_path / "one", "b.png": tmp_path / "one", "c.png": tmp_path / "one"}
    made = {"a.png": tmp_path / "same", "b.png": tmp_path / "other", "d.png": tmp_path / "one"}
    verdicts = {file.path: file.verdict for file in files.compare(recorded, made)}
    assert verdicts == {"a.png": SAME, "b.png": DIFFERS, "c.png": NOT_MADE, "d.png": NOT_IN_RUN}


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("epoch,loss\n0,1.5\n1,1.25\n", "epoch,loss\n0,1.5\n1,1.0\n", "by at most 0.25 (loss, row 2)"),
        ("label,loss\nrose,1\nrose,1\n", "label,loss\ntulip,1\ntulip,1\n", "2 other values"),
        ("label,loss\nrose,1\n", "label,loss\ntulip,3\n", "by at most 2 (loss, row 1), 1 other value"),
        ("loss\n1\n", "loss\n1\n2\n", "2 values, not 1"),
        ("loss\n1\n", "accuracy\n1\n", "other names"),
        ("loss\n1.0\n", "loss\n1\n", "in form alone: the values are equal"),
        ("loss\n1\n", "loss\ninf\n", "by at most inf (loss, row 1)"),
        ("loss\ninf\n", "loss\ninf \n", "in form alone: the values are equal"),
        ("a,b\n1\n", "a,b\n1,2\n", "one of them cannot be read"),
    ],
)
def test_tables_are_compared_cell_by_cell(one, other, said):
    assert files.difference("x.csv", one.encode(), other.encode()) == said


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"accuracy": [0.5, 0.75]}, {"accuracy": [0.5, 0.5]}, "by at most 0.25 (accuracy.1)"),
        ({"a": 1.0, "b": None}, {"a": 1.0, "b": 2.0}, "1 other value"),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, "2 values, not 1"),
    ],
)
def test_scores_are_compared_one_by_one(one, other, said):
    assert files.difference("x.json", json.dumps(one).encode(), json.dumps(other).encode()) == said


def test_tensors_are_compared_by_their_largest_difference():
    one, other = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    other[1, 2] = 0.5
    assert files.difference("x.npz", npz(a=one, b=one), npz(a=one, b=other)) == "by at most 0.5 (b)"
    assert files.difference("x.npz", npz(a=one), npz(a=one[:1])) == "1 other value"
    assert files.difference("x.npz", npz(a=one), b"damaged") == "one of them cannot be read"
