"""Servers that die, hang and refuse while a team works: nothing is lost, nothing is there twice, nobody waits long."""

import contextlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
import small_repository
import team_world
from fault_proxy import FaultProxy
from tracking_world import HISTORY, SCORES, alone, fresh_database, make_world  # noqa: F401

from flowers import tracking
from flowers.common.errors import UserError
from flowers.runs.promote import checks, prediction_check
from flowers.runs.promote import run as promotion
from flowers.stages import track
from flowers.tracking import lookup, registry, run_key, runs, shared_weights, store

pytestmark = pytest.mark.slow

WAITS = 10.0  # seconds that a training may wait for a server
EPOCHS = [(row["epoch"], row["loss"]) for row in HISTORY]


@pytest.fixture(scope="module")
def bucket():
    """The proxy between MLflow's server and the bucket."""
    proxy = FaultProxy()
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def servers(bucket):
    with team_world.running(bucket) as made:
        yield made


@pytest.fixture(scope="module")
def network(servers):
    """The proxy between people and MLflow's server."""
    proxy = FaultProxy(servers.mlflow.port)
    yield proxy
    proxy.close()


@pytest.fixture
def ann(servers, network, make_world, monkeypatch, request):  # noqa: F811
    """Ann's checkout, with a result that no other test has; her tracking server is behind the network."""
    world = make_world("ann", store=False)
    for variable, value in (servers.environment("ann") | {"MLFLOW_TRACKING_URI": network.address}).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("FLOWERS_CACHE", str(world.folder / "cache"))
    unlike_others(world, request)
    return world


@pytest.fixture
def impatient(monkeypatch):
    """Give up at the first failure, as after the retries that another test waits for."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def unlike_others(world, request) -> None:
    world.write("src/flowers/train.py", f"rate = {request.node.name!r}\n")


def client():
    with store.lock():
        return store.connect()


def found(world, only: int = 1) -> list:
    """The runs of this checkout's result that are not deleted."""
    there = runs.with_key(client(), run_key.compute(world.params).key)
    assert len(there) == only
    return there


def losses(run) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client().get_metric_history(run.info.run_id, "loss")]


def artifacts(run, path: str | None = None) -> set[str]:
    names = set()
    for item in client().list_artifacts(run.info.run_id, path):
        names |= artifacts(run, item.path) if item.is_dir else {item.path}
    return names


def assert_complete(world) -> str:
    """One finished run holds everything of the result, once; its id."""
    (run,) = found(world)
    assert run.info.status == "FINISHED" and runs.RESULT in run.data.tags
    assert sorted(losses(run)) == EPOCHS
    accuracy = client().get_metric_history(run.info.run_id, "test_accuracy")
    assert [point.value for point in accuracy] == [SCORES["accuracy"]]
    assert {"params.yaml", "evaluation/metrics.json", "tables/scores.json", "history.csv"} <= artifacts(run)
    (model,) = [model for model in logged(run) if model.status == "READY"]
    assert client().list_logged_model_artifacts(model.model_id)
    return run.info.run_id


def logged(run) -> list:
    return client().search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")


@contextlib.contextmanager
def away(servers):
    """MLflow's server is killed, and starts again after the context."""
    servers.mlflow.stop()
    try:
        yield
    finally:
        servers.mlflow.start()


def test_a_server_that_dies_in_a_training_and_comes_back_has_all_epochs(ann, servers, capsys):
    with tracking.live_run(ann.params) as on_epoch:
        on_epoch(HISTORY[0])
        deadline = time.monotonic() + 20
        while not found(ann)[0].data.metrics:
            assert time.monotonic() < deadline
        with away(servers):
            began = time.monotonic()
            for row in HISTORY[1:]:
                on_epoch(row)
            assert time.monotonic() - began < 0.1
    (run,) = found(ann)
    assert (losses(run), run.info.status) == (EPOCHS, "FINISHED")
    assert "warning" not in capsys.readouterr().err
    tracking.publish(ann.params)
    assert_complete(ann)


