"""`flowers reproduce` from outside: real git, DVC and MLflow, and the real pipeline on small images."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pipeline_world
import pytest
from pipeline_world import Repository

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("git"), reason="needs git")]

# The seed decides the initial weights, and so the result.
SEED = ("src/flowers/training/fitting.py", "head.dropout, train.seed,")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Repository:
    """The pipeline ran at the first commit; the code of the second commit gives another result."""
    folder = tmp_path_factory.mktemp("reproduce")
    repository = pipeline_world.create(folder / "repository", folder / "cache")
    repository.dvc("repro")
    repository.replace(*SEED, "head.dropout, train.seed + 1,")
    repository.commit()
    yield repository
    shutil.rmtree(folder)


@pytest.fixture
def temporary(tmp_path) -> Path:
    """A folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def reproduce(repository: Repository, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return repository.flowers("reproduce", *arguments, check=False, **environment)


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The table's verdict on each output."""
    rows = [line.split(None, 1) for line in done.stdout.splitlines() if line.strip().startswith("build/")]
    return {path: verdict.strip() for path, verdict in rows}


def worktrees(repository: Repository) -> list[str]:
    return [line for line in repository.git("worktree", "list", "--porcelain").splitlines() if "worktree " in line]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_run_of_an_earlier_commit_gives_the_same_bytes_and_leaves_no_trace(made, temporary):
    (run,) = made.runs()
    cached, status, built = files(made.folder / ".dvc/cache"), made.git("status", "--porcelain"), made.outputs()
    done = reproduce(made, run.info.run_id[:8], TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert "same bytes: all " in done.stdout
    folders = ("build/images", "build/model", "build/weights")
    outputs = {next((folder for folder in folders if path.startswith(f"{folder}/")), path) for path in built}
    assert verdicts(done) == dict.fromkeys(outputs, "the same bytes")
    assert "Running stage 'train'" in done.stderr and "Running stage 'track'" not in done.stderr
    assert "Traceback" not in done.stderr

    assert files(made.folder / ".dvc/cache") == cached
    assert made.git("status", "--porcelain") == status
    assert made.outputs() == built
    assert [each.info.run_id for each in made.runs()] == [run.info.run_id]
    assert len(worktrees(made)) == 1
    assert [path for path in temporary.iterdir() if path.name.startswith("flowers")] == []


def test_a_file_that_was_changed_in_mlflow_is_named(made):
    (run,) = made.runs()
    (scores,) = made.folder.glob(f"mlruns/*/{run.info.run_id}/artifacts/evaluation/metrics.json")
    before = scores.read_text()
    scores.write_text(before.replace('"accuracy": 0.', '"accuracy": 1.'))
    done = reproduce(made, run.info.run_id[:8])
    scores.write_text(before)
    assert done.returncode == 1
    (differing,) = (pair for pair in verdicts(done).items() if pair[1] != "the same bytes")
    assert differing[0] == "build/evaluation/metrics.json"
    assert differing[1].split()[:2] == ["differs", "accuracy"]
    assert "different: build/evaluation/metrics.json or " in " ".join(done.stdout.split())


@pytest.fixture
def copy(made, tmp_path) -> Repository:
    yield made.copy(tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy")


def test_uncommitted_changes_are_applied(copy):
    copy.replace(SEED[0], "train.seed + 1,", "train.seed + extra.ADDED,")
    copy.replace(SEED[0], "from flowers.model import ", "from flowers.model import extra, ")
    (copy.folder / "src/flowers/model/extra.py").write_text("ADDED = 2\n")
    copy.set(head__dropout=0.3)
    first = copy.outputs()["build/history.csv"]
    copy.dvc("repro")
    assert copy.outputs()["build/history.csv"] != first
    copy.git("checkout", "--quiet", ".")
    copy.git("clean", "--quiet", "--force", "src")
    (run,) = copy.runs()
    done = reproduce(copy, run.info.run_name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "and its uncommitted changes" in done.stderr
    assert "same bytes: all " in done.stdout

    lost = copy.folder / "mlruns"
    for patch in lost.rglob("*.diff"):
        patch.unlink()
    done = reproduce(copy, run.info.run_name)
    assert done.returncode == 1
    assert "different: uncommitted changes at the time, which the run does not hold" in " ".join(done.stdout.split())
    assert "uncommitted changes that were not kept" in done.stderr


def test_a_queued_experiment_without_dvcs_cache_and_with_fresh_activations(copy, temporary):
    copy.dvc("exp", "run", "--temp", "--name", "warmer", "--set-param", "head.dropout=0.4")
    (run,) = copy.runs()
    shutil.rmtree(copy.folder / ".dvc/cache")  # the images are in the remote
    done = reproduce(copy, run.info.run_id, "--fresh", "--keep", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Activations: computed anew" in done.stderr
    assert "Extracting features" in done.stderr
    (kept,) = [path for path in temporary.iterdir() if path.name.startswith("flowers-reproduce-")]
    assert f"Kept: {kept / 'checkout'}. To remove it: git worktree remove --force {kept / 'checkout'}" in done.stderr
    assert "dropout: 0.4" in (kept / "checkout/params.yaml").read_text()
    copy.git("worktree", "remove", "--force", str(kept / "checkout"))


def test_images_of_an_own_folder_that_were_changed_or_removed(copy, tmp_path):
    images = tmp_path / "my images"
    pipeline_world.draw(images)
    copy.set(dataset__path=str(images))
    copy.dvc("repro")
    (run,) = copy.runs()
    shutil.copy(images / "tulip/0.png", images / "rose/0.png")
    done = reproduce(copy, run.info.run_id)
    assert done.returncode == 1
    assert verdicts(done)["build/images"].startswith("differs")
    assert verdicts(done)["build/model"] == "not made again"
    assert f"different: other data: {images}, " in " ".join(done.stdout.split())
    assert "Running stage 'train'" not in done.stderr

    shutil.rmtree(images)
    done = reproduce(copy, run.info.run_id)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        f"there is no folder {images}" in done.stderr and "error: the pipeline failed (download, split)" in done.stderr
    )


def test_ctrl_c_ends_the_pipeline_and_removes_the_worktree(made, temporary):
    (run,) = made.runs()
    command = [sys.executable, "-m", "flowers", "reproduce", run.info.run_id]
    environment = made._environment | {"PYTHONPATH": "src", "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        command, cwd=made.folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    for line in process.stderr:
        if "Running stage 'train'" in line:
            break
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    process.stderr.close()
    assert len(worktrees(made)) == 1
    assert [path for path in temporary.iterdir() if path.name.startswith("flowers")] == []
    assert not running_in(temporary)


def running_in(folder: Path) -> list[str]:
    """The processes whose working directory is below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = str((process / "cwd").readlink())
        except OSError:
            continue
        if place.startswith(str(folder)):
            found.append(process.name)
    return found
