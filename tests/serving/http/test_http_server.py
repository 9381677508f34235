"""The server on a port, in a process of its own where that matters."""

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from http_world import GREEN, RED, ByColour

from flowers.common.errors import UserError
from flowers.config import params
from flowers.serving import models
from flowers.serving.http import server

SHIPPED = Path(__file__).parents[3] / "params.yaml"


def settings() -> params.Params:
    return params.load(SHIPPED)


IMAGE = {"Content-Type": "image/png"}


def ask(port: int, method: str, place: str, body: bytes | None = None, headers=None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, place, body, headers or {})
        reply = connection.getresponse()
        return reply.status, reply.read()


@pytest.fixture
def started(monkeypatch):
    """The server as it runs, on a free port, in a thread, with a stand-in for the network; and the logged lines."""
    application = server._server  # the one that `serve` makes
    made, lines = [], []

    def noted(*arguments):
        made.append(application(*arguments))
        return made[-1]

    monkeypatch.setattr(server, "_server", noted)
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)  # belongs to the main thread
    monkeypatch.setattr(models, "choose", lambda *_: models.Chosen(ByColour(), "a stand-in"))
    monkeypatch.setattr(server.console, "say", lines.append)
    monkeypatch.setattr(server._log, "info", lambda text, *values: lines.append(text % values))
    thread = threading.Thread(target=server.serve, args=(settings, None, "127.0.0.1", 0, None))
    thread.start()
    deadline = time.monotonic() + 20
    while not lines or not made or not made[0].started:
        assert thread.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    yield int(re.search(r":(\d+)/docs", lines[0])[1]), lines
    made[0].should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def raw(port: int, content: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(content)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
        return received


def test_photos_are_answered_on_the_port_and_a_line_tells_of_each(started):
    port, lines = started
    status, body = ask(port, "POST", "/predict", RED, IMAGE)
    assert (status, json.loads(body)["label"]) == (200, "rose")
    assert ask(port, "GET", "/a%0Ab?secret=1")[0] == 404
    deadline = time.monotonic() + 20
    while len(lines) < 3 and time.monotonic() < deadline:  # a line follows its answer
        time.sleep(0.01)
    assert re.fullmatch(r"POST /predict 200 \d+ ms", lines[1])
    assert re.fullmatch(r"GET /a%0Ab 404 \d+ ms", lines[2])


def test_what_is_not_http_and_what_is_too_large_are_answered_in_the_same_form(started):
    port, _ = started
    reply = raw(port, b"hello\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 400 ") and json.loads(reply.split(b"\r\n\r\n")[1])["error"]
    status, body = ask(port, "POST", "/predict", bytes(17_000_000), IMAGE)
    assert status == 413 and "16 MB" in json.loads(body)["error"]
    assert ask(port, "POST", "/predict", GREEN, IMAGE)[0] == 200


def test_a_client_that_does_not_finish_its_first_lines_is_left(started, monkeypatch):
    port, _ = started
    monkeypatch.setattr(server, "_HEADERS", 0.1)
    assert raw(port, b"POST /predict HTTP/1.1\r\nHost: x\r\n") == b""
    assert raw(port, b"") == b""


def test_more_connections_than_a_bound_are_closed_and_those_before_are_answered(started, monkeypatch):
    port, _ = started
    monkeypatch.setattr(server, "_CONNECTIONS", 2)
    with contextlib.ExitStack() as held:
        _, second, third = (
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in range(3)
        )
        assert third.recv(1) == b""
        second.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert second.recv(12) == b"HTTP/1.1 200"
    assert ask(port, "GET", "/version")[0] == 200


def test_a_port_that_is_taken_is_one_line_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr(models, "choose", lambda *_: pytest.fail("loaded a model"))
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"^127.0.0.1:{port} cannot be served .*; try another --port$"):
            server.serve(settings, None, "127.0.0.1", port, None)


