"""The pipeline of a team on real servers: two colleagues, PostgreSQL, a bucket, MLflow with passwords, a wheel."""

import base64
import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pipeline_world
import pyarrow as pa
import pyarrow.dataset
import pytest
import team_world
from pipeline_world import CHECKOUT, Repository, ran

from flowers.data import formats

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("git"), reason="needs git")]

BUCKET = "s3://flowers-data"
MODEL = "models:/flowers-local@champion"


@pytest.fixture(scope="module")
def servers():
    with team_world.running() as made:
        yield made


@pytest.fixture(scope="module")
def output() -> list[str]:
    """What all commands have printed, and the command lines of all processes at some moments."""
    return []


class Colleague(Repository):
    """A clone of a person, whose commands know the addresses and the person's password."""

    printed: list[str]

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = super().run(*command, check=check, **environment)
        self.printed += [done.stdout, done.stderr]
        return done


@pytest.fixture(scope="module")
def ann(servers, output, tmp_path_factory):
    """Ann sets the team's remote up, runs the pipeline twice, and pushes data, results and commits."""
    folder = tmp_path_factory.mktemp("ann")
    origin = pipeline_world.create(folder / "origin", folder / "cache")
    origin.change({"tune.repeats": 1, "tune.pruner": "none", "tune.confirm_seeds": 0, "promote.probe_photos": 2})
    origin.set(model__input_size=96)  # a fifth of the work
    ann = Colleague(folder / "origin", folder / "cache", servers.environment("ann"))
    ann.printed = output
    set_up_remote(ann)
    ann.commit()
    ann.dvc("repro")
    ann.commit()
    ann.dvc("push")
    ann.set(head__dropout=0.45)  # another result, which is not committed
    ann.dvc("repro")
    output.append(team_world.command_lines())
    ann.dvc("push", "--run-cache")
    ann.git("checkout", "--quiet", "params.yaml", "dvc.lock", "build/evaluation")
    ann.dvc("checkout", "--quiet")
    yield ann
    shutil.rmtree(folder)


def set_up_remote(repository: Repository) -> None:
    """As docs/team.md says."""
    repository.run("dvc", "remote", "add", "--default", "team", f"{BUCKET}/dvc")
    for path, pattern in (("dvc.yaml", r": \{push: false\}"), ("data.dvc", r"  remote: sample\n")):
        file = repository.folder / path
        file.write_text(re.sub(pattern, "", file.read_text(encoding="utf-8")), encoding="utf-8")
    repository.dvc("push", "data.dvc")


@pytest.fixture(scope="module")
def ben(ann, servers, output, tmp_path_factory):
    """Ben has nothing but the repository and the addresses."""
    folder = tmp_path_factory.mktemp("ben")
    ann.git("clone", "--quiet", str(ann.folder), str(folder / "clone"))
    ben = Colleague(folder / "clone", folder / "cache", servers.environment("ben"))
    ben.printed = output
    ben.dvc("pull", "--run-cache")
    ben.output = ben.dvc("repro")
    ben.committed = ben.read("build/history.csv")
    yield ben
    shutil.rmtree(folder)


def runs(servers, condition: str = "") -> list:
    """The runs of the pipeline on the server, oldest first."""
    client = mlflow_client(servers)
    experiment = client.get_experiment_by_name("flowers local").experiment_id
    return list(client.search_runs([experiment], condition, order_by=["start_time ASC"]))


def mlflow_client(servers):
    from mlflow import MlflowClient

    for name, value in servers.environment("ann").items():
        os.environ[name] = value
    return MlflowClient(servers.mlflow.address)


@pytest.fixture(autouse=True)
def own_environment():
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def results(servers) -> list:
    return [run for run in runs(servers) if "flowers.result" in run.data.tags]


def test_a_colleague_takes_the_result_instead_of_training(ann, ben, servers):
    assert ran(ben.output) == ["track"]
    assert "is already in MLflow" in ben.output
    assert ben.outputs() == ann.outputs()
    assert len(results(servers)) == 2 == len(runs(servers, "attributes.status = 'FINISHED'"))


def test_a_colleague_takes_a_result_that_nobody_committed_from_the_run_cache(ben, servers):
    ben.set(head__dropout=0.45)
    # Not evaluate: DVC pushes no file that is in git, and that stage has three of them.
    output = ben.dvc("repro", "--pull", "train")
    assert "Stage 'train' is cached - skipping run" in output and ran(output) == []
    assert ben.read("build/history.csv") != ben.committed
    ben.git("checkout", "--quiet", "params.yaml", "dvc.lock", "build/evaluation")
    ben.dvc("checkout", "--quiet")


def test_streamed_metrics_and_files_of_a_run_are_there_once(ben, servers):
    client, (run, _) = mlflow_client(servers), results(servers)
    history = pd.read_csv(ben.folder / "build/history.csv")
    for name in ("loss", "val_mean_per_class_accuracy"):
        points = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in points] == list(history["epoch"])
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {"evaluation", "params.yaml", "dvc.lock"}
    assert run.data.tags["mlflow.user"]


