"""The command line: what it offers, and that a mistake is a line and an exit status, never a stack trace."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowers import cli

SHIPPED = Path(__file__).parents[1] / "params.yaml"
STAGES = ("download", "split", "train", "evaluate", "track")
TASKS = (
    *("check", "tune", "compare", "report", "promote", "reproduce", "scores", "ui", "recipe"),
    *("predict", "serve", "score", "export"),
    *("cache", "project"),
)
RECIPE = ("list", "show", "use")
HEAVY = ("tensorflow", "keras", "mlflow", "pandas", "sklearn", "matplotlib", "dvc", "optuna", "scipy")


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch) -> Path:
    """An empty checkout: the shipped params.yaml alone."""
    (tmp_path / "params.yaml").write_bytes(SHIPPED.read_bytes())
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


class Done:
    """How a command ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def flowers(monkeypatch, capsys):
    """Run `flowers ...` in this process."""

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["flowers", *arguments])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return Done(status, *capsys.readouterr())

    return run


def process(*arguments: str) -> Done:
    """Run `flowers ...` in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "flowers", *arguments], capture_output=True, text=True, timeout=60)
    return Done(done.returncode, done.stdout, done.stderr)


def spoil(old: str, new: str) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    Path("params.yaml").write_text(text.replace(old, new), encoding="utf-8")


def error_line(done: Done) -> str:
    """The one line of an error."""
    assert done.status == 1
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_help_lists_every_stage_and_task(flowers):
    done = flowers("--help")
    assert done.status == 0
    listed = [line.strip("│ ").split()[0] for line in done.out.splitlines() if line.startswith("│ ")]
    assert [name for name in listed if not name.startswith("--")] == [*STAGES, *TASKS]
    assert "--debug" in listed


@pytest.mark.parametrize("name", [*STAGES, *TASKS])
def test_each_command_has_help(flowers, name):
    done = flowers(name, "--help")
    assert done.status == 0
    assert re.search(rf"Usage: .* {name}\b", done.out)


@pytest.mark.parametrize("name", RECIPE)
def test_each_command_on_recipes_has_help(flowers, name):
    assert re.search(rf"Usage: .* recipe {name}\b", flowers("recipe", name, "--help").out)
    assert re.search(rf"^│ {name} ", flowers("recipe", "--help").out, re.MULTILINE)


def test_without_a_command_help_is_shown(flowers):
    done = flowers()
    assert done.status == 2
    assert "dvc repro" in done.out + done.err


def test_help_imports_nothing_that_takes_seconds():
    code = f"""if True:
        import sys, flowers.cli
        sys.argv = ["flowers", "--help"]
        try:
            flowers.cli.main()
        except SystemExit as end:
            assert not end.code
        print("imported:", *[name for name in {HEAVY} if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "promote" in done.stdout
    assert done.stdout.splitlines()[-1] == "imported:"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bogus"],
        ["bogus"],
        ["train", "--bogus"],
        ["train", "extra"],
        ["ui", "--port", "0"],
        ["ui", "--port", "http"],
        ["export"],
        ["serve", "--port", "0"],
        ["predict"],
        ["predict", "-", "-"],
        ["predict", "rose.jpg", "--threshold", "1.5"],
        ["predict", "rose.jpg", "--format", "xml"],
        ["cache", "--clear", "everything"],
        ["project"],
        ["recipe", "bogus"],
        ["recipe", "list", "extra"],
        ["recipe", "show"],
        ["recipe", "use"],
    ],
)
def test_a_wrong_use_is_status_2_and_says_how_to_use_it(flowers, checkout, arguments):
    done = flowers(*arguments)
    assert done.status == 2
    assert "Usage: " in done.err
    assert [path.name for path in checkout.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_tells_a_mistake_in_the_parameters(flowers, stage):
    spoil("dropout: 0.2", "dropout: 1.0")
    assert error_line(flowers(stage)) == "params.yaml: head.dropout: Input should be less than 1, not 1.0"


def test_a_mistake_has_no_stack_trace_and_debug_shows_it():
    spoil("learning_rate: 0.001", "learning_rate: -1")
    plain, debug = process("split"), process("--debug", "split")
    assert error_line(plain).startswith("params.yaml: train.learning_rate: ")
    assert debug.status == 1
    assert debug.err.startswith("Traceback (most recent call last):")
    assert "params.yaml: train.learning_rate: " in debug.err


def test_every_stage_tells_that_it_is_in_the_wrong_folder(flowers, checkout):
    Path("params.yaml").unlink()
    for stage in STAGES:
        assert error_line(flowers(stage)) == "params.yaml: no such file; run this from the root of the checkout"
    assert list(checkout.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["split"], "build/images.csv"),
        (["evaluate"], "build/model/model.json"),
        (["track"], "build/images.csv"),
        (["check"], "build/split.csv"),
        (["scores"], "build/evaluation/metrics.json"),
        (["export", "model.keras"], "build/model/model.json"),
        (["predict", "rose.jpg"], "build/model/model.json"),
    ],
)
def test_what_an_earlier_stage_has_not_made_is_named_with_what_makes_it(flowers, arguments, missing):
    said = error_line(flowers(*arguments))
    assert said.startswith(f"{missing}: no such file")
    assert "dvc repro" in said


def test_training_before_the_other_stages_says_what_to_run(flowers):
    done = flowers("train")
    assert done.status == 1
    assert "error: build/images.csv: no such file; `dvc repro` makes it" in done.err.splitlines()
    assert "Traceback" not in done.err


