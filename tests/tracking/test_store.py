"""The store: its address, whether it can be reached, and several processes on it."""

import contextlib
import http.server
import itertools
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from flowers import tracking
from flowers.common.errors import UserError
from flowers.stages import track
from flowers.tracking import experiments, runs, store, ui

TRACK = "from pathlib import Path; from flowers.config import params; from flowers.stages import track; " \
    "track.run(params.load(Path('params.yaml')))"  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "experiment"),
    [
        ("local", "data.yaml", "flowers local"),
        ("local", "/mnt/images/five_class/", "flowers five_class"),
        ("oxford_flowers102", "data.yaml", "flowers oxford_flowers102"),
    ],
)
def test_each_data_set_has_one_experiment(world, name, path, experiment):
    world.set("dataset.name", name)
    world.set("dataset.path", path)
    assert experiments.experiment_name(world.params) == experiment


def test_a_stray_mlruns_folder_does_not_move_the_store(world):
    (world.folder / "mlruns" / "0").mkdir(parents=True)
    tracking.publish(world.params)
    (run,) = world.runs(only=1)
    assert run.info.artifact_uri.startswith("mlruns/flowers_local/")


def test_a_relative_sqlite_address_is_taken_from_the_original_root(world, monkeypatch):
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
    messages = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    assert sorted("already in MLflow" in text for text in messages) == [False, True]
    (run,) = world.runs(only=1)
    assert [step for step, _ in world.points(run)["loss"]] == [0, 1, 2, 3]
    assert len(world.models(run)) == 1
    default = world.client().get_experiment("0").artifact_location  # where runs of `mlflow run` may be
    assert default == "mlruns/0"
    assert "INFO" not in "".join(messages) and "Traceback" not in "".join(messages)


def test_an_unreachable_server_does_not_fail_the_stage_unless_forced(world, monkeypatch, capsys, closed_port):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    begin = time.monotonic()
    track.run(world.params)
    assert time.monotonic() - begin < 10
    assert "flowers track --force" in capsys.readouterr().err
    assert json.loads((world.folder / "tracking/published.json").read_text()) == tracking.fingerprint(world.params)
    with pytest.raises(tracking.StoreUnreachable, match=f"127.0.0.1:{closed_port}"):
        track.run(world.params, force=True)


@pytest.mark.parametrize(
    ("limit", "problem"), [("_CHECK_SECONDS", "timed out"), ("_CHECK_SECONDS_IN_ALL", "no answer")]
)
def test_a_server_that_never_responds_is_unreachable_after_either_time_limit(monkeypatch, limit, problem):
    monkeypatch.setattr(store, limit, 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and sends nothing
        begin = time.monotonic()
        with pytest.raises(tracking.StoreUnreachable, match=problem):
            store.check_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - begin < 3


@pytest.fixture
def server():
    """A server on the loopback address that responds to every request with `status`."""

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


@pytest.mark.parametrize(("status", "reachable"), [(200, True), (401, True), (404, True), (503, False)])
def test_a_server_is_reachable_unless_its_proxy_says_otherwise(server, status, reachable):
    server.status = status
    address = f"http://user:secret@127.0.0.1:{server.server_address[1]}"
    if reachable:
        store.check_reachable(address)
    else:
        with pytest.raises(tracking.StoreUnreachable, match=str(status)) as caught:
            store.check_reachable(address)
        assert "secret" not in str(caught.value)


def test_a_broken_local_store_is_an_error_naming_it(world):
    world.database.write_text("not a database" * 300)
    with pytest.raises(UserError, match=r"mlflow\.db") as caught:
        tracking.publish(world.params)
    assert not isinstance(caught.value, tracking.StoreUnreachable)


def test_an_error_of_the_database_is_one_line_without_a_stack_trace(world, capsys):
    with store.lock():
        store.connect()
    with contextlib.closing(sqlite3.connect(world.database)) as connection, connection:
        connection.execute("DROP TABLE params")
    with pytest.raises(UserError, match="no such table: params"):
        tracking.publish(world.params)
    assert "Traceback" not in capsys.readouterr().err


def test_a_tracking_folder_that_cannot_be_created_is_an_error_naming_it(make_world):
    world = make_world(store=False)
    (world.folder / "tracking").write_text("a file in the way")
    with pytest.raises(UserError, match="tracking"):
        tracking.publish(world.params)


def test_the_telemetry_of_mlflow_is_off(world):
    tracking.publish(world.params)
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true" and os.environ["DO_NOT_TRACK"] == "true"
    assert is_telemetry_disabled()


def test_importing_the_room_imports_neither_mlflow_nor_pandas():
    code = "import sys, flowers.tracking, flowers.stages.track; print('mlflow' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_taken_port_of_the_ui_is_an_error(world):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="another --port"):
        ui.serve_ui(port=taken.getsockname()[1])


def test_the_ui_of_a_tracking_server_is_its_address_without_the_password(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@tracking.example")
    assert ui.serve_ui() == 0
    printed = capsys.readouterr().err
    assert "https://tracking.example" in printed and "secret" not in printed


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
        (run,) = [each for each in served.runs() if runs.KEY in each.data.tags]  # another one holds the weights
        assert [step for step, _ in served.points(run)["loss"]] == [0, 1, 2, 3]
        assert len(served.models(run)) == 1
        query = {"path": "classes.json", "run_uuid": run.info.run_id}
        assert "rose" in requests.get(f"{address}/get-artifact", params=query, timeout=10).text
        assert not [path for path in Path.cwd().rglob("classes.json") if not path.is_relative_to(served.folder)]
        assert list(served.folder.rglob("classes.json"))
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)


def _wait_for(page: str) -> None:
    for _ in range(300):
        try:
            requests.get(page, timeout=1).raise_for_status()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{page} does not respond")


def test_all_metrics_of_a_step_are_in_one_batch():
    """A kill between two batches would leave half of an epoch, which the next stream takes for a whole one."""
    sent = []

    class Client:
        def get_metric_history(self, run_id, name):
            return []

        def log_batch(self, run_id, metrics, synchronous):
            sent.append([metric.step for metric in metrics])

    runs.log_points(Client(), "a run", [(step, dict.fromkeys("abcdef", 0.5)) for step in range(400)])
    assert [step for batch in sent for step in batch] == [step for step in range(400) for _ in range(6)]
    assert all(len(batch) <= 1000 for batch in sent) and len(sent) == 3
    assert all(one[-1] != other[0] for one, other in itertools.pairwise(sent))
