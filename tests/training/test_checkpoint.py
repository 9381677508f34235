"""Checkpoints: complete and of the same training, or ignored."""

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
    average = {name: values / 2 for name, values in tensors.items()}
    optimizer = [np.array(2, np.float32), *(random.normal(size=(2, n)).astype(np.float32) for n in range(12))]
    return Progress(list(ROWS), (0.5, -1 / 7), 1, {"head/kernel": np.ones(2, np.float32)}, tensors, average, optimizer)


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    return Checkpoint(tmp_path / "build" / "checkpoint", "a key")


def test_loaded_progress_is_bit_identical(checkpoint):
    checkpoint.save(progress())
    found, wanted = checkpoint.load(), progress()
    assert repr(found.rows) == repr(wanted.rows)
    assert (found.best_score, found.best_epoch, found.phase) == (wanted.best_score, 1, "head")
    for one, other in (
        (found.best, wanted.best),
        (found.tensors, wanted.tensors),
        (found.average, wanted.average),
    ):
        assert {name: values.tobytes() for name, values in one.items()} == {
            name: values.tobytes() for name, values in other.items()
        }
    for one, other in zip(found.optimizer, wanted.optimizer, strict=True):
        assert one.shape == other.shape and one.tobytes() == other.tobytes()


def test_equal_tensors_are_written_once(checkpoint):
    sizes = []
    apart, last, plain = progress(), progress(), progress()
    last.best = last.average
    plain.best = plain.average = plain.tensors
    for saved in (apart, last, plain):
        checkpoint.save(saved)
        sizes.append(checkpoint.path.stat().st_size)
        found = checkpoint.load()
        for name in ("best", "average", "tensors"):
            wanted = getattr(saved, name)
            assert all(np.array_equal(getattr(found, name)[key], values) for key, values in wanted.items())
    assert sizes[0] > sizes[1] > sizes[2]


def test_without_a_file_there_is_no_progress(checkpoint):
    assert checkpoint.load() == Progress()


def test_a_checkpoint_of_another_training_is_ignored(checkpoint):
    checkpoint.save(progress())
    assert Checkpoint(checkpoint.path, "another key").load() == Progress()


@pytest.mark.parametrize("content", [b"", b"[]\n\0\0\0\0"])
def test_another_file_is_ignored(checkpoint, content):
    checkpoint.path.parent.mkdir()
    checkpoint.path.write_bytes(content)
    assert checkpoint.load() == Progress()


def test_a_file_damaged_at_any_byte_is_ignored(checkpoint):
    checkpoint.save(progress())
    whole = checkpoint.path.read_bytes()
    for place in range(len(whole)):
        checkpoint.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert checkpoint.load() == Progress(), place
        if place % 50 == 0:
            checkpoint.path.write_bytes(whole[:place])
            assert checkpoint.load() == Progress(), place


def test_a_file_that_cannot_be_written_causes_one_warning(checkpoint, capsys):
    checkpoint.path.parent.write_bytes(b"in the way")
    checkpoint.save(progress())
    checkpoint.save(progress())
    assert capsys.readouterr().err.count("an interrupted training would lose") == 1
    assert checkpoint.load() == Progress()


def test_the_latest_save_is_loaded_and_a_partial_file_is_ignored(checkpoint):
    later = progress()
    checkpoint.save(Progress())
    checkpoint.save(later)
    checkpoint.path.with_suffix(".partial").write_bytes(b"PK")
    assert checkpoint.load().rows == later.rows


def test_removing_deletes_the_file_and_its_partial_file(checkpoint):
    checkpoints.remove(checkpoint.path)
    checkpoint.save(progress())
    checkpoint.path.with_suffix(".partial").write_bytes(b"PK")
    checkpoints.remove(checkpoint.path)
    assert not list(checkpoint.path.parent.iterdir())