@pytest.mark.parametrize("fault", ["503", 30.0])
def test_a_server_that_fails_from_the_middle_of_a_training_on_holds_it_for_seconds_at_most(ann, network, fault, capsys):
    began = time.monotonic()
    with tracking.live_run(ann.params) as on_epoch:
        on_epoch(HISTORY[0])
        opened = time.monotonic() - began
        network.fault = lambda method, path: fault
        began = time.monotonic()
        for row in HISTORY[1:]:
            on_epoch(row)
        assert time.monotonic() - began < 0.1
    closed = time.monotonic() - began
    network.fault = lambda method, path: None
    assert opened + closed < WAITS
    assert capsys.readouterr().err.count("MLflow tracking is off for this training") == 1
    tracking.publish(ann.params)
    assert_complete(ann)


@pytest.mark.parametrize("fault", ["503", 30.0])
def test_a_server_that_fails_from_the_start_holds_a_training_for_seconds_at_most(ann, network, fault, capsys):
    began = time.monotonic()
    with network.failing(lambda method, path: fault), tracking.live_run(ann.params) as on_epoch:
        for row in HISTORY:
            on_epoch(row)
    assert time.monotonic() - began < WAITS
    assert "To publish it later: flowers track --force" in capsys.readouterr().err


def test_an_epoch_costs_a_training_less_than_20_milliseconds(ann):
    with tracking.live_run(ann.params) as on_epoch:
        began = time.monotonic()
        for number in range(200):
            on_epoch({**HISTORY[0], "epoch": number})
    assert (time.monotonic() - began) / 200 < 0.02  # until the server has them
    (run,) = found(ann)
    assert len(losses(run)) == 200


@pytest.mark.parametrize("when", ["params", "model", "metrics", "artifacts", "tags"])
def test_publishing_again_completes_what_a_server_that_died_in_the_middle_has(ann, network, when, impatient):
    """The server's answer is lost from some request on: what the request did is done."""
    marks = {
        "params": "log-batch",
        "model": "/models/",
        "metrics": "runs/outputs",
        "artifacts": "evaluation/",
        "tags": "log-inputs",
    }
    gone = []

    def fault(method: str, path: str):
        if gone or marks[when] in path:
            gone.append(path)
            return "drop"
        return None

    with network.failing(fault), pytest.raises(tracking.StoreUnreachable, match="failed"):
        tracking.publish(ann.params)
    assert gone
    tracking.publish(ann.params)
    run_id = assert_complete(ann)
    tracking.publish(ann.params, force=True)
    assert assert_complete(ann) == run_id


def test_the_stage_track_goes_on_without_a_server_that_was_killed_in_the_middle_of_it(
    ann, servers, network, capsys, impatient
):
    killed = threading.Event()

    def fault(method: str, path: str):
        if "/models/" in path and not killed.is_set():
            killed.set()
            servers.mlflow.stop()
        return

    try:
        with network.failing(fault):
            track.run(ann.params)
    finally:
        servers.mlflow.start()
    assert killed.is_set()
    assert "Nothing is lost; to publish it later: flowers track --force" in capsys.readouterr().err
    track.run(ann.params, force=True)
    assert_complete(ann)


def test_two_colleagues_who_publish_one_result_at_once_have_one_run(servers, network, make_world, request, tmp_path):  # noqa: F811
    """Each has a checkout on a machine of its own, so that no lock on the disk keeps them apart."""
    code = (
        "import sys, time; from pathlib import Path; from flowers import tracking; from flowers.config import params;"
        "import mlflow, pandas; settings = params.load(Path('params.yaml')); from flowers.tracking import store;"
        "store.check_reachable(store.uri()); Path(sys.argv[1]).touch()\n"
        "while not Path(sys.argv[2]).exists(): time.sleep(0.001)\n"
        "print(tracking.publish(settings).run_id)"
    )
    people, processes = [], []
    for name in ("ann", "ben"):
        world = make_world(name, store=False)
        unlike_others(world, request)
        ready = tmp_path / f"{name} is ready"
        environment = (
            dict(__import__("os").environ) | servers.environment(name) | {"FLOWERS_CACHE": str(tmp_path / name)}
        )
        command = [sys.executable, "-c", code, str(ready), str(tmp_path / "go")]
        process = subprocess.Popen(command, cwd=world.folder, env=environment, stdout=subprocess.PIPE, text=True)
        people.append(world)
        processes.append((process, ready))
    while not all(ready.exists() for _, ready in processes):
        time.sleep(0.01)
    (tmp_path / "go").touch()
    ids = [process.communicate(timeout=60)[0].strip() for process, _ in processes]
    assert all(process.returncode == 0 for process, _ in processes)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in servers.environment("ann").items():
            patch.setenv(variable, value)
        patch.chdir(people[0].folder)
        assert assert_complete(people[0]) in ids


