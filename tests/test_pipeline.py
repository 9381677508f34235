"""The pipeline from outside: real `dvc` and `git` commands in temporary repositories, and their results."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import pipeline_world
import pytest
from pipeline_world import CLASSES, EVALUATION, PER_CLASS, Repository, ran

STAGES = ["download", "split", "train", "evaluate", "track"]

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


@pytest.fixture(scope="session")
def origin(tmp_path_factory) -> Repository:
    """A committed repository in which nothing has run, to clone from."""
    folder = tmp_path_factory.mktemp("pipeline")
    yield pipeline_world.create(folder / "origin", folder / "cache")
    shutil.rmtree(folder)  # pytest would keep it


@dataclass
class Once:
    """The first run of the pipeline, with an unreachable tracking server: its output, file times and lock."""

    server: str
    output: str
    times: dict[str, int]
    lock: str


@pytest.fixture(scope="session")
def once_and_first(origin, tmp_path_factory) -> tuple[Once, Repository]:
    """A clone in which the pipeline ran once without the server, and again with a local store."""
    folder = tmp_path_factory.mktemp("first")
    clone = origin.clone(folder / "clone", folder / "cache")
    clone.dvc("pull", "data.dvc")
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}"
    output = clone.dvc("repro", MLFLOW_TRACKING_URI=closed)
    once = Once(closed, output, times(clone), clone.read("dvc.lock"))
    shutil.rmtree(clone.folder / "tracking")
    clone.output = clone.dvc("repro")
    yield once, clone
    shutil.rmtree(folder)  # pytest would keep it


@pytest.fixture
def once(once_and_first) -> Once:
    return once_and_first[0]


@pytest.fixture
def first(once_and_first) -> Repository:
    """The clone, for tests that do not change it."""
    return once_and_first[1]


@pytest.fixture
def copy(first, tmp_path) -> Repository:
    """A copy of the clone for a test to change."""
    yield first.copy(tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy")


def times(repository: Repository) -> dict[str, int]:
    """The modification time of each output."""
    return {path: (repository.folder / path).stat().st_mtime_ns for path in repository.outputs()}


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_a_fresh_clone_without_the_data_is_an_error_with_the_remedy(origin, tmp_path):
    clone = origin.clone(tmp_path / "clone", tmp_path / "cache")
    done = clone.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "error: data/ does not exist yet. Type: dvc pull data.dvc" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert clone.outputs() == {}
    pulled = clone.dvc("pull", "data.dvc")
    assert "files added" in pulled and "remote" not in pulled


def test_every_stage_runs_once_without_warnings_of_libraries(once):
    assert ran(once.output) == STAGES
    assert "WARNING" not in once.output


def test_an_unreachable_server_is_a_warning_with_the_remedy_and_all_results_are_made(once):
    assert f"MLFLOW_TRACKING_URI: {once.server} cannot be reached" in once.output
    assert once.output.count("flowers track --force") == 2  # in train and in track
    assert "Traceback" not in once.output
    assert {f"build/evaluation/{name}" for name in EVALUATION} <= once.times.keys()


def test_with_force_an_unreachable_server_is_an_error(first, once):
    done = first.flowers("track", "--force", check=False, MLFLOW_TRACKING_URI=once.server)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: MLFLOW_TRACKING_URI: {once.server} cannot be reached")


def test_a_deleted_store_is_rebuilt_without_training(first, once):
    assert ran(first.output) == ["track"]
    assert times(first) == once.times
    assert first.read("dvc.lock") == once.lock


@pytest.mark.slow
def test_a_deleted_database_is_rebuilt_by_force_and_moves_with_the_repository(copy, tmp_path):
    assert copy.run("mlflow", "runs", "list", "--experiment-id", "0").returncode == 0  # leaves an empty store
    assert copy.status() == {}
    copy.flowers("track", "--force")
    (run,) = copy.runs()
    assert copy.status() == {}
    old, copy.folder = copy.folder, copy.folder.rename(tmp_path / "moved")
    try:
        code = "import mlflow, sys; print(mlflow.pyfunc.load_model(sys.argv[1]).metadata.run_id)"
        (output,) = run.outputs.model_outputs
        assert copy.run(sys.executable, "-c", code, f"models:/{output.model_id}").stdout == f"{run.info.run_id}\n"
        assert copy.status() == {}
        assert not old.exists()
    finally:
        copy.folder = copy.folder.rename(old)


def test_the_outputs_are_complete(first):
    made = set(first.outputs())
    images = {f"build/images/{name}/{number}.png" for name in CLASSES for number in range(PER_CLASS)}
    lists = {f"build/{name}" for name in ("images.csv", "skipped.csv", "split.csv", "split.json", "history.csv")}
    model = {f"build/model/{name}" for name in ("model.json", "trained.npz", "novelty.npz")}
    model |= {f"build/model/examples/{number}.jpg" for number in range(len(CLASSES))} | {"build/weights/resnet50.npz"}
    assert made == images | lists | model | {f"build/evaluation/{name}" for name in EVALUATION}


def test_the_outputs_are_consistent(first):
    listed, split = rows(first.read("build/images.csv")), rows(first.read("build/split.csv"))
    images = {f"{name}/{number}.png" for name in CLASSES for number in range(PER_CLASS)}
    assert {row["path"] for row in listed} == {row["path"] for row in split} == images
    predicted = rows(first.read("build/evaluation/predictions.csv"))
    assert {row["path"] for row in predicted} == {row["path"] for row in split if row["subset"] == "test"} != set()
    right = sum(row["label"] == row["predicted"] for row in predicted) / len(predicted)
    assert first.json("build/evaluation/metrics.json")["accuracy"] == pytest.approx(right, abs=5e-5)
    assert first.json("build/model/model.json")["classes"] == [*CLASSES]
    assert len(rows(first.read("build/history.csv"))) == pipeline_world.QUICK["train.epochs"]


def test_no_output_holds_an_absolute_path_or_a_run_id(first):
    run = first.runs()[0].info.run_id
    words = [str(first.folder), run]
    for path, content in first.outputs().items():
        if not path.endswith((".npz", ".png", ".jpg")):
            assert [word for word in words if word in content.decode()] == [], path
    text = first.read("tracking/published.json") + first.read("dvc.lock")
    assert [word for word in words if word in text] == []


def test_a_second_repro_runs_nothing(first):
    before = times(first)
    output = first.dvc("repro")
    assert ran(output) == []
    assert [f"Stage '{stage}' didn't change, skipping" in output for stage in STAGES] == [True] * len(STAGES)
    assert times(first) == before


def test_afterwards_only_the_lock_and_the_files_for_git_are_new(first):
    assert first.status() == {}
    files = [f"?? build/evaluation/{name}" for name in ("curves.csv", "labels.csv", "metrics.json")]
    found = first.git("status", "--porcelain", "--untracked-files=all").splitlines()
    assert found == [*files, "?? dvc.lock"]


def test_the_store_holds_the_run_with_parameters_curves_and_scores(first):
    (run,) = first.runs()
    assert run.info.status == "FINISHED"
    scores = first.json("build/evaluation/metrics.json")
    assert {name: run.data.metrics[f"test_{name}"] for name in scores} == pytest.approx(scores)
    assert run.data.params["head.units"] == "[8]"
    assert run.data.params["model.weights"] == "random"
    history = rows(first.read("build/history.csv"))
    points = first.client().get_metric_history(run.info.run_id, "val_loss")
    assert [point.value for point in points] == pytest.approx([float(row["val_loss"]) for row in history])
    assert (first.folder / run.info.artifact_uri).is_dir()


def test_a_stage_runs_the_code_of_its_own_checkout(copy):
    copy.replace("src/flowers/stages/split.py", "console.say(", 'console.say("of this checkout: " + ')
    output = copy.dvc("repro", "split")
    assert ran(output) == ["split"]
    assert "of this checkout: " in output


def test_only_what_matters_runs_a_stage_again(copy):
    for idle in ("cli/app", "common/console", "config/params", "tracking/publish", "runs/mlproject"):
        with (copy.folder / f"src/flowers/{idle}.py").open("a") as file:
            file.write("\n# a remark\n")
    assert copy.status() == {}

    copy.set(head__dropout=0.3)
    assert set(copy.status()) == {"train", "track"}
    copy.set(head__dropout=0.2, split__seed=1)
    assert set(copy.status()) == {"split", "track"}
    copy.set(split__seed=0)
    assert copy.status() == {}
    copy.replace("pyproject.toml", 'keras = "3.', 'keras = "2.')
    assert set(copy.status()) == {"download", "train", "evaluate", "track"}


def test_metrics_are_shown(first):
    shown = first.dvc("metrics", "show")
    (line,) = [line for line in shown.splitlines() if "build/evaluation/metrics.json" in line]
    for name in first.json("build/evaluation/metrics.json"):
        assert name in shown
    accuracy = first.json("build/evaluation/metrics.json")["accuracy"]
    assert f"{accuracy:.5g}" in line


def test_plots_show_the_figures_in_a_page(first, tmp_path):
    first.dvc("plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text(encoding="utf-8")
    shown = re.findall(r'<img src="([^"]+\.png)"', page)
    assert len(shown) == 4
    for name in ("curves", "confusion", "per_class", "reliability"):
        (path,) = [path for path in shown if name in path.removesuffix(".png").split("_evaluation_")[-1]]
        figure = (tmp_path / "plots" / path).read_bytes()
        assert figure == first.outputs()[f"build/evaluation/{name}.png"]
    for title in ("Accuracy", "Loss", "Confusion matrix"):
        assert title in page


def test_scores_are_printed(first):
    accuracy = first.json("build/evaluation/metrics.json")["accuracy"]
    done = first.flowers("scores")
    assert f"{accuracy:.1%}".replace("%", " %") in done.stdout


@pytest.mark.slow
def test_from_scratch_the_outputs_are_the_same_bytes(first, origin, tmp_path):
    """Other processes in another folder, without a cache; and with a store, into which the epochs are streamed."""
    again = origin.clone(tmp_path / "another folder", tmp_path / "empty cache")
    again.dvc("pull", "data.dvc")
    assert ran(again.dvc("repro")) == STAGES
    there, here = first.outputs(), again.outputs()
    assert [path for path in there | here if there.get(path) != here.get(path)] == []
    assert again.read("dvc.lock") == first.read("dvc.lock")


def epochs_saved(repository: Repository) -> int:
    """The number of epochs in the checkpoint of a running training."""
    try:
        with (repository.folder / "build/checkpoint").open("rb") as file:
            return len(json.loads(file.readline())["rows"])
    except FileNotFoundError:
        return 0


def kill(repository: Repository, moment) -> None:
    """Start `dvc repro`, and kill it with all its processes as soon as `moment()` is true."""
    repro = repository.start(sys.executable, "-m", "dvc", "repro")
    while repro.poll() is None:
        if moment():
            os.killpg(repro.pid, signal.SIGKILL)
            repro.wait()
            with contextlib.suppress(ProcessLookupError):
                for _ in range(500):  # until the last process of the group is gone
                    os.killpg(repro.pid, 0)
                    time.sleep(0.01)
        time.sleep(0.002)
    assert repro.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_training_is_resumed_by_the_next_repro(copy, tmp_path):
    """DVC and the stage are killed before the first epoch, in each phase, and after the last epoch."""
    copy.set(model__unfreeze_blocks=1, train__fine_tune_epochs=4)
    other = copy.copy(tmp_path / "uninterrupted")
    other.dvc("repro")
    history = copy.folder / "build/history.csv"
    for epochs in (0, 2, 6):

        def moment(epochs=epochs) -> bool:
            if history.exists():  # DVC removes the outputs of the run before when the stage begins
                return False
            time.sleep(0.3 if not epochs else 0)  # DVC must not be killed while it writes its own state
            return epochs_saved(copy) >= epochs

        kill(copy, moment)
        assert not (copy.folder / "build/model").exists()
        assert epochs <= epochs_saved(copy) < 8
    kill(copy, lambda: epochs_saved(copy) == 8 and (copy.folder / "build/model/trained.npz").exists())
    output = copy.dvc("repro")
    assert "after epoch 7" in output
    assert copy.outputs() == other.outputs()
    assert copy.read("dvc.lock") == other.read("dvc.lock")
    (run,) = copy.runs()
    points = copy.client().get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in points] == list(range(8))


@pytest.mark.slow
def test_a_folder_outside_the_repository_is_a_real_dependency(copy, tmp_path):
    images = tmp_path / "my images"
    pipeline_world.draw(images)
    copy.set(dataset__path=str(images))
    assert ran(copy.dvc("repro", "split")) == ["download"]  # the same images, so the split stays
    assert "download" not in copy.status()

    shutil.copy(images / "tulip/0.png", images / "rose/0.png")
    assert copy.status()["download"] == [{"changed deps": {str(images): "modified"}}]
    output = copy.dvc("repro", "split")
    assert ran(output) == ["download", "split"]
    assert "several labels: rose/0.png (rose) = tulip/0.png (tulip)" in output


@pytest.mark.slow
def test_images_that_were_not_added_are_an_error(copy):
    shutil.copy(copy.folder / "data/rose/0.png", copy.folder / "data/rose/more.png")
    done = copy.run("dvc", "repro", "--force", "download", check=False)
    assert done.returncode != 0
    assert "data/ is not the version that data.dvc names" in done.stderr
    copy.dvc("add", "data")
    assert ran(copy.dvc("repro", "download")) == ["download"]
    assert "rose/more.png" in copy.read("build/images.csv")


def test_an_invalid_parameter_leaves_the_outputs(copy):
    before = copy.outputs()
    copy.set(train__learning_rate=-1)
    done = copy.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "error: params.yaml: train.learning_rate: Input should be greater than 0, not -1" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    copy.set(train__learning_rate=0.0005)
    assert ran(copy.dvc("repro", "evaluate")) == []
    assert copy.outputs() == before


def test_a_push_to_a_user_remote_sends_no_output(copy, tmp_path):
    before = sorted((copy.folder / ".dvc/sample").rglob("*"))
    copy.dvc("remote", "add", "--default", "mine", str(tmp_path / "mine"))
    copy.dvc("push")
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == []
    assert sorted((copy.folder / ".dvc/sample").rglob("*")) == before


@pytest.mark.slow
def test_a_flipped_byte_in_every_output_is_repaired_by_one_repro(copy):
    before = copy.outputs()
    for path, content in before.items():
        if content:
            damaged = bytearray(content)
            damaged[len(content) // 2] ^= 1
            (copy.folder / path).unlink()  # some are links
            (copy.folder / path).write_bytes(damaged)
    copy.dvc("repro")
    assert copy.outputs() == before


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_help_has_a_line_for_every_target(tmp_path):
    text = (pipeline_world.CHECKOUT / "Makefile").read_text(encoding="utf-8")
    (tmp_path / "Makefile").write_text(text, encoding="utf-8")
    (targets,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    done = Repository(tmp_path, tmp_path).run("make", "help")
    listed = [line.split(None, 2) for line in done.stdout.splitlines() if line.startswith("  make ")]
    assert sorted(name for _, name, _ in listed) == sorted(targets.split())
    assert list(tmp_path.iterdir()) == [tmp_path / "Makefile"]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("target", ["repro", "tune", "clean"])
def test_make_in_a_source_archive_without_git_prints_the_remedy(tmp_path, target):
    shutil.copy(pipeline_world.CHECKOUT / "Makefile", tmp_path)
    done = Repository(tmp_path, tmp_path).run("make", target, check=False, GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    assert done.returncode == 2
    assert "not a git repository" in done.stderr and "Type: git init" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "Makefile"]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_installs_again_after_the_checkout_was_moved(tmp_path):
    here = tmp_path / "a flower's checkout"
    (here / ".venv/bin").mkdir(parents=True)
    shutil.copy(pipeline_world.CHECKOUT / "Makefile", here)
    for name in ("requirements.lock", "pyproject.toml"):
        (here / name).touch()
    (here / ".venv/bin/activate").write_text(f'VIRTUAL_ENV="{here}/.venv"\n')
    (here / ".venv/.installed").write_text("cpu\n")
    assert "--clear" not in Repository(here, here).run("make", "--dry-run", "scores").stdout
    there = here.rename(tmp_path / "moved")
    assert "-m venv --clear .venv" in Repository(there, there).run("make", "--dry-run", "scores").stdout


def experiments(repository: Repository) -> dict[str, list]:
    """The runs in the local store by the names of their DVC experiments."""
    found: dict[str, list] = {}
    for run in repository.runs():
        for name in json.loads(run.data.tags.get("flowers.dvc_experiments", "[]")):
            found.setdefault(name, []).append(run)
    return found


@pytest.fixture
def committed(copy) -> Repository:
    """A copy whose lock is committed, as an experiment's starting point is."""
    copy.commit()
    return copy


