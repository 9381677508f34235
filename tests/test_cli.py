"""The command line: its commands, and errors as a line and an exit status without a stack trace."""

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
    *("check", "tune", "seeds", "compare", "leaderboard", "report"),
    *("promote", "reproduce", "verify", "scores", "ui", "recipe"),
    *("predict", "serve", "score", "export"),
    *("cache", "project"),
)
RECIPE = ("list", "show", "use")
HEAVY = ("tensorflow", "keras", "mlflow", "pandas", "sklearn", "matplotlib", "dvc", "optuna", "scipy")


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch) -> Path:
    """A checkout with nothing but the shipped params.yaml."""
    (tmp_path / "params.yaml").write_bytes(SHIPPED.read_bytes())
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


class Done:
    """Exit status and output of a command."""

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


def change(old: str, new: str) -> None:
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


def test_each_command_on_recipes_has_help(flowers):
    for name in RECIPE:
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
        ["bogus"],
        ["train", "--bogus"],
        ["train", "extra"],
        ["ui", "--port", "0"],
        ["predict"],
        ["predict", "-", "-"],
        ["predict", "rose.jpg", "--threshold", "1.5"],
        ["predict", "rose.jpg", "--format", "xml"],
        ["cache", "--clear", "everything"],
        ["recipe", "use"],
    ],
)
def test_wrong_arguments_are_status_2_with_the_usage(flowers, checkout, arguments):
    done = flowers(*arguments)
    assert done.status == 2
    assert "Usage: " in done.err
    assert [path.name for path in checkout.iterdir()] == ["params.yaml"]


def test_every_stage_reports_an_error_in_the_parameters(flowers):
    change("dropout: 0.2", "dropout: 1.0")
    for stage in STAGES:
        assert error_line(flowers(stage)) == "params.yaml: head.dropout: Input should be less than 1, not 1.0"


def test_an_error_shows_its_stack_trace_only_with_debug():
    change("learning_rate: 0.0005", "learning_rate: -1")
    plain, debug = process("split"), process("--debug", "split")
    assert error_line(plain).startswith("params.yaml: train.learning_rate: ")
    assert debug.status == 1
    assert debug.err.startswith("Traceback (most recent call last):")
    assert "params.yaml: train.learning_rate: " in debug.err


def test_every_stage_reports_the_wrong_folder(flowers, checkout):
    Path("params.yaml").unlink()
    for stage in STAGES:
        assert error_line(flowers(stage)) == "params.yaml: no such file; run this from the root of the checkout"
    assert list(checkout.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["split"], "build/images.csv"),
        (["evaluate"], "build/model/model.json"),
        (["check"], "build/split.csv"),
        (["scores"], "build/evaluation/metrics.json"),
        (["export", "keras"], "build/model/model.json"),
        (["predict", "rose.jpg"], "build/model/model.json"),
    ],
)
def test_a_missing_output_of_an_earlier_stage_is_named_with_the_command_that_makes_it(flowers, arguments, missing):
    error = error_line(flowers(*arguments))
    assert error.startswith(f"{missing}: no such file")
    assert "dvc repro" in error


def test_training_before_the_other_stages_says_what_to_run(flowers):
    done = flowers("train")
    assert done.status == 1
    assert "error: build/images.csv: no such file; `dvc repro` makes it" in done.err.splitlines()
    assert "Traceback" not in done.err


def test_an_unknown_data_set_is_an_error_that_lists_the_known_ones(flowers):
    change("name: local  ", "name: tulips ")
    error = error_line(flowers("download"))
    assert "dataset.name" in error and "tulips" in error and "oxford_flowers102" in error


def test_a_file_in_place_of_a_folder_is_a_line(flowers):
    Path("build").write_text("in the way")
    assert error_line(flowers("scores")).startswith("build/evaluation/metrics.json: Not a directory")


