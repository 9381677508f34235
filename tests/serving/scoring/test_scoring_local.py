"""Scoring on this machine: what is written, and that a kill at any moment costs a shard at most."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from PIL import Image

from flowers import cli
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.model import classifier
from flowers.serving.scoring import files, local, run, schema

LABELS = pyarrow.dataset.partitioning(pa.schema([("label", pa.string())]), flavor="hive")


class ByColour:
    """Stands in for the network: the shares of red, green and blue; `asked` counts the photos."""

    classes = ("rosé: 1/2", "NA", "blue")
    threshold = 0.9
    size = 224
    asked = 0

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        ByColour.asked += len(images)
        sums = images.sum(axis=(1, 2)).astype(np.float32) + 1
        return sums / sums.sum(axis=1, keepdims=True)


COLOURS = {"red": "#ff0000", "green": "#00ff00", "blue": "#0000ff", "reddish": "#ff4040"}


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """A current folder with a model's folder, and photos: 12 readable ones in three folders, and 3 others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flowers.serving.models.load", lambda folder: ByColour())
    monkeypatch.setattr(ByColour, "asked", 0)
    monkeypatch.setattr(local, "SHARD", 4)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / classifier.DESCRIPTION).write_text("{}")
    for folder in ("a", "b", "b/ü c"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for name, colour in COLOURS.items():
            Image.new("RGB", (40, 30), colour).save(tmp_path / "photos" / folder / f"{name}.png")
    (tmp_path / "photos" / "b" / "broken.JPG").write_bytes(b"no photo")
    (tmp_path / "photos" / "b" / "empty.jpeg").write_bytes(b"")
    (tmp_path / "photos" / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "photos" / "notes.txt").write_text("no photo, and not named like one")
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"")
    return tmp_path


def score(**options) -> None:
    run.score(None, run.Request(**{"input": "photos", "output": "out", "model": "model"} | options))


def answers(folder: str = "out") -> pd.DataFrame:
    return pyarrow.parquet.read_table(folder, partitioning=LABELS).to_pandas().sort_values("path", ignore_index=True)


def content(folder: str = "out") -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_every_photo_is_a_row_in_the_folder_of_its_label(world, capsys):
    score()
    found = answers()
    assert list(found["path"]) == sorted(files.walk(Path("photos"))) and len(found) == 15
    assert list(found.columns) == ["path", "probability", "unsure", "best", "error", "label"]
    red = found.set_index("path").loc["b/ü c/reddish.png"]
    assert red["label"] == "rosé: 1/2" and 0.5 < red["probability"] < 0.9 and red["unsure"]
    assert [entry["label"] for entry in red["best"]] == ["rosé: 1/2", "NA", "blue"]
    assert red["best"][0]["probability"] == red["probability"] and pd.isna(red["error"])
    assert "15 photos, 3 unsure, 3 unreadable" in capsys.readouterr().err
    assert {path.name for path in Path("out").iterdir() if path.name.startswith("label=")} == {
        "label=rosé%3A 1%2F2",
        "label=NA",
        "label=blue",
        "label=__HIVE_DEFAULT_PARTITION__",
    }


def test_an_unreadable_photo_is_a_row_with_its_reason_and_nothing_else(world):
    score(every_class=True)
    bad = answers().set_index("path").loc[["b/broken.JPG", "b/empty.jpeg", "gone.jpg"]]
    assert bad.drop(columns="error").isna().all(axis=None)
    assert bad["error"].str.startswith(("not an image", "empty file", "cannot be read")).all()


def test_types_are_those_that_spark_writes_and_each_class_has_its_column(world):
    score(every_class=True, threshold=0.5)
    found = pyarrow.parquet.read_schema(next(Path("out/label=NA").iterdir())).remove_metadata()
    best = pa.list_(pa.field("element", pa.struct([("label", pa.string()), ("probability", pa.float64())])))
    assert found == pa.schema(
        [
            ("path", pa.string()),
            ("probability", pa.float64()),
            ("unsure", pa.bool_()),
            ("best", best),
            ("error", pa.string()),
            *((f"p({name})", pa.float64()) for name in ByColour.classes),
        ]
    )
    rows = answers().dropna(subset="label")
    assert not rows["unsure"].any()
    assert np.allclose(rows[[f"p({name})" for name in ByColour.classes]].sum(axis=1), 1)


