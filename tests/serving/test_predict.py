"""`flowers predict`: its inputs, its output in every format, and its exit status."""

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from stand_in import StandIn

from flowers import cli
from flowers.common.errors import UserError
from flowers.model.predicted import Predicted, predicted
from flowers.serving import explain, models

SHIPPED = Path(__file__).parents[2] / "params.yaml"
HEADER = [
    *("path", "label", "probability", "unsure", "known", "novelty", "nearest_1", "nearest_2", "nearest_3"),
    *("label_2", "probability_2", "label_3", "probability_3", "error"),
]
CANNOT_TELL = [""] * 5


class ByColour(StandIn):
    """A stand-in model: the share of red, green and blue in an image."""

    classes = ("rose", "café au lait", "NA")
    threshold = 0.5
    size = 224

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8 and images.shape[1:] == (224, 224, 3)
        sums = images.sum(axis=(1, 2)).astype(np.float32)
        return sums / sums.sum(axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def loaded(tmp_path, monkeypatch) -> list[Path]:
    """An empty checkout without a store, with the stand-in model; the folders that a model was loaded from."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    shutil.copy(SHIPPED, checkout / "params.yaml")
    monkeypatch.chdir(checkout)
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    folders = []
    monkeypatch.setattr(models, "load", lambda folder: folders.append(folder) or ByColour())
    return folders


@pytest.fixture
def predict(monkeypatch, capsysbinary):
    """Run `flowers predict ...` in this process."""

    def run(*arguments: str | Path) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["flowers", "predict", *map(str, arguments)])
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsysbinary.readouterr()
        return SimpleNamespace(
            status=int(end.value.code or 0), out=out.decode(errors="replace"), err=err.decode(), bytes=out
        )

    return run


def image(path: str | Path, colour: str = "#ff0000") -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path, "PNG")
    return path


def rows(done: SimpleNamespace) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(done.out)))


def test_in_a_pipe_the_output_is_csv_with_a_row_per_image(predict, loaded):
    image("a.png", "#cc3300"), image("b.png", "#2020c0")
    done = predict("a.png", "b.png")
    header, first, second = csv.reader(io.StringIO(done.out))
    assert header == HEADER
    assert first == ["a.png", "rose", "0.8", "false", *CANNOT_TELL, "café au lait", "0.2", "NA", "0", ""]
    assert second == ["b.png", "NA", "0.75", "false", *CANNOT_TELL, "rose", "0.125", "café au lait", "0.125", ""]
    assert (done.status, done.err) == (0, "Model: build/model\n")
    assert loaded == [Path("build/model")]


def test_every_class_adds_a_column_per_class_in_the_models_order(predict):
    image("b.png", "#2020c0")
    done = predict("b.png", "--every-class")
    assert list(rows(done)[0])[-4:] == ["p(rose)", "p(café au lait)", "p(NA)", "error"]
    assert list(rows(done)[0].values())[-4:] == ["0.125", "0.125", "0.75", ""]


def test_json_lines_have_the_same_values_and_null_for_an_unreadable_image(predict):
    image("a.png", "#cc3300")
    done = predict("a.png", "lost.png", "--format", "jsonl", "--every-class")
    good, bad = map(json.loads, done.out.splitlines())
    assert good == {
        "path": "a.png",
        "label": "rose",
        "probability": 0.8,
        "unsure": False,
        "known": None,
        "novelty": None,
        "nearest": [],
        "best": [
            {"label": "rose", "probability": 0.8},
            {"label": "café au lait", "probability": 0.2},
            {"label": "NA", "probability": 0.0},
        ],
        "probabilities": {"rose": 0.8, "café au lait": 0.2, "NA": 0.0},
        "error": None,
    }
    assert bad == dict.fromkeys(good) | {"path": "lost.png", "error": "cannot be read: No such file or directory"}
    assert '"café au lait"' in done.out
    assert "probabilities" not in json.loads(predict("a.png", "--format", "jsonl").out)


class Telling(ByColour):
    """Finds images unknown that are more green than red and blue, and most like the second class."""

    def predict(self, images: np.ndarray) -> Predicted:
        means = images.mean(axis=(1, 2))
        ratios = np.stack([0 * means[:, 0], 60 - means[:, 1], 0 * means[:, 0] - 1], axis=1).astype(np.float32)
        return predicted(self.probabilities(images), np.minimum(ratios, ratios[:, 1:2] + [0, 0, -2]), -20.0)


def test_an_unknown_image_has_its_novelty_and_the_nearest_classes(predict, monkeypatch):
    image("known.png", "#cc3300"), image("unknown.png", "#20e020")
    monkeypatch.setattr(models, "load", lambda folder: Telling())
    first, second = rows(predict("known.png", "unknown.png"))
    assert (first["known"], second["known"]) == ("true", "false")
    assert float(first["novelty"]) < 0 < float(second["novelty"])
    assert [second[f"nearest_{rank}"] for rank in (1, 2, 3)] == ["rose", "café au lait", "NA"]
    found = json.loads(predict("unknown.png", "--format", "jsonl").out)
    assert found["known"] is False and found["nearest"] == ["rose", "café au lait", "NA"] and found["novelty"] > 0
    shown = predict("unknown.png", "--format", "table").out
    assert "unknown" in shown and "like rose" in shown and "%" not in shown.splitlines()[-1]


def test_unreadable_images_are_rows_with_an_error_and_are_counted(predict):
    image("a.png"), image("z.png")
    Path("bad.png").write_bytes(b"not an image")
    Path("cut.png").write_bytes(Path("a.png").read_bytes()[:60])
    done = predict("a.png", "lost.png", "bad.png", "cut.png", "z.png", "--every-class")
    assert [row["label"] for row in rows(done)] == ["rose", "", "", "", "rose"]
    assert [row["error"][:18] for row in rows(done)] == [
        "",
        "cannot be read: No",
        "not an image of a ",
        "truncated",
        "",
    ]
    assert len({len(line) for line in csv.reader(io.StringIO(done.out))}) == 1
    assert done.status == 1
    assert done.err.splitlines()[1:] == ["warning: 3 of 5 could not be read"]


def test_folders_are_walked_in_sorted_order_without_hidden_and_other_files(predict):
    wanted = ["shots/a.png", "shots/b/1.JPG", "shots/b/c/0.tiff", "shots/b/c/1.webp", "shots/c.jpeg"]
    for name in [
        *wanted,
        "shots/.hidden.png",
        "shots/.cache/x.png",
        "shots/b/notes.txt",
        "shots/movie.mp4",
        "named.dat",
    ]:
        image(name)
    done = predict("named.dat", "shots")
    assert [row["path"] for row in rows(done)] == ["named.dat", *wanted]
    assert (done.status, done.err.splitlines()[1:]) == (
        0,
        ["2 files were skipped: the name has no image suffix (.txt, .mp4)"],
    )


def test_links_are_followed_but_not_in_a_loop(predict):
    image("elsewhere/1.png")
    Path("shots/deep").mkdir(parents=True)
    Path("shots/deep/back").symlink_to(Path("shots").resolve())
    Path("shots/linked").symlink_to(Path("elsewhere").resolve())
    Path("shots/itself").symlink_to("itself")
    done = predict("shots")
    assert [row["path"] for row in rows(done)] == ["shots/linked/1.png"]
    assert done.status == 0


def test_a_folder_without_an_image_is_a_row_with_an_error(predict):
    Path("empty/inner").mkdir(parents=True)
    image("a.png")
    done = predict("empty", "a.png")
    assert [(row["path"], row["error"]) for row in rows(done)] == [("empty", "no image in this folder"), ("a.png", "")]
    assert done.status == 1


def test_a_folder_that_cannot_be_listed_is_a_row_with_an_error(predict, monkeypatch):
    image("shots/a/1.png"), image("shots/b/1.png")
    listed = os.scandir

    def scandir(folder):  # because root may list everything
        if Path(folder).name == "a":
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    found = [(row["path"], row["error"]) for row in rows(predict("shots"))]
    assert found == [("shots/a", "cannot be read: Permission denied"), ("shots/b/1.png", "")]


def test_one_image_is_read_from_standard_input(predict, monkeypatch):
    content = image("a.png", "#0000ff").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert [(row["path"], row["label"]) for row in rows(predict("-"))] == [("-", "NA")]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert rows(predict("-"))[0]["error"] == "empty file"


def test_standard_input_is_read_in_the_main_thread_which_ctrl_c_interrupts(predict, monkeypatch):
    readers = []
    content = image("a.png", "#0000ff").read_bytes()
    read = SimpleNamespace(read=lambda: readers.append(threading.current_thread()) or content)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=read))
    assert len(rows(predict("-"))) == 1
    assert readers == [threading.main_thread()]


def test_an_empty_name_is_not_the_current_folder(predict):
    image("a.png")
    done = predict("")
    assert (len(rows(done)), done.status) == (1, 1)


def test_below_the_threshold_confidence_is_low(predict):
    image("a.png", "#cc3300")
    assert rows(predict("a.png"))[0]["unsure"] == "false"
    assert rows(predict("a.png", "--threshold", "0.9"))[0]["unsure"] == "true"
    image("grey.png", "#555555")
    assert rows(predict("grey.png"))[0]["unsure"] == "true"
    assert rows(predict("grey.png", "--threshold", "0"))[0]["unsure"] == "false"
    assert "low, 80.0 %" in predict("a.png", "--threshold", "0.9", "--format", "table").out


def test_a_table_is_one_table_for_any_number_of_images(predict):
    names = [f"shots/{number:03}.png" for number in range(70)]
    for name in names:
        image(name, "#cc3300")
    Path("shots/040.png").write_bytes(b"not an image")
    lines = predict("shots", "--format", "table").out.splitlines()
    assert [line.split()[0] for line in lines] == ["file", lines[1], *names]
    assert lines[0].split() == ["file", "flower", "probability", "next", "best"]
    good = [line for line in lines[2:] if "040" not in line]
    assert {line[len(names[0]) :].rstrip() for line in good} == {
        "   rose                  80.0 %   café au lait 20.0 %"
    }
    assert lines[42].startswith("shots/040.png   not an image of a known format (JPEG, PNG,")


def test_a_name_in_a_table_has_no_control_characters(predict):
    image("red \x1b[31m\n [bold].png")
    done = predict("red \x1b[31m\n [bold].png", "lost \x1b[31m", "--format", "table")
    assert "\x1b" not in done.out
    assert "red �[31m� [bold].png" in done.out and "lost �[31m" in done.out


def test_a_terminal_without_accents_shows_question_marks(monkeypatch):
    image("a.png", "#00ff00")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "argv", ["flowers", "predict", "a.png", "--format", "table"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code and "caf? au lait" in out.buffer.getvalue().decode("ascii")


class Screen(io.StringIO):
    """A terminal that both streams write to."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """The visible lines in the end: a carriage return starts the line again, and text overwrites it."""
        found = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            found.append(shown.rstrip())
        return found


def test_on_a_terminal_the_output_is_a_table_without_remains_of_the_bar(monkeypatch):
    for number in range(70):
        image(f"shots/{number:03}.png")
    screen = Screen()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, screen)
    monkeypatch.setattr(sys, "argv", ["flowers", "predict", "shots"])
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(SystemExit):
        cli.main()
    assert "/70 [" in screen.getvalue()
    lines = screen.lines()
    assert [line.split()[0] for line in lines if line][3:] == [f"shots/{number:03}.png" for number in range(70)]
    assert not any("%|" in line for line in lines)


def test_rows_are_printed_batch_by_batch(predict, monkeypatch, capsysbinary):
    for number in range(70):
        image(f"shots/{number:03}.png")
    printed = []

    class Watched(ByColour):
        def probabilities(self, images):
            printed.append(capsysbinary.readouterr().out.count(b"\n"))
            return super().probabilities(images)

    monkeypatch.setattr(models, "load", lambda folder: Watched())
    predict("shots")
    assert printed == [1, 32, 32]  # the header, and each batch before the next


def test_names_that_are_not_utf8_are_printed_unchanged(predict):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        image(name)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    assert predict(name).bytes.splitlines()[1].startswith(b"caf\xe9.png,rose,")
    assert json.loads(predict(name, "--format", "jsonl").out)["path"] == name
    assert "caf�.png" in predict(name, "--format", "table").out


def test_names_with_commas_and_line_breaks_stay_one_field(predict):
    image('a, "b"\nc.png')
    assert [row["path"] for row in rows(predict('a, "b"\nc.png'))] == ['a, "b"\nc.png']


@pytest.fixture
def explained(monkeypatch):
    """A stand-in for Grad-CAM: an overlay is the number of its class."""
    monkeypatch.setattr(explain, "check", lambda model: None)
    monkeypatch.setattr(explain, "overlay", lambda model, pixels, number: str(number).encode())


@pytest.mark.usefixtures("explained")
def test_explanations_are_at_the_places_of_their_images(predict):
    image("shots/a.png"), image("shots/x/a.png", "#00ff00"), image("other/a.png", "#0000ff"), image("one/b.JPG")
    Path("shots/bad.png").write_bytes(b"not an image")
    predict("shots", "other", "one/b.JPG", "--explain", "why/here")
    assert {path.relative_to("why/here").as_posix(): path.read_bytes() for path in Path("why").rglob("*.jpg")} == {
        "a.png.jpg": b"0",
        "x/a.png.jpg": b"1",
        "a.png (2).jpg": b"2",
        "b.jpg": b"0",
    }


@pytest.mark.usefixtures("explained")
def test_explanations_replace_no_other_files(predict, loaded):
    image("a.png")
    Path("why").mkdir()
    assert predict("a.png", "--explain", "why").status == 0
    Path("file").write_text("mine")
    for folder in ("why", "file"):
        done = predict("a.png", "--explain", folder)
        assert done.err.startswith(f"error: {folder} is not an empty folder") and done.status == 1
        assert done.out == ""
    assert len(loaded) == 1  # the error comes before the seconds that loading takes


def test_a_model_without_gradients_is_an_error_before_the_first_image(predict, monkeypatch):
    image("a.png")

    def check(model):
        raise UserError("cannot be explained")

    monkeypatch.setattr(explain, "check", check)
    done = predict("a.png", "--explain", "why")
    assert (done.status, done.out, done.err) == (1, "", "error: cannot be explained\n")
    assert not Path("why").exists()


PROCESS = """
import os, sys, time
import numpy as np
from types import SimpleNamespace
from flowers import cli
from flowers.model.predicted import predicted
from flowers.serving import models

naps = os.environ["NAPS"].split()

def predict(images):
    if len(images):
        time.sleep(float(naps.pop(0)))
    return predicted(np.full((len(images), 3), 1 / 3, np.float32))

model = SimpleNamespace(classes=["a", "b", "c"], threshold=0.5, size=224, predict=predict)
models.load = lambda folder: model
try:
    cli.main()
finally:
    heavy = {"mlflow", "pandas", "matplotlib", "tensorflow", "sklearn"} & set(sys.modules)
    print("imported:", *heavy, file=sys.stderr)
"""


@contextlib.contextmanager
def process(*arguments: str, naps: str = "") -> Iterator[subprocess.Popen]:
    """`flowers predict` with a model that takes so many seconds for the first batch, the second, ..."""
    command, environment = [sys.executable, "-c", PROCESS, "predict", *arguments], os.environ | {"NAPS": naps}
    environment.pop("PYTHONUNBUFFERED", None)  # it would hide a missing flush
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_closed_pipe_ends_it_silently():
    Path("shots").mkdir()
    for number in range(1000):  # more than a pipe holds
        (Path("shots") / f"{number:0200}.jpg").touch()
    with process("shots", "--model", "shots") as running:
        assert running.stdout.readline().startswith("path,")
        running.stdout.close()
        err = running.stderr.read()
    assert err.splitlines() == ["Model: shots", "imported:"]  # and no heavy library is imported that is not needed


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_an_interrupt_is_status_130_without_a_stack_trace():
    for number in range(33):
        image(f"shots/{number:02}.png")
    with process("shots", naps="0 600") as running:
        while not running.stdout.readline().startswith("shots/31.png"):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        err = running.stderr.read()
        assert running.wait(30) == 130
    assert "Traceback" not in err