def test_a_file_in_place_of_a_folder_shows_its_stack_trace_with_debug():
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full of Linux")
def test_a_full_disk_is_a_line(flowers):
    image_list = Path("build/images.csv")
    image_list.parent.mkdir()
    names = [
        (f"{label}/{number}.jpg", label, f"{label}{number}") for label in ("rose", "tulip") for number in range(20)
    ]
    hashes = "00" * 8  # of images of one colour, which are ignored
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
    # A shell lets its background processes ignore the signal, and their children inherit that.
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
    # A fresh clone has only the files in git.
    assert error_line(flowers("scores")) == "build/evaluation/intervals.json: no such file; run `dvc repro`"
    Path("build/evaluation/intervals.json").write_text(json.dumps({"accuracy": [0.85, 0.955]}))
    Path("build/evaluation/labels.csv").write_text("path,label,predicted\n" + "a.jpg,rose,rose\n" * 100)
    done = flowers("scores")
    assert (done.status, done.err) == (0, "")
    assert "Only" not in done.out
    accuracy = next(line for line in done.out.splitlines() if " accuracy" in line)
    assert "91.2 %" in accuracy and "85.0 % – 95.5 %" in accuracy
    assert "0.250" in next(line for line in done.out.splitlines() if "log-loss" in line)
    Path("build/evaluation/labels.csv").write_text("path,label,predicted\n" + "a.jpg,rose,rose\n" * 99)
    assert flowers("scores").out.splitlines()[-1] == (
        "Only 99 test images: a difference of accuracy below about 11 points is likely missed (McNemar's test at 5 %, "
        "power 80 %)."
    )


def test_cache_shows_its_size_and_clears_it(flowers, checkout, monkeypatch):
    archives = checkout / "cache" / "archives"
    monkeypatch.setenv("FLOWERS_CACHE", str(archives.parent))
    archives.mkdir(parents=True)
    (archives / "photos.zip").write_bytes(bytes(1500))
    done = flowers("cache")
    assert (done.status, done.err) == (0, "")
    assert next(line for line in done.out.splitlines() if str(archives) in line).split()[:2] == ["1.5", "kB"]
    assert flowers("cache", "--clear", "weights").out == "weights: 0 bytes freed\n"
    assert flowers("cache", "--clear", "archives").out == "archives: 1,500 bytes freed\n"
    assert not (archives / "photos.zip").exists()


def test_an_unknown_format_lists_the_known_ones(flowers, checkout):
    done = flowers("export", "pickle", "model")
    assert done.status == 2 and "saved_model" in done.err and "litert-float16" in done.err
    assert not (checkout / "model").exists()


def test_the_ui_of_a_tracking_server_is_named_instead_of_served(flowers, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org")
    done = flowers("ui")
    assert done.status == 0
    assert "https://mlflow.example.org" in done.err and "secret" not in done.err


def test_project_reports_an_unknown_entry_point_and_an_unknown_value(flowers):
    assert error_line(flowers("project", "tuna")).startswith("no entry point 'tuna'")
    assert error_line(flowers("project", "main", "head_dropout")).startswith("'head_dropout' is not section_key=value")


def test_project_returns_the_exit_status_of_dvc(flowers, monkeypatch):
    calls = []

    def run(stage, values):
        calls.append((stage, values))
        return 7

    monkeypatch.setattr("flowers.runs.mlproject.run", run)
    assert flowers("project", "train", "head_dropout=0.3", "train_seed=").status == 7
    assert calls == [("train", ["head_dropout=0.3", "train_seed="])]


def test_messages_are_printed_without_markup_and_line_breaks(monkeypatch):
    """Brackets in a file name are no markup, and a line is not broken at the width of the terminal."""
    from flowers.common import console

    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    message = "data/[red]rose[/red]/:smile: " + "a long name " * 30 + ".jpg"
    console.fail(message)
    console.warn(message)
    console.say(message)
    assert shown.getvalue().splitlines() == [f"error: {message}", f"warning: {message}", message]