@pytest.mark.parametrize("label", ["a=b", "50%", "x/y", "[a]", "é", "a b", "it's", "#1"])
def test_arrow_reads_a_label_back_from_its_folder(tmp_path, label):
    folder = tmp_path / schema.partition(label)
    folder.mkdir()
    pyarrow.parquet.write_table(pa.table({"path": ["x"]}), folder / "part.parquet")
    assert pyarrow.parquet.read_table(tmp_path, partitioning=LABELS)["label"].to_pylist() == [label]


def test_a_finished_output_is_left_as_it_is(world, capsys):
    score()
    before, asked = content(), ByColour.asked
    capsys.readouterr()
    score()
    assert content() == before and ByColour.asked == asked == 12
    assert "complete already: 15 photos, 3 unsure, 3 unreadable" in capsys.readouterr().err


class Killed(BaseException):
    """Stands in for a kill: nothing in the code catches it."""


def stopped_after(writes: int, monkeypatch) -> bool:
    """Score until that many files have their names; whether it was stopped."""
    settle, left = local._settle, [writes]

    def counted(unsettled, file):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        settle(unsettled, file)

    with monkeypatch.context() as patch:
        patch.setattr(local, "_settle", counted)
        try:
            score()
        except Killed:
            return True
    return False


def test_killed_before_any_write_it_goes_on_and_ends_the_same(world, monkeypatch):
    score(output="whole")
    whole = {path.removeprefix("whole/"): data for path, data in content("whole").items()}
    writes = 0
    while stopped_after(writes, monkeypatch):
        complete = [json.loads(path.read_text()) for path in Path("out/_progress").glob("0*.json")]
        assert not Path("out/_SUCCESS").exists()
        ByColour.asked = 0
        score()
        missing = 15 - sum(marker["photos"] for marker in complete)
        assert ByColour.asked == missing - (3 - sum(marker["unreadable"] for marker in complete))
        assert {path.removeprefix("out/"): data for path, data in content().items()} == whole
        shutil.rmtree("out")
        writes += 1
    assert writes == len(whole) - 1  # each file but the lock was once the next


def test_what_a_killed_run_left_of_a_shard_does_not_stay(world, monkeypatch):
    assert stopped_after(3, monkeypatch)
    stale = Path("out/label=another/part-00000.parquet")
    stale.parent.mkdir()
    pyarrow.parquet.write_table(pa.table({"path": ["from a run that answered otherwise"]}), stale)
    score()
    assert not answers()["path"].str.startswith("from").any() and answers()["path"].is_unique


def kept_from(change: dict, said: str) -> None:
    before = content()
    with pytest.raises(UserError, match=said) as caught:
        score(**change)
    assert "--force" in str(caught.value) and "\n" not in str(caught.value)
    assert content() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [({"every_class": True}, "every-class false, now true"), ({"threshold": 0.25}, "the model's own, now 0.25")],
)
def test_other_options_are_refused(world, change, said):
    score()
    kept_from(change, said)


def test_another_model_is_refused(world):
    score()
    (world / "model" / classifier.DESCRIPTION).write_text("{ }")
    kept_from({}, "another model")


def test_another_folder_of_as_many_photos_is_refused(world):
    score()
    shutil.copytree("photos", "others", symlinks=True)
    kept_from({"input": "others"}, "input")


def test_a_photo_more_is_refused(world):
    score()
    shutil.copy("photos/a/red.png", "photos/z.png")
    kept_from({}, "photos 15, now 16")


@pytest.mark.parametrize("finished", [True, False])
def test_a_renamed_photo_is_refused(world, monkeypatch, finished):
    if finished:
        score()
    else:
        assert stopped_after(8, monkeypatch)
    Path("photos/a/blue.png").rename("photos/a/azure.png")
    kept_from({}, "holds other photos")