def test_a_result_is_verified_and_a_clone_has_its_scores_without_a_cache(committed, tmp_path):
    assert committed.flowers("verify").stdout.startswith("same bytes: all ")
    clone = committed.clone(tmp_path / "another clone", tmp_path / "another cache")
    done = clone.flowers("verify", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("no such file, so there is no result to verify yet; run `make repro`\n")
    scores = clone.json("build/evaluation/metrics.json")
    scores["accuracy"] += 0.5
    (clone.folder / "build/evaluation/metrics.json").write_text(json.dumps(scores))
    (change,) = json.loads(clone.run("dvc", "metrics", "diff", "--json").stdout).values()
    assert change["accuracy"]["diff"] == pytest.approx(0.5)
    page = clone.dvc("plots", "diff", "HEAD", "--out", str(tmp_path / "plots"))
    text = (tmp_path / "plots/index.html").read_text(encoding="utf-8")
    assert [title for title in ("Accuracy", "Loss", "Confusion matrix") if title not in text] == [], page


@pytest.mark.slow
def test_a_clone_that_ran_the_pipeline_has_no_changes_and_another_experiment_is_told_apart(committed, tmp_path):
    clone = committed.clone(tmp_path / "another clone", tmp_path / "another cache")
    clone.dvc("pull", "data.dvc")
    assert ran(clone.dvc("repro")) == STAGES
    assert clone.git("status", "--porcelain") == ""
    clone.git("clean", "-fdXq", "build")
    assert ran(clone.dvc("repro")) == []  # DVC has all of it in its cache
    assert (clone.git("status", "--porcelain"), clone.status()) == ("", {})
    assert clone.flowers("verify").stdout.startswith("same bytes: all ")
    clone.set(head__dropout=0.3)
    clone.dvc("repro")
    done = clone.flowers("verify", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("different: not the same experiment: head.dropout 0.2 -> 0.3; ")


@pytest.mark.slow
def test_an_experiment_is_run_shown_and_applied(committed):
    output = committed.dvc("exp", "run", "--name", "warmer", "--set-param", "head.dropout=0.3")
    assert ran(output) == ["train", "evaluate", "track"]
    (run,) = experiments(committed)["warmer"]
    assert run.data.params["head.dropout"] == "0.3"
    table = rows(committed.run("dvc", "exp", "show", "--csv").stdout)
    shown = {row["Experiment"]: row for row in table}
    assert shown["warmer"]["head.dropout"] == "0.3"
    assert float(shown["warmer"]["log_loss"]) == pytest.approx(run.data.metrics["test_log_loss"], rel=1e-3)

    # The same inputs from another commit are the same run, found without training.
    committed.git("reset", "--quiet", "--hard")
    committed.git("commit", "--quiet", "--allow-empty", "--message", "another")
    output = committed.dvc("exp", "run", "--name", "again", "--set-param", "head.dropout=0.3")
    assert ran(output) == ["track"]
    found = experiments(committed)
    assert [run.info.run_id for run in found["again"]] == [run.info.run_id]
    assert len(json.loads(found["again"][0].data.tags["flowers.commits"])) == 2

    committed.git("reset", "--quiet", "--hard")
    committed.dvc("exp", "apply", "again")
    assert "dropout: 0.3" in committed.read("params.yaml")
    assert set(committed.status()) <= {"track"}


@pytest.mark.slow
def test_results_are_compared_and_the_logged_model_is_checked_before_its_promotion(committed):
    committed.dvc("exp", "run", "--name", "warmer", "--set-param", "head.dropout=0.3")
    output = committed.flowers("compare", "HEAD", "warmer").stdout
    assert "Scores on 6 images" in output and "head.dropout" in output and "code and packages" in output
    (run,) = committed.runs()
    done = committed.flowers("promote", run.info.run_id)
    assert "6 of 6 labels the same" in " ".join(done.stdout.split())
    output = committed.flowers("compare", "warmer", "champion", "--markdown").stdout
    assert "is right on the same images" in output and "No parameter differs." in output


@pytest.mark.slow
def test_queued_experiments_run_their_own_code_and_share_one_store(committed):
    changed = (
        "src/flowers/stages/evaluate.py",
        "scores = classification.scores(",
        "scores = {'own_code': 7.0} | classification.scores(",
    )
    committed.replace(*changed)
    committed.dvc("exp", "run", "--queue", "--name", "changed")
    committed.git("checkout", "--quiet", "--", "src")
    committed.dvc("exp", "run", "--queue", "--name", "plain", "--set-param", "head.dropout=0.4")
    committed.dvc("exp", "run", "--run-all")

    found = experiments(committed)
    assert {name: len(runs) for name, runs in found.items()} == {"changed": 1, "plain": 1}
    assert found["changed"][0].data.metrics["test_own_code"] == 7.0
    assert "test_own_code" not in found["plain"][0].data.metrics
    assert found["plain"][0].data.params["head.dropout"] == "0.4"
    for (run,) in found.values():
        assert run.info.status == "FINISHED"
        assert (committed.folder / run.info.artifact_uri).is_dir()
        names = {item.path for item in committed.client().list_artifacts(run.info.run_id, "evaluation")}
        assert names == {f"evaluation/{name}" for name in EVALUATION}
    assert list((committed.folder / ".dvc/tmp/exps").rglob("mlflow.db")) == []
    assert committed.git("status", "--porcelain") == ""
    assert committed.status() == {}


@pytest.mark.slow
def test_a_temporary_experiment_finds_the_data_and_the_store(committed):
    """It runs in a copy of the repository, in this test from the download on."""
    output = committed.dvc("exp", "run", "--temp", "--name", "temporary", "--set-param", "dataset.bad_images=refuse")
    assert "download" in ran(output)
    (run,) = experiments(committed)["temporary"]
    assert run.data.params["dataset.bad_images"] == "refuse"
    assert (committed.folder / run.info.artifact_uri).is_dir()
    assert committed.git("status", "--porcelain") == ""
    assert "bad_images: skip" in committed.read("params.yaml")


def mlflow_train(repository: Repository, parameter: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Type `mlflow run . -e train` with a parameter."""
    command = f"-m mlflow run . -e train --env-manager local -P {parameter}".split()
    return repository.run(sys.executable, *command, check=check)


@pytest.mark.slow
def test_mlflow_run_trains_into_its_run_and_track_completes_it(committed):
    mlflow_train(committed, "head_dropout=0.3")
    (run,) = committed.runs()
    assert run.info.status == "FINISHED"
    assert (
        len(committed.client().get_metric_history(run.info.run_id, "val_loss")) == pipeline_world.QUICK["train.epochs"]
    )
    assert "dropout: 0.3" in committed.read("params.yaml")

    assert ran(committed.dvc("repro")) == ["evaluate", "track"]
    (completed,) = committed.runs()
    assert completed.info.run_id == run.info.run_id
    accuracy = committed.json("build/evaluation/metrics.json")["accuracy"]
    assert completed.data.metrics["test_accuracy"] == pytest.approx(accuracy)


@pytest.mark.slow
def test_an_invalid_parameter_of_mlflow_run_is_an_error_with_the_reason(committed):
    done = mlflow_train(committed, "head_dropout=3", check=False)
    assert done.returncode != 0
    assert "params.yaml: head.dropout: Input should be less than 1, not 3" in done.stdout + done.stderr


@pytest.mark.slow
def test_unfrozen_blocks_are_trained_and_stored(copy):
    copy.set(model__unfreeze_blocks=1)
    assert ran(copy.dvc("repro")) == ["train", "evaluate", "track"]
    assert copy.json("build/model/model.json")["unfreeze_blocks"] == 1
    assert {row["phase"] for row in rows(copy.read("build/history.csv"))} == {"head", "fine_tune"}
    (run,) = copy.runs()
    assert run.data.params["model.unfreeze_blocks"] == "1"
    assert copy.status() == {}