def test_an_unknown_data_set_is_told_with_the_known_ones(flowers):
    spoil("name: local  ", "name: tulips ")
    said = error_line(flowers("download"))
    assert "dataset.name" in said and "tulips" in said and "oxford_flowers102" in said


def test_a_file_in_a_folders_place_is_a_line(flowers):
    Path("build").write_text("in the way")
    assert error_line(flowers("scores")).startswith("build/evaluation/metrics.json: Not a directory")


def test_a_file_in_a_folders_place_shows_its_stack_trace_with_debug():
    Path("build").write_text("in the way")
    done = process("--debug", "scores")
    assert done.status == 1
    assert "Traceback" in done.err and "NotADirectoryError" in done.err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_line(flowers, checkout):
    checkout.chmod(0o500)
    try:
        assert error_line(flowers("download"))
    finally:
        checkout.chmod(0o700)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's")
def test_a_full_disk_is_a_line(flowers):
    image_list = Path("build/images.csv")
    image_list.parent.mkdir()
    names = [
        (f"{label}/{number}.jpg", label, f"{label}{number}") for label in ("rose", "tulip") for number in range(20)
    ]
    hashes = "00" * 8  # which say nothing
    rows = [f"{path},{label},{digest},{digest},{hashes},{hashes},9,9,\n" for path, label, digest in names]
    image_list.write_text("path,label,sha256,pixels,phash,mirrored_phash,width,height,subset\n" + "".join(rows))
    Path("build/split.csv").symlink_to("/dev/full")
    assert "No space left on device" in error_line(flowers("split"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_an_interrupt_is_status_130_without_a_stack_trace():
    code = """if True:
        import sys, time
        from flowers import cli
        from flowers.runs import scores
        scores.print_scores = lambda: (print("begun", flush=True), time.sleep(60))
        sys.argv = ["flowers", "scores"]
        cli.main()
    """
    command = [sys.executable, "-c", code]
    # A shell that runs something in the background has it ignore the signal, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        assert running.stdout is not None and running.stdout.readline() == "begun\n"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 130
    assert "Traceback" not in out + err


def test_scores_prints_a_table_to_standard_output(flowers):
    Path("build/evaluation").mkdir(parents=True)
    Path("build/evaluation/metrics.json").write_text(json.dumps({"accuracy": 0.9125, "log_loss": 0.25}))
    Path("build/evaluation/intervals.json").write_text(json.dumps({"accuracy": [0.85, 0.955]}))
    done = flowers("scores")
    assert (done.status, done.err) == (0, "")
    accuracy = next(line for line in done.out.splitlines() if " accuracy" in line)
    assert "91.2 %" in accuracy and "85.0 % – 95.5 %" in accuracy
    assert "0.250" in next(line for line in done.out.splitlines() if "log-loss" in line)


def test_cache_shows_what_there_is_and_clears_it(flowers, checkout, monkeypatch):
    monkeypatch.setenv("FLOWERS_CACHE", str(checkout / "cache"))
    assert flowers("cache").out == f"{checkout / 'cache'} holds nothing\n"
    (checkout / "cache" / "archives").mkdir(parents=True)
    (checkout / "cache" / "archives" / "photos.zip").write_bytes(bytes(1500))
    done = flowers("cache")
    assert (done.status, done.err) == (0, "")
    assert "1.5 kB" in next(line for line in done.out.splitlines() if "photos.zip" in line)
    assert flowers("cache", "--clear", "weights").out == "weights: 0 bytes freed\n"
    assert flowers("cache", "--clear", "archives").out == "archives: 1,500 bytes freed\n"
    assert flowers("cache").out == f"{checkout / 'cache'} holds nothing\n"


@pytest.mark.parametrize("name", ["model.h5", "model", "keras"])
def test_export_to_another_kind_of_file_is_refused(flowers, checkout, name):
    assert error_line(flowers("export", name)) == f"{name}: the name of an exported model ends in .keras"
    assert not (checkout / name).exists()


def test_a_server_of_its_own_is_named_instead_of_served(flowers, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org")
    done = flowers("ui")
    assert done.status == 0
    assert "https://mlflow.example.org" in done.err and "secret" not in done.err


def test_project_refuses_what_mlproject_does_not_know(flowers):
    assert error_line(flowers("project", "tuna")).startswith("no entry point 'tuna'")
    assert error_line(flowers("project", "main", "head_dropout")).startswith("'head_dropout' is not section_key=value")


def test_the_exit_status_of_dvc_is_that_of_project(flowers, monkeypatch):
    asked = []

    def run(stage, values):
        asked.append((stage, values))
        return 7

    monkeypatch.setattr("flowers.runs.mlproject.run", run)
    assert flowers("project", "train", "head_dropout=0.3", "train_seed=").status == 7
    assert asked == [("train", ["head_dropout=0.3", "train_seed="])]


def test_messages_are_shown_as_they_are_however_long(monkeypatch):
    """Brackets in a file's name are no markup, and a line is not broken where a terminal ends."""
    from flowers.common import console

    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    message = "data/[red]rose[/red]/:smile: " + "a long name " * 30 + ".jpg"
    console.fail(message)
    console.warn(message)
    console.say(message)
    assert shown.getvalue().splitlines() == [f"error: {message}", f"warning: {message}", message]
