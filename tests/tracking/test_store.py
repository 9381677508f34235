"""Which store, whether it answers, and several processes on it."""

import http.server
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from flowers import tracking
from flowers.common.errors import UserError
from flowers.stages import track
from flowers.tracking import runs, store, ui

TRACK = "from pathlib import Path; from flowers.config import params; from flowers.stages import track; " \
    "track.run(params.load(Path('params.yaml')))"  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "experiment"),
    [
        ("local", "data.yaml", "flowers local"),
        ("local", "/mnt/photos/five_class/", "flowers five_class"),
        ("oxford_flowers102", "data.yaml", "flowers oxford_flowers102"),
    ],
)
def test_there_is_one_experiment_a_data_set(world, name, path, experiment):
    world.set("dataset.name", name)
    world.set("dataset.path", path)
    assert store.experiment_name(world.params) == experiment


def test_the_store_stays_where_it_is_beside_a_stray_mlruns(world):
    (world.folder / "mlruns" / "0").mkdir(parents=True)
    tracking.publish(world.params)
    (run,) = world.runs(only=1)
    assert run.info.artifact_uri.startswith((world.folder / "tracking" / "artifacts").as_uri())


def test_a_relative_sqlite_address_means_the_true_root(world, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    monkeypatch.setenv("DVC_ROOT", "/repository")
    assert store.uri() == "sqlite:////repository/runs.db"


def test_two_processes_on_a_fresh_store_make_one_run(make_world):
    world = make_world(store=False)
    (world.folder / "mlruns").mkdir()
    both = [
        subprocess.Popen([sys.executable, "-c", TRACK], stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("is there already" in text for text in said) == [False, True]
    (run,) = world.runs(only=1)
    assert [step for step, _ in world.points(run)["loss"]] == [0, 1, 2, 3]
    assert len(world.models(run)) == 1
    default = world.client().get_experiment("0").artifact_location  # where runs of `mlflow run` may be
    assert default.startswith((world.folder / "tracking" / "artifacts").as_uri())
    assert "INFO" not in "".join(said) and "Traceback" not in "".join(said)


def test_a_server_that_is_down_does_not_fail_the_stage(world, monkeypatch, capsys, closed_port):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    begin = time.monotonic()
    track.run(world.params)
    assert time.monotonic() - begin < 10
    assert "flowers track --force" in capsys.readouterr().err
    assert json.loads((world.folder / "tracking/published.json").read_text()) == tracking.fingerprint(world.params)
    with pytest.raises(tracking.StoreUnreachable, match=f"127.0.0.1:{closed_port}"):
        track.run(world.params, force=True)


def test_a_server_that_never_answers_is_given_up_within_ten_seconds():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        begin = time.monotonic()
        with pytest.raises(tracking.StoreUnreachable):
            store.check_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - begin < 10


def test_a_server_that_drips_is_given_up_too(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(store, "_CHECK_SECONDS_IN_ALL", 0.2)
        with pytest.raises(tracking.StoreUnreachable, match="no answer"):
            store.check_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.fixture
def server():
    """A server on the loopback address that answers every request with `status`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.status)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("login", ["", "user:secret@"])
@pytest.mark.parametrize(("status", "reachable"), [(200, True), (401, True), (404, True), (503, False)])
def test_any_answer_of_the_server_itself_counts(server, status, reachable, login):
    server.status = status
    address = f"http://{login}127.0.0.1:{server.server_address[1]}"
    if reachable:
        store.check_reachable(address)
    else:
        with pytest.raises(tracking.StoreUnreachable, match=str(status)) as caught:
            store.check_reachable(address)
        assert "secret" not in str(caught.value)


def test_a_broken_local_store_is_an_error_that_names_it(world):
    world.database.write_text("not a database, however long one looks at it" * 100)
    with pytest.raises(UserError, match=r"mlflow\.db") as caught:
        tracking.publish(world.params)
    assert not isinstance(caught.value, tracking.StoreUnreachable)


def test_a_tracking_folder_that_cannot_be_made_is_named(make_world):
    world = make_world(store=False)
    (world.folder / "tracking").write_text("a file in the way")
    with pytest.raises(UserError, match="tracking"):
        tracking.publish(world.params)


def test_mlflow_is_told_to_report_nothing(world):
    tracking.publish(world.params)
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true" and os.environ["DO_NOT_TRACK"] == "true"
    assert is_telemetry_disabled()
    assert ui.environment()["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_importing_the_room_imports_no_mlflow():
    code = "import sys, flowers.tracking, flowers.stages.track; print('mlflow' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_ui_says_when_the_port_is_taken(world):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="another --port"):
        ui.serve_ui(port=taken.getsockname()[1])


def test_the_ui_of_a_server_is_its_own(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@tracking.example")
    assert ui.serve_ui() == 0
    said = capsys.readouterr().err
    assert "https://tracking.example" in said and "secret" not in said


@pytest.mark.slow
def test_a_server_gets_the_run_and_the_ui_serves_its_artifacts(make_world, monkeypatch, closed_port):
    """The UI's server is an MLflow server: publish to it from a second checkout, over HTTP."""
    served = make_world("served")
    address = f"http://127.0.0.1:{closed_port}"
    code = f"from flowers import tracking; tracking.serve_ui(port={closed_port})"
    server = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        _wait_for(f"{address}/health")
        sender = make_world("sender", store=False)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with tracking.live_run(sender.params) as on_epoch:
            on_epoch({"epoch": 0, "phase": "head", "loss": 1.5})
        track.run(sender.params)
        track.run(sender.params, force=True)
        (run,) = served.runs(only=1)
        assert [step for step, _ in served.points(run)["loss"]] == [0, 1, 2, 3]
        assert len(served.models(run)) == 1
        query = f"get-artifact?path=classes.json&run_uuid={run.info.run_id}"
        with urllib.request.urlopen(f"{address}/{query}") as answer:
            assert b"rose" in answer.read()
        assert not (Path.cwd() / "tracking" / "artifacts").exists()
        assert list((served.folder / "tracking" / "artifacts").rglob("classes.json"))
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)


def _wait_for(page: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(page, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{page} does not answer")


def test_a_step_is_never_cut_in_two_batches():
    """A kill between them would leave half of an epoch, which the next stream takes for a whole one."""
    sent = []

    class Client:
        def log_batch(self, run_id, metrics, synchronous):
            sent.append([metric.step for metric in metrics])

    runs.log_points(Client(), "a run", [(step, dict.fromkeys("abcdef", 0.5)) for step in range(400)])
    assert [step for batch in sent for step in batch] == [step for step in range(400) for _ in range(6)]
    assert all(len(batch) <= 1000 for batch in sent) and len(sent) == 3
    assert all(one[-1] != other[0] for one, other in itertools.pairwise(sent))