@pytest.mark.skipif(sys.platform != "linux", reason="others let nobody bind to a port that somebody has bound to")
def test_a_server_that_was_sooner_while_the_model_was_loaded_is_one_line(monkeypatch):
    other = socket.socket()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def loaded(*_):
        other.listen()
        return models.Chosen(ByColour(), "a stand-in")

    monkeypatch.setattr(models, "choose", loaded)
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    with other, pytest.raises(UserError, match=r"cannot be served \(Address already in use\)"):
        other.bind(("127.0.0.1", 0))
        server.serve(settings, None, "127.0.0.1", other.getsockname()[1], None)


def test_a_host_that_is_not_this_one_is_one_line(monkeypatch):
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    with pytest.raises(UserError, match=r"^192\.0\.2\.1:8000 cannot be served "):
        server.serve(settings, None, "192.0.2.1", 8000, None)


STAND_IN = """
from flowers import cli
from flowers.serving import models
from http_world import ByColour

models.choose = lambda *_: models.Chosen(ByColour(), "a stand-in")
cli.main()
"""


@contextlib.contextmanager
def process(*command: str):
    """`flowers serve` in a process, and its port. The test tells it to end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2] / "helpers"), *sys.path])}
    arguments = [sys.executable, *command, "serve", "--port", str(port)]
    running = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=os.environ | found)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                if ask(port, "GET", "/ping")[0] == 200:
                    break
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield running, port
    finally:
        running.kill()
        running.stderr.close()


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> None:
    """A checkout with the shipped parameters and a trained model of random weights."""
    from flowers.common import paths
    from flowers.model import classifier, keras_model, weights
    from flowers.model.feature_layer import FeatureLayer
    from flowers.model.trainable import TrainablePart

    (tmp_path / "params.yaml").write_bytes(SHIPPED.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tensors = weights.random_tensors()
    paths.WEIGHTS.parent.mkdir(parents=True)
    weights.write(tensors, paths.WEIGHTS)
    head = keras_model.head(3, (4,), 0.0, seed=0)
    description = classifier.Description(["NA", "rose", "tulip"], [4], 0.0, 0, "float32", weights.digest(tensors))
    classifier.save(paths.MODEL, description, TrainablePart(FeatureLayer(0), {}, head).get_tensors())
    yield
    paths.WEIGHTS.unlink()  # 100 MB, which pytest would keep


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_trained_model_is_served_until_the_signal(checkout):
    """Start, answers, bad inputs, hang-ups, and a signal while photos are computed, which are answered first."""
    many = json.dumps({"instances": [base64.b64encode(RED).decode()] * 64}).encode()
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(many)}"
    with process("-m", "flowers") as (running, port):
        first = ask(port, "POST", "/predict", RED, IMAGE)
        assert first[0] == 200 and json.loads(first[1])["label"] in ("NA", "rose", "tulip")
        for place, body, kind, status in (
            ("/predict", RED[:-200], "image/png", 400),
            ("/predict", b"hello", "image/jpeg", 400),
            ("/predict", RED, "text/plain", 415),
            ("/predict?x=1", RED, "image/png", 400),
            ("/invocations", b"{", "application/json", 400),
            ("/nowhere", b"", "image/png", 404),
        ):
            found, said = ask(port, "POST", place, body, {"Content-Type": kind})
            assert (found, list(json.loads(said))) == (status, ["error"])
        for _ in range(3):  # hang up while the network computes
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(f"{head}\r\n\r\n".encode() + many)
                time.sleep(0.1)
        assert ask(port, "POST", "/predict", RED, IMAGE)[0] == 200
        answered: list[int] = []
        json_body = {"Content-Type": "application/json"}
        waiting = threading.Thread(
            target=lambda: answered.append(ask(port, "POST", "/invocations", many, json_body)[0])
        )
        waiting.start()
        time.sleep(0.3)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=20)
        waiting.join()
    assert running.returncode == 0 and answered == [200]
    assert "Traceback" not in said and " 499 " in said
    assert all(re.fullmatch(r"(GET|POST) \S+ \d{3} \d+ ms", line) for line in said.splitlines() if "/docs" not in line)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_ctrl_c_ends_it_without_a_stack_trace(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_bytes(SHIPPED.read_bytes())
    monkeypatch.chdir(tmp_path)
    with process("-c", STAND_IN) as (running, _):
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)
    assert running.returncode == 0 and "Traceback" not in said
