"""The progress of a training on disk: whole, of the same training, or not at all."""

import numpy as np
import pytest

from flowers.training import checkpoint as checkpoints
from flowers.training.checkpoint import Checkpoint
from flowers.training.phases import Progress

ROWS = [
    {"epoch": 0, "phase": "head", "learning_rate": 0.1, "loss": 1 / 3, "accuracy": 0.0},
    {"epoch": 1, "phase": "head", "learning_rate": 0.1, "loss": 1e-17, "accuracy": 1.0},
]


def progress() -> Progress:
    random = np.random.default_rng(0)
    tensors = {name: random.normal(size=3).astype(np.float32) for name in ("head/kernel", "head/bias")}
    optimizer = [np.array(2, np.float32), *(random.normal(size=(2, n)).astype(np.float32) for n in range(12))]
    return Progress(list(ROWS), (0.5, -1 / 7), 1, {"head/kernel": np.ones(2, np.float32)}, tensors, optimizer)


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    return Checkpoint(tmp_path / "build" / "checkpoint", "a key")


def test_progress_comes_back_to_the_bit(checkpoint):
    checkpoint.save(progress())
    found, wanted = checkpoint.load(), progress()
    assert repr(found.rows) == repr(wanted.rows)
    assert (found.best_score, found.best_epoch, found.phase) == (wanted.best_score, 1, "head")
    for one, other in ((found.best, wanted.best), (found.tensors, wanted.tensors)):
        assert {name: values.tobytes() for name, values in one.items()} == {
            name: values.tobytes() for name, values in other.items()
        }
    for one, other in zip(found.optimizer, wanted.optimizer, strict=True):
        assert one.shape == other.shape and one.tobytes() == other.tobytes()


def test_the_best_epoch_is_kept_once_where_it_is_the_last(checkpoint):
    checkpoint.save(progress())
    apart = checkpoint.path.stat().st_size
    last = progress()
    last.best = last.tensors
    checkpoint.save(last)
    assert checkpoint.path.stat().st_size < apart
    found = checkpoint.load()
    assert all(np.array_equal(found.best[name], values) for name, values in last.tensors.items())


def test_without_a_file_there_is_no_progress(checkpoint):
    assert checkpoint.load() == Progress()


def test_another_training_gets_nothing(checkpoint):
    checkpoint.save(progress())
    assert Checkpoint(checkpoint.path, "another key").load() == Progress()


@pytest.mark.parametrize("content", [b"", b"{", b"no checkpoint at all", b"[]\n\0\0\0\0"])
def test_a_file_that_is_none_is_no_progress(checkpoint, content):
    checkpoint.path.parent.mkdir()
    checkpoint.path.write_bytes(content)
    assert checkpoint.load() == Progress()


def test_damage_at_any_place_is_no_progress(checkpoint):
    checkpoint.save(progress())
    whole = checkpoint.path.read_bytes()
    for place in range(len(whole)):
        checkpoint.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert checkpoint.load() == Progress(), place
        if place % 50 == 0:
            checkpoint.path.write_bytes(whole[:place])
            assert checkpoint.load() == Progress(), place


def test_a_file_that_cannot_be_written_is_said_once_and_costs_no_training(checkpoint, capsys):
    checkpoint.path.parent.write_bytes(b"in the way")
    checkpoint.save(progress())
    checkpoint.save(progress())
    assert capsys.readouterr().err.count("if this training is interrupted") == 1
    assert checkpoint.load() == Progress()


def test_the_newest_progress_counts_and_a_half_written_one_does_not(checkpoint):
    later = progress()
    checkpoint.save(Progress())
    checkpoint.save(later)
    checkpoint.path.with_suffix(".partial").write_bytes(b"PK")
    assert checkpoint.load().rows == later.rows


def test_what_is_removed_leaves_nothing(checkpoint):
    checkpoints.remove(checkpoint.path)
    checkpoint.save(progress())
    checkpoint.path.with_suffix(".partial").write_bytes(b"PK")
    checkpoints.remove(checkpoint.path)
    assert not list(checkpoint.path.parent.iterdir())