def test_two_colleagues_who_complete_one_run_at_once_log_each_point_once(ann, monkeypatch):
    """As after a killed training: both find the same unfinished run, and neither has seen what the other writes."""
    with tracking.live_run(ann.params) as on_epoch:
        on_epoch(HISTORY[0])
    (run,) = found(ann)
    points = [(row["epoch"], {"loss": row["loss"]}) for row in HISTORY]
    barrier, one = threading.Barrier(2), client()
    history = type(one).get_metric_history

    def together(self, *arguments):
        points = history(self, *arguments)
        barrier.wait(10)  # both have read what is there, and neither has written
        return points

    arguments, options = (one, run.info.run_id, points), {"time_ms": run.info.start_time}
    with monkeypatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr(type(one), "get_metric_history", together)
        for writing in [pool.submit(runs.log_points, *arguments, **options) for _ in range(2)]:
            writing.result()
    assert losses(run) == EPOCHS


def test_weights_cross_the_wire_once_a_store(ann, network):
    ann.write("build/weights/resnet50.npz", "weights " * 200_000)
    size = (ann.folder / "build/weights/resnet50.npz").stat().st_size
    sent = []
    for number in range(3):
        ann.write("src/flowers/train.py", f"rate = 'weights {number}'\n")
        with network.failing(lambda method, path: None) as seen:
            tracking.publish(ann.params)
            sent.append(sum(bytes for _, path, bytes in seen if bytes >= size))
        run_id = assert_complete(ann)
    assert sent == [size, 0, 0]
    model = client().get_logged_model(registry.logged_model(client(), client().get_run(run_id)))
    names = {item.path for item in client().list_logged_model_artifacts(model.model_id, "artifacts")}
    assert names == {"artifacts/model", "artifacts/weights.json"}
    # A person without the weights fetches them once.
    location = f"{model.artifact_location}/artifacts/{shared_weights.REFERENCE}"
    reference = Path(mlflow.artifacts.download_artifacts(location, tracking_uri=store.uri()))
    before = (ann.folder / "build/weights/resnet50.npz").read_bytes()
    (ann.folder / "build/weights/resnet50.npz").unlink()
    with network.failing(lambda method, path: None) as seen:
        assert shared_weights.resolved(reference).read_bytes() == before
        assert shared_weights.resolved(reference).read_bytes() == before
    assert sum(path.endswith("/resnet50.npz") for _, path, _ in seen) == 1


def test_a_bucket_that_refuses_for_a_while_costs_time_only(ann, bucket):
    refused = []

    def fault(method: str, path: str):
        if method == "PUT" and len(refused) < 2:
            refused.append(path)
            return "503"
        return None

    with bucket.failing(fault):
        tracking.publish(ann.params)
    assert len(refused) == 2
    assert_complete(ann)


def test_a_bucket_that_refuses_everything_is_one_line_and_publishing_again_completes_the_run(ann, bucket, impatient):
    """MLflow's server itself tries several times, whatever its clients do."""
    refusing = bucket.failing(lambda method, path: "503" if method == "PUT" else None)
    with refusing, pytest.raises(tracking.StoreUnreachable) as error:
        tracking.publish(ann.params)
    assert "\n" not in str(error.value) and "publishing to" in str(error.value)
    tracking.publish(ann.params)
    assert_complete(ann)