def test_force_begins_anew_and_leaves_nothing_of_before(world):
    score()
    Path("out/_mine.txt").write_text("kept")
    shutil.rmtree("photos/b")
    score(every_class=True, force=True)
    assert "p(blue)" in answers().columns and len(answers()) == 5
    assert ByColour.asked == 16 and Path("out/_mine.txt").exists()


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_of_something_else_is_not_touched(world, force):
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not of flowers score"):
        score(force=force)
    assert Path("out/thesis.txt").read_text() == "mine" and not Path("out/_progress").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input": "nowhere"}, "nowhere: no such folder"),
        ({"input": "model"}, "model: no photos there"),
        ({"master": "local[2]"}, "--engine spark"),
    ],
)
def test_a_mistake_is_a_line_and_makes_no_output(world, change, said):
    with pytest.raises(UserError, match=said):
        score(**change)
    assert not Path("out").exists()


def test_a_walk_holds_few_names_and_goes_by_name_however_large_a_folder_is(tmp_path, monkeypatch):
    names = {f"{number:03d}.jpg" for number in range(100)} | {"Z.PNG", "050/x.tiff", "050/a/b.webp"}
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    whole = list(files.walk(tmp_path))
    assert set(whole) == names and len(whole) == len(names)
    assert whole == sorted(whole, key=lambda path: path.split("/"))
    monkeypatch.setattr(files, "_HELD", 7)
    assert list(files.walk(tmp_path)) == whole


def test_a_walk_follows_links_but_not_in_circles(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "rose.jpg").touch()
    (tmp_path / "in" / "twice").symlink_to("deep")
    (tmp_path / "in" / "deep" / "up").symlink_to("..")
    assert list(files.walk(tmp_path / "in")) == ["deep/rose.jpg", "twice/rose.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text are Linux's")
def test_a_name_that_is_no_text_is_scored_and_written_out(world):
    Path("photos/a/red.png").rename(os.fsdecode(b"photos/a/r\xe9d.png"))
    score()
    assert "a/r\\xe9d.png" in set(answers()["path"])


# Each photo takes a while, so that there is time to kill it between two shards.
SLOWLY = """
import sys, time
from flowers.serving.scoring import local, run
from flowers.serving import models
sys.path.insert(0, sys.argv[1])
from test_scoring_local import ByColour

class Slow(ByColour):
    def probabilities(self, images):
        time.sleep(float(sys.argv[2]))
        return super().probabilities(images)

models.load, local.SHARD = lambda folder: Slow(), 4
run.score(None, run.Request("photos", "out", model="model"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_process_that_is_killed_is_followed_by_one_that_ends_its_work(world):
    def start(pause: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", SLOWLY, str(Path(__file__).parent), pause])

    running = start("0.5")
    try:
        deadline = time.monotonic() + 60
        while not Path("out/_progress/00000.json").exists():
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait(30)
        first = Path("out/_progress/00000.json").stat().st_mtime_ns
        assert not Path("out/_SUCCESS").exists()
        running = start("0")
        assert running.wait(60) == 0
    finally:
        running.kill()
    assert Path("out/_progress/00000.json").stat().st_mtime_ns == first and Path("out/_SUCCESS").exists()
    assert list(answers()["path"]) == sorted(files.walk(Path("photos")))


def test_the_command_scores_with_the_options_it_is_given(world, monkeypatch, capsys):
    monkeypatch.setattr("flowers.config.params.load", lambda: Params.model_construct())
    arguments = ["--input", "photos", "--output", "out", "--model", "model", "--threshold", "0.2", "--every-class"]
    monkeypatch.setattr(sys, "argv", ["flowers", "score", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert "15 photos, 0 unsure, 3 unreadable" in capsys.readouterr().err
    assert "p(NA)" in answers().columns


def test_answers_among_the_photos_are_refused(world):
    with pytest.raises(UserError, match="outside of photos"):
        score(output="photos/answers")
    assert not (world / "photos" / "answers").exists()


def test_a_link_to_itself_ends_nothing(world):
    (world / "photos" / "loop").symlink_to("loop")
    score()
    assert len(answers()) == 15


def test_what_spark_would_pass_over_is_counted():
    assert files.unseen_by_spark(["a.jpg", "_b.jpg", "c_d/e_.jpg", "c/_d/e.jpg", "_c/_d.jpg"]) == 3