def test_a_colleague_compares_promotes_and_predicts(ann, ben, servers, tmp_path):
    first, second = (run.info.run_id for run in results(servers))
    compared = ben.flowers("compare", first[:8], second[:8])
    assert "accuracy" in compared.stdout
    promoted = ben.flowers("promote", first[:8])
    assert "Champion: flowers-local, version 1" in promoted.stderr
    predicted = ann.flowers("predict", "data", "--model", "champion", "--format", "csv")
    assert len(predicted.stdout.splitlines()) == 1 + 3 * 8
    client = mlflow_client(servers)
    assert client.get_model_version_by_alias("flowers-local", "champion").run_id == first


def test_a_colleague_reproduces_a_run(ben, servers):
    first = results(servers)[0].info.run_id
    done = ben.flowers("reproduce", first[:8], check=False)
    assert done.returncode == 0, done.stderr
    assert "same bytes: all " in done.stdout


def test_a_study_from_two_clones_at_once(ann, ben, servers, output):
    command = (sys.executable, "-m", "flowers", "tune", "--n-trials", "4")
    started = []
    for one in (ann, ben):
        environment = one._environment | {"PYTHONPATH": "src"}
        started.append(
            subprocess.Popen(
                command, cwd=one.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    time.sleep(5)
    output.append(team_world.command_lines())
    for process in started:
        out, err = process.communicate(timeout=200)
        output += [out, err]
        assert process.returncode == 0, err
        assert "4 of 4 trials" in out
    study = [run for run in runs(servers) if "flowers.study" in run.data.tags]
    trials = [run for run in study if "flowers.trial" in run.data.tags]
    assert len(study) == 1 + len(trials)
    assert sorted(run.data.tags["flowers.trial"] for run in trials) == ["0", "1", "2", "3"]
    assert {run.info.status for run in study} == {"FINISHED"}


def test_score_from_one_folder_of_the_bucket_into_another(ben, servers):
    import s3fs

    environment = servers.environment("ben")
    bucket = s3fs.S3FileSystem(
        key=environment["AWS_ACCESS_KEY_ID"],
        secret=environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
    )
    bucket.put(str(ben.folder / "data"), "flowers-data/photos", recursive=True)
    bucket.pipe("flowers-data/photos/rose/broken.png", b"not an image")
    arguments = ("score", "--input", f"{BUCKET}/photos", "--output", f"{BUCKET}/predictions", "--model", "build/model")
    done = ben.flowers(*arguments)
    assert "Scored 25 images" in done.stderr and "1 unreadable" in done.stderr
    again = ben.flowers(*arguments)
    assert "is complete already: 25 images" in again.stderr
    label = pyarrow.dataset.partitioning(pa.schema([("label", pa.string())]), flavor="hive")
    remote = pd.read_parquet("flowers-data/predictions", partitioning=label, filesystem=bucket).set_index("path")
    predicted = pd.read_csv(ben.folder / "build/evaluation/predictions.csv").set_index("path")
    assert remote.loc[predicted.index, "label"].equals(predicted["predicted"])
    if importlib.util.find_spec("pyspark") and shutil.which("java"):
        on_spark = (*arguments[:4], f"{BUCKET}/by spark", *arguments[5:], "--engine", "spark", "--master", "local[1]")
        assert "Scored 25 images" in ben.flowers(*on_spark).stderr
        theirs = pd.read_parquet("flowers-data/by spark", partitioning=label, filesystem=bucket).set_index("path")
        assert theirs["label"].sort_index().equals(remote["label"].sort_index())
    refused = ben.flowers(*arguments[:-2], "--model", "build/model", "--force", check=False, AWS_SECRET_ACCESS_KEY="x")
    assert refused.returncode == 1 and refused.stderr.startswith("error: s3://flowers-data/photos: ")
    assert "Traceback" not in refused.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """An environment in which the package is the built wheel; the packages that it needs are this environment's."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "dist")]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (built,) = (folder / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    python = folder / "env/bin/python"
    subprocess.run(["uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, built], check=True)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    # Not by a .pth file of its own directory: that would run this checkout's, and lead to its source.
    linked = [path for path in Path(sysconfig.get_path("purelib")).iterdir() if "flowers" not in path.name.lower()]
    for path in linked:
        if path.suffix not in (".pth", ".egg-link") and not (packages / path.name).exists():
            (packages / path.name).symlink_to(path)
    for script in ("mlflow", "gunicorn", "uvicorn"):
        text = (Path(sys.executable).parent / script).read_text(encoding="utf-8")
        (folder / "env/bin" / script).write_text(f"#!{python}\n" + text.partition("\n")[2], encoding="utf-8")
        (folder / "env/bin" / script).chmod(0o755)
    (folder / "nowhere").mkdir()
    yield folder
    shutil.rmtree(folder)


class Installed:
    """The commands of the wheel's environment, in a folder without a checkout."""

    def __init__(self, folder: Path, servers) -> None:
        self.folder = folder / "nowhere"
        kept = ("HOME", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ}
        self.environment |= servers.environment("ben") | {"FLOWERS_CACHE": str(folder / "cache")}
        self.environment |= {"PATH": f"{folder / 'env/bin'}:/usr/bin:/bin", "DO_NOT_TRACK": "1"}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    @contextlib.contextmanager
    def serving(self, *command: str):
        with (self.folder / "server.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                process.wait()


@pytest.fixture
def installed(wheel, servers, ben) -> Installed:
    return Installed(wheel, servers)


@pytest.fixture
def champion(ben, servers) -> str:
    """The first result is the champion, whichever test ran before; its run."""
    first = results(servers)[0].info.run_id
    ben.flowers("promote", first[:8])
    return first


def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def fetched(address: str, process: subprocess.Popen, body: bytes | None = None, kind: str = "") -> bytes:
    """The response of a server that starts."""
    deadline = time.monotonic() + 120
    while True:
        try:
            request = urllib.request.Request(address, body, {"Content-Type": kind} if kind else {})
            return urllib.request.urlopen(request, timeout=60).read()
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read()) from error
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)


def test_the_wheel_predicts_and_serves_a_registered_model_without_a_checkout(installed, ben, champion, output):
    where = installed.run("python", "-c", "import flowers; print(flowers.__file__)").stdout
    assert where.startswith(str(installed.folder.parent / "env"))
    photos = str(ben.folder / "data/rose")
    done = installed.run("flowers", "predict", photos, "--model", MODEL, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8
    expected = ben.flowers("predict", photos, "--model", "build/model", "--format", "jsonl").stdout
    assert done.stdout == expected
    photo = (ben.folder / "data/rose/0.png").read_bytes()
    number = port()
    with installed.serving("flowers", "serve", "--model", MODEL, "--port", str(number)) as process:
        fetched(f"http://127.0.0.1:{number}/health", process)
        served = json.loads(fetched(f"http://127.0.0.1:{number}/predict", process, photo, "image/png"))
        output.append(team_world.command_lines())
    assert served["label"] == json.loads(expected.splitlines()[0])["label"]
    assert list(installed.folder.iterdir()) == [installed.folder / "server.log"]


def test_mlflow_serves_a_registered_model_without_the_package(installed, ben, champion, output):
    photo = base64.b64encode((ben.folder / "data/rose/0.png").read_bytes()).decode()
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[photo]]}}).encode()
    number = port()
    command = (
        "mlflow",
        "models",
        "serve",
        "-m",
        MODEL,
        "--env-manager",
        "local",
        "-p",
        str(number),
        "--host",
        "127.0.0.1",
    )
    with installed.serving(*command) as process:
        fetched(f"http://127.0.0.1:{number}/ping", process)
        output.append(team_world.command_lines())
        (found,) = json.loads(fetched(f"http://127.0.0.1:{number}/invocations", process, body, "application/json"))[
            "predictions"
        ]
    expected = ben.flowers("predict", "data/rose/0.png", "--model", "build/model", "--format", "jsonl").stdout
    assert found["label"] == json.loads(expected)["label"]