@pytest.mark.parametrize("fault", [1.0, "cut", "503"])
def test_what_a_bucket_sends_that_is_slow_or_cuts_bodies_or_refuses_is_whole_or_an_error(ann, bucket, fault, impatient):
    tracking.publish(ann.params)
    run_id = assert_complete(ann)
    expected = (ann.folder / "build/evaluation/metrics.json").read_bytes()

    def of_files(method: str, path: str):
        return fault if "metrics.json" in path and method == "GET" and (fault == "503" or "?" not in path) else None

    def read():
        return lookup.artifact(client(), client().get_run(run_id), "evaluation/metrics.json")

    with bucket.failing(of_files) as seen:
        if fault == 1.0:
            assert read() == expected
        else:
            with pytest.raises(tracking.StoreUnreachable, match="did not send"):
                read()
    assert any("metrics.json" in path for _, path, _ in seen)
    assert read() == expected
    assert lookup.artifact(client(), client().get_run(run_id), "evaluation/nothing.json") is None


@pytest.mark.parametrize("when", ["model-versions/create", "registered-models/alias"])
def test_a_server_that_dies_in_a_promote_leaves_the_old_champion_or_the_new_one(
    ann, network, monkeypatch, when, impatient
):
    ann.set("dataset.path", f"/photos/{when.replace('/', ' ')}")  # a registered model of its own
    validation = "path,sha256,label,predicted,probability,p(NA),p(rose)\n"
    rows = "".join(f"{n}.jpg,{n:064x},NA,NA,0.9,0.9,0.1\n" for n in range(6))
    ann.write("build/evaluation/validation.csv", validation + rows)
    passed = checks.Check(prediction_check.NAME, True, "as set")
    monkeypatch.setattr(prediction_check, "check", lambda *_: passed)
    tracking.publish(ann.params)
    run_id = assert_complete(ann)
    gone = []

    def fault(method: str, path: str):
        if gone or (method == "POST" and when in path):
            gone.append(path)
            return "drop"
        return None

    with network.failing(fault), pytest.raises(UserError, match=r"promoting in|cannot be reached"):
        promotion.promote(ann.params, run_id, None)
    assert gone
    assert promotion.promote(ann.params, run_id, None) == 0
    logged_params = client().get_run(run_id).data.params
    name = lookup.registered_model(logged_params["dataset.name"], logged_params["dataset.path"])
    assert client().get_model_version_by_alias(name, "champion").run_id == run_id
    assert len(client().search_model_versions(f"name = '{name}'")) == 1


def test_a_database_that_restarts_costs_a_publish_nothing_but_another_try(ann, servers):
    servers.postgres.stop()
    servers.postgres.start()
    with contextlib.suppress(tracking.StoreUnreachable):  # the server's connections are broken
        tracking.publish(ann.params)
    tracking.publish(ann.params)
    assert_complete(ann)


@pytest.mark.parametrize("fault", ["503", "cut"])
def test_dvc_pushes_and_pulls_whole_files_though_the_bucket_fails_at_first(servers, bucket, tmp_path, fault):
    environment = servers.environment("ann") | {"AWS_ENDPOINT_URL": bucket.address}
    one = small_repository.create(tmp_path / "one")
    one.dvc("remote", "add", "--default", "--force", "team", f"s3://flowers-data/{fault}")
    one.commit()
    failed = []

    def at_first(method: str, path: str):
        if "/files/" in path and method in ("PUT", "GET") and len(failed) < 2:
            failed.append(path)
            return fault
        return None

    with bucket.failing(at_first):
        one.dvc("push", **environment)
    pushed, other = len(failed), small_repository.SmallRepository(tmp_path / "other", tmp_path / "other")
    one.git("clone", "--quiet", str(one.folder), str(other.folder))
    failed.clear()
    with bucket.failing(at_first):
        other.dvc("pull", **environment)
    assert pushed and failed
    assert other.outputs() == one.outputs()
    assert other.status() == {}
