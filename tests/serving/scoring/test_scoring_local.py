"""Scoring on this machine: the output, and that a kill at any moment loses one shard at most."""

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
from stand_in import StandIn

from flowers import cli
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.model import classifier
from flowers.serving import sources
from flowers.serving.scoring import local, places, run, schema

LABELS = pyarrow.dataset.partitioning(pa.schema([("label", pa.string())]), flavor="hive")


class ByColour(StandIn):
    """Stands in for the network: the shares of red, green and blue; `scored` counts the images."""

    classes = ("rosé: 1/2", "NA", "blue")
    threshold = 0.9
    size = 224
    scored = 0

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        ByColour.scored += len(images)
        sums = images.sum(axis=(1, 2)).astype(np.float32) + 1
        return sums / sums.sum(axis=1, keepdims=True)


COLOURS = {"red": "#ff0000", "green": "#00ff00", "blue": "#0000ff", "reddish": "#ff4040"}


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """A current folder with a model's folder, and images: 12 readable ones in three folders, and 3 others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flowers.serving.models.load", lambda folder: ByColour())
    monkeypatch.setattr(ByColour, "scored", 0)
    monkeypatch.setattr(local, "SHARD", 4)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / classifier.DESCRIPTION).write_text("{}")
    for folder in ("a", "b", "b/ü c"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for name, colour in COLOURS.items():
            Image.new("RGB", (40, 30), colour).save(tmp_path / "photos" / folder / f"{name}.png")
    (tmp_path / "photos" / "b" / "broken.JPG").write_bytes(b"no image")
    (tmp_path / "photos" / "b" / "empty.jpeg").write_bytes(b"")
    (tmp_path / "photos" / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "photos" / "notes.txt").write_text("neither an image nor named like one")
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"")
    return tmp_path


def score(**options) -> None:
    run.score(None, run.Request(**{"input": "photos", "output": "out", "model": "model"} | options))


def table(folder: str = "out") -> pd.DataFrame:
    return pyarrow.parquet.read_table(folder, partitioning=LABELS).to_pandas().sort_values("path", ignore_index=True)


def content(folder: str = "out") -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_every_image_is_a_row_in_the_folder_of_its_label(world, capsys):
    score()
    found = table()
    assert list(found["path"]) == sorted(sources.walk(Path("photos"))) and len(found) == 15
    assert list(found.columns) == [
        *("path", "probability", "unsure", "known", "novelty", "nearest", "best", "error", "label")
    ]
    red = found.set_index("path").loc["b/ü c/reddish.png"]
    assert red["label"] == "rosé: 1/2" and 0.5 < red["probability"] < 0.9 and red["unsure"]
    assert [entry["label"] for entry in red["best"]] == ["rosé: 1/2", "NA", "blue"]
    assert red["best"][0]["probability"] == red["probability"] and pd.isna(red["error"])
    assert "15 images, 0 unknown, 3 low confidence, 3 unreadable" in capsys.readouterr().err
    assert {path.name for path in Path("out").iterdir() if path.name.startswith("label=")} == {
        "label=rosé%3A 1%2F2",
        "label=NA",
        "label=blue",
        "label=__HIVE_DEFAULT_PARTITION__",
    }


def test_an_unreadable_image_is_a_row_with_its_reason_and_nothing_else(world):
    score(every_class=True)
    bad = table().set_index("path").loc[["b/broken.JPG", "b/empty.jpeg", "gone.jpg"]]
    assert bad.drop(columns="error").isna().all(axis=None)
    assert bad["error"].str.startswith(("not an image", "empty file", "cannot be read")).all()


def test_types_are_those_of_spark_and_each_class_has_its_column(world):
    score(every_class=True, threshold=0.5)
    found = pyarrow.parquet.read_schema(next(Path("out/label=NA").iterdir())).remove_metadata()
    best = pa.list_(pa.field("element", pa.struct([("label", pa.string()), ("probability", pa.float64())])))
    assert found == pa.schema(
        [
            ("path", pa.string()),
            ("probability", pa.float64()),
            ("unsure", pa.bool_()),
            ("known", pa.bool_()),
            ("novelty", pa.float64()),
            ("nearest", pa.list_(pa.string())),
            ("best", best),
            ("error", pa.string()),
            *((f"p({name})", pa.float64()) for name in ByColour.classes),
        ]
    )
    rows = table().dropna(subset="label")
    assert not rows["unsure"].any()
    assert np.allclose(rows[[f"p({name})" for name in ByColour.classes]].sum(axis=1), 1)


@pytest.mark.parametrize("label", ["a=b 50%", "x/[y]", "it's é"])
def test_arrow_reads_a_label_back_from_its_folder(tmp_path, label):
    folder = tmp_path / schema.partition(label)
    folder.mkdir()
    pyarrow.parquet.write_table(pa.table({"path": ["x"]}), folder / "part.parquet")
    assert pyarrow.parquet.read_table(tmp_path, partitioning=LABELS)["label"].to_pylist() == [label]


def test_a_finished_output_is_left_as_it_is(world, capsys):
    score()
    before, scored = content(), ByColour.scored
    capsys.readouterr()
    score()
    assert content() == before and ByColour.scored == scored == 12
    assert "complete already: 15 images, 0 unknown, 3 low confidence, 3 unreadable" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["label=NA/part-00001.parquet", "_progress/00001.json"])
def test_a_damaged_shard_is_scored_again(world, capsys, file):
    score()
    before = content()
    damaged = bytearray((world / "out" / file).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (world / "out" / file).write_bytes(damaged)
    score()
    assert content() == before and ByColour.scored == 12 + 2  # and two unreadable ones
    assert "shard 00001 is damaged; scoring its images again" in capsys.readouterr().err


class Killed(BaseException):
    """Stands in for a kill: nothing in the code catches it."""


def stopped_after(writes: int, monkeypatch) -> bool:
    """Score until that many files have been renamed; whether it was stopped."""
    move, left = places._move, [writes]

    def counted(temporary, file):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        move(temporary, file)

    with monkeypatch.context() as patch:
        patch.setattr(places, "_move", counted)
        try:
            score()
        except Killed:
            return True
    return False


def test_a_run_killed_before_any_write_continues_to_the_same_output(world, monkeypatch):
    score(output="whole")
    whole = {path.removeprefix("whole/"): data for path, data in content("whole").items()}
    writes = 0
    while stopped_after(writes, monkeypatch):
        complete = [json.loads(path.read_text()) for path in Path("out/_progress").glob("0*.json")]
        assert not Path("out/_SUCCESS").exists()
        ByColour.scored = 0
        score()
        missing = 15 - sum(marker["photos"] for marker in complete)
        assert ByColour.scored == missing - (3 - sum(marker["unreadable"] for marker in complete))
        assert {path.removeprefix("out/"): data for path, data in content().items()} == whole
        shutil.rmtree("out")
        writes += 1
    assert writes == len(whole) - 1  # each file but the lock was the next one once


def test_files_of_an_incomplete_shard_are_removed(world, monkeypatch):
    assert stopped_after(3, monkeypatch)
    stale = Path("out/label=another/part-00000.parquet")
    stale.parent.mkdir()
    pyarrow.parquet.write_table(pa.table({"path": ["from a run with other predictions"]}), stale)
    score()
    assert not table()["path"].str.startswith("from").any() and table()["path"].is_unique


def assert_left_alone(message: str, **options) -> None:
    before = content()
    with pytest.raises(UserError, match=message) as caught:
        score(**options)
    assert "--force" in str(caught.value) and "\n" not in str(caught.value)
    assert content() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_class": True, "threshold": 0.25}, "every-class false, now true, threshold unset, now 0.25"),
        ({"input": "others"}, "input /.*/photos, now /.*/others"),
    ],
)
def test_an_output_is_not_continued_with_other_options(world, options, message):
    score()
    shutil.copytree("photos", "others", symlinks=True)
    assert_left_alone(message, **options)


def test_a_damaged_record_of_the_inputs_is_one_line(world):
    score()
    (world / "out/_progress/job.json").write_bytes(b'{"engine": "loc\xfal"}')
    with pytest.raises(UserError, match=r"out was begun with other inputs .*--force to begin it anew"):
        score()


def test_an_output_is_not_continued_with_another_model_or_another_number_of_images(world):
    score()
    shutil.copy("photos/a/red.png", "photos/z.png")
    (world / "model" / classifier.DESCRIPTION).write_text("{ }")
    assert_left_alone(r"photos 15, now 16, another model\)")


@pytest.mark.parametrize("finished", [True, False])
def test_an_output_is_not_continued_after_an_image_was_renamed(world, monkeypatch, finished):
    if finished:
        score()
    else:
        assert stopped_after(8, monkeypatch)
    Path("photos/a/blue.png").rename("photos/a/azure.png")
    assert_left_alone("photos holds other images than when the output was begun")


def test_force_begins_anew_and_removes_all_earlier_output(world):
    score()
    Path("out/_mine.txt").write_text("kept")
    shutil.rmtree("photos/b")
    score(every_class=True, force=True)
    assert "p(blue)" in table().columns and len(table()) == 5
    assert ByColour.scored == 16 and Path("out/_mine.txt").exists()


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_with_other_files_is_not_touched(world, force):
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not of flowers score"):
        score(force=force)
    assert Path("out/thesis.txt").read_text() == "mine" and not Path("out/_progress").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input": "nowhere"}, "nowhere: no such folder"),
        ({"input": "model"}, "model: no images there"),
        ({"master": "local[2]"}, "--engine spark"),
        ({"output": "photos/predictions"}, "outside of photos"),
    ],
)
def test_a_wrong_option_is_one_line_and_makes_no_output(world, options, message):
    with pytest.raises(UserError, match=message):
        score(**options)
    assert not Path("out").exists() and not Path("photos/predictions").exists()


def test_the_walk_goes_by_name_folder_by_folder_and_follows_links_but_not_in_circles(tmp_path):
    names = {f"{number:03d}.jpg" for number in range(10)} | {"Z.PNG", "005/x.tiff", "005/a/b.webp"}
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "005" / "loop").symlink_to("loop")
    (tmp_path / "005" / "up").symlink_to("..")
    (tmp_path / "twice").symlink_to("005/a")
    found = list(sources.walk(tmp_path))
    assert set(found) == names | {"twice/b.webp"} and len(found) == len(names) + 1
    assert found == sorted(found, key=lambda path: path.split("/"))


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 are Linux's")
def test_a_name_that_is_not_utf_8_is_escaped(world):
    Path("photos/a/red.png").rename(os.fsdecode(b"photos/a/r\xe9d.png"))
    score()
    assert "a/r\\xe9d.png" in set(table()["path"])


# Each batch takes a while, so that there is time to kill it between two shards.
SLOWLY = """
import sys, time
from flowers.serving.scoring import local, run
from flowers.serving import models
sys.path[:0] = sys.argv[2:]
from test_scoring_local import ByColour