def test_passwords_are_nowhere(servers, ann, ben, output, champion):
    """Not in what commands print, process lists, logs, files of the clones, runs, tags, artifacts and studies."""
    wrong = ben.flowers("leaderboard", check=False, MLFLOW_TRACKING_PASSWORD=f"{servers.secrets[-1]}x")
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr
    output.append(team_world.command_lines())
    secrets = [secret.encode() for secret in servers.secrets]
    printed = "\n".join(output).encode()
    assert len(printed) > 10_000
    client, found = mlflow_client(servers), {"printed": printed}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            found[f"run {run.info.run_id}"] = json.dumps(run.to_dictionary()).encode()
    import s3fs

    environment = servers.environment("ann")
    keys = {"key": environment["AWS_ACCESS_KEY_ID"], "secret": environment["AWS_SECRET_ACCESS_KEY"]}
    bucket = s3fs.S3FileSystem(**keys, endpoint_url=environment["AWS_ENDPOINT_URL"])
    objects = [path for name in ("flowers-data", "flowers-mlflow") for path in bucket.find(name)]
    assert len(objects) > 50
    found |= {path: bucket.cat_file(path) for path in objects if not path.endswith(".npz")}
    places = [servers.folder.glob("*.log"), servers.folder.glob("postgres/*.log")]
    places += [folder.rglob("*") for one in (ann, ben) for folder in (one.folder, one.folder.parent / "cache")]
    for place in places:
        for file in place:
            if file.is_file() and file.suffix not in (".npz", ".npy", *(f".{each}" for each in formats.SUFFIXES)):
                found[str(file)] = file.read_bytes()
    assert any(name.endswith("mlflow.log") for name in found)
    holding = [name for name, content in found.items() if any(secret in content for secret in secrets)]
    assert holding == []
    readable = [file for file in servers.folder.rglob("*") if file.is_file() and file.stat().st_mode & 0o077]
    assert [file for file in readable if any(secret in file.read_bytes() for secret in secrets)] == []