class Slow(ByColour):
    def probabilities(self, images):
        time.sleep(float(sys.argv[1]))
        return super().probabilities(images)

models.load, local.SHARD = lambda folder: Slow(), 4
run.score(None, run.Request("photos", "out", model="model"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_second_process_completes_the_work_of_a_killed_one(world):
    def start(pause: str) -> subprocess.Popen:
        folders = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "helpers")]
        return subprocess.Popen([sys.executable, "-c", SLOWLY, pause, *folders])

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
    assert list(table()["path"]) == sorted(sources.walk(Path("photos")))


def test_the_command_passes_its_options_on(world, monkeypatch, capsys):
    monkeypatch.setattr("flowers.config.params.load", lambda: Params.model_construct())
    arguments = ["--input", "photos", "--output", "out", "--model", "model", "--threshold", "0.2", "--every-class"]
    monkeypatch.setattr(sys, "argv", ["flowers", "score", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert "15 images, 0 unknown, 0 low confidence, 3 unreadable" in capsys.readouterr().err
    assert "p(NA)" in table().columns


def test_paths_that_spark_ignores_are_counted():
    assert run.ignored_by_spark(["a.jpg", "_b.jpg", "c_d/e_.jpg", "c/_d/e.jpg", "_c/_d.jpg"]) == 3


@pytest.fixture
def bucket(world):
    """A file system of fsspec that holds the images, and what is scored there."""
    import fsspec

    system = fsspec.filesystem("memory")
    for path in Path("photos").rglob("*"):
        if path.is_file():  # no link to a file that is gone
            system.pipe(f"/{path.as_posix()}", path.read_bytes())
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_a_bucket_gives_the_same_rows_and_is_continued(world, bucket, tmp_path, capsys):
    score()
    for _ in range(2):
        score(input="memory://photos", output="memory://out")
    assert "memory://out is complete already: 14 images" in capsys.readouterr().err
    bucket.get("/out", str(tmp_path / "fetched"), recursive=True)
    here = table().query("path != 'gone.jpg'").reset_index(drop=True)
    assert table(str(tmp_path / "fetched")).equals(here)
    bucket.rm("/out/_progress/00001.json")
    bucket.rm("/out/_SUCCESS")
    ByColour.scored = 0
    score(input="memory://photos", output="memory://out")
    assert 0 < ByColour.scored <= 4
    assert bucket.exists("/out/_SUCCESS")


def test_a_bucket_that_fails_ends_the_run_and_leaves_no_row_of_the_image(world, bucket, monkeypatch):
    read = type(bucket).cat_file

    def refused(self, path, *arguments, **options):
        if path.endswith("ü c/red.png"):
            raise PermissionError("Access Denied")
        return read(self, path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "cat_file", refused)
        with pytest.raises(UserError, match=r"memory://.*photos: Access Denied; the same command continues later"):
            score(input="memory://photos", output="memory://out")
    assert not bucket.exists("/out/_SUCCESS")
    score(input="memory://photos", output="memory://out")
    assert bucket.exists("/out/_SUCCESS")


@pytest.mark.parametrize(
    ("output", "message"), [("memory://photos/out", "lies among the images"), ("nope://x", "nope")]
)
def test_a_place_that_cannot_be_written_to_is_an_error(world, bucket, output, message):
    with pytest.raises(UserError, match=message):
        score(input="memory://photos", output=output)
