"""The server on a port, in a process of its own where that matters."""

import contextlib
import http.client
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from http_world import GREEN, RED, ByColour
from PIL import Image

from flowers.common.errors import UserError
from flowers.config import params
from flowers.serving import models
from flowers.serving.http import server
from flowers.serving.http.limits import Limits

SHIPPED = Path(__file__).parents[3] / "params.yaml"


def settings() -> params.Params:
    return params.load(SHIPPED)


IMAGE = {"Content-Type": "image/png"}


def ask(port: int, method: str, place: str, body: bytes | None = None, headers=None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, place, body, headers or {})
        reply = connection.getresponse()
        return reply.status, reply.read()


@pytest.fixture
def start(monkeypatch):
    """Start the server as it runs, on a free port, in a thread, with a stand-in model; returns the port."""
    create = server._server  # what `serve` calls
    made, lines = [], []

    def noted(*arguments):
        made.append(create(*arguments))
        return made[-1]

    monkeypatch.setattr(server, "_server", noted)
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)  # only the main thread may
    monkeypatch.setattr(models, "choose", lambda *_: (ByColour(), "a stand-in"))
    monkeypatch.setattr(server.console, "say", lines.append)
    threads = []

    def run(**limits) -> int:
        arguments = (settings, None, "127.0.0.1", 0, None, Limits(**limits))
        threads.append(threading.Thread(target=server.serve, args=arguments))
        threads[0].start()
        deadline = time.monotonic() + 20
        while not lines or not made or not made[0].started:
            assert threads[0].is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        return int(re.search(r":(\d+)/docs", lines[0])[1])

    yield run
    made[0].should_exit = True
    threads[0].join(20)
    assert not threads[0].is_alive()


def raw(port: int, *pieces: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.1)  # they arrive one by one
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
        return received


def test_images_are_scored_on_the_port_and_each_request_is_a_line_of_the_log(start, caplog):
    caplog.set_level(logging.INFO, "uvicorn.access")
    port = start()
    status, body = ask(port, "POST", "/predict", RED, IMAGE)
    assert (status, json.loads(body)["label"]) == (200, "rose")
    assert ask(port, "GET", "/a%0Ab")[0] == 404
    lines = [record.getMessage() for record in caplog.records if record.name == "uvicorn.access"]
    assert re.fullmatch(r'127\.0\.0\.1:\d+ - "POST /predict HTTP/1\.1" 200', lines[0])
    assert re.fullmatch(r'127\.0\.0\.1:\d+ - "GET /a%0Ab HTTP/1\.1" 404', lines[1])


def test_a_large_body_is_413_and_the_server_goes_on(start):
    port = start()
    status, body = ask(port, "POST", "/predict", bytes(17_000_000), IMAGE)
    assert status == 413 and "16 MB" in json.loads(body)["error"]
    assert ask(port, "POST", "/predict", GREEN, IMAGE)[0] == 200


@pytest.mark.parametrize("content", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000])
def test_a_request_that_is_not_http_or_has_huge_headers_is_400(start, content):
    port = start()
    assert raw(port, content).startswith(b"HTTP/1.1 400 ")
    assert ask(port, "GET", "/health")[0] == 200


REQUEST = b"GET /health HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("pieces", [[], [REQUEST], [REQUEST + b"\r\n", REQUEST]], ids=["nothing", "first", "second"])
def test_a_client_that_does_not_finish_its_headers_is_disconnected(start, pieces):
    port = start(seconds=0.5)
    assert raw(port, *pieces).count(b"HTTP/1.1 200") == max(len(pieces) - 1, 0)
    assert ask(port, "GET", "/health")[0] == 200


def test_a_client_whose_request_takes_long_is_not_disconnected(start, monkeypatch):
    model = ByColour()
    monkeypatch.setattr(models, "choose", lambda *_: (model, "a slow one"))
    port = start(seconds=0.5)
    model.open.clear()
    timer = threading.Timer(4, model.open.set)
    timer.start()
    assert ask(port, "POST", "/predict", RED, IMAGE)[0] == 200
    timer.join()


def test_above_the_limit_of_connections_requests_are_503_until_others_leave(start):
    port = start(connections=3)
    with contextlib.ExitStack() as held:
        first, _, _ = (held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in range(3))
        first.sendall(REQUEST + b"\r\n")
        assert first.recv(12) == b"HTTP/1.1 503"
    deadline = time.monotonic() + 20
    while ask(port, "GET", "/health")[0] != 200:
        assert time.monotonic() < deadline


def test_many_silent_clients_do_not_keep_others_out_for_ever(start):
    port = start(connections=20, seconds=0.5)
    with contextlib.ExitStack() as held:
        for _ in range(50):
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)).sendall(REQUEST)
        deadline = time.monotonic() + 20
        while ask(port, "GET", "/health")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_port_in_use_is_an_error_before_the_model_is_loaded(monkeypatch):
    monkeypatch.setattr(models, "choose", lambda *_: pytest.fail("loaded a model"))
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"^127.0.0.1:{port} cannot be served .*; try another --port$"):
            server.serve(settings, None, "127.0.0.1", port, None)


def test_a_host_that_is_not_this_one_is_an_error(monkeypatch):
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    with pytest.raises(UserError, match=r"^192\.0\.2\.1:8000 cannot be served "):
        server.serve(settings, None, "192.0.2.1", 8000, None)


STAND_IN = """
from flowers import cli
from flowers.serving import models
from http_world import ByColour

models.choose = lambda *_: (ByColour(), "a stand-in")
cli.main()
"""


@contextlib.contextmanager
def process(*command: str):
    """`flowers serve` in a process, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2] / "helpers"), *sys.path])}
    arguments = [sys.executable, *command, "serve", "--port", str(port)]
    running = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=os.environ | found)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                if ask(port, "GET", "/health")[0] == 200:
                    break
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield running, port
    finally:
        running.kill()
        running.wait(20)
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
@pytest.mark.usefixtures("checkout")
def test_a_trained_model_is_served_until_sigterm():
    """Start, predictions, bad requests, hang-ups, and a signal while images are scored, which is finished first."""
    request = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(RED)}\r\n\r\n"
    with process("-m", "flowers") as (running, port):
        first = ask(port, "POST", "/predict", RED, IMAGE)
        assert first[0] == 200 and json.loads(first[1])["label"] in ("NA", "rose", "tulip")
        for place, body, kind, status in (
            ("/predict", RED[:-200], "image/png", 400),
            ("/predict", RED, "text/plain", 415),
            ("/predict?x=1", RED, "image/png", 400),
            ("/nowhere", b"", "image/png", 404),
        ):
            found, content = ask(port, "POST", place, body, {"Content-Type": kind})
            assert (found, list(json.loads(content))) == (status, ["error"])
        for _ in range(3):  # hang up while the network computes
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(request.encode() + RED)
        with contextlib.ExitStack() as held:
            address = ("127.0.0.1", port)
            clients = [held.enter_context(socket.create_connection(address, timeout=60)) for _ in range(8)]
            for client in clients:
                client.sendall(request.encode() + RED)
            assert ask(port, "GET", "/health")[0] == 200  # connected last: the server has read the others
            running.send_signal(signal.SIGTERM)
            assert {client.recv(12) for client in clients} == {b"HTTP/1.1 200"}
        _, log = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "Traceback" not in log and log.count("POST /predict") >= 5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_ctrl_c_ends_it_without_a_stack_trace(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_bytes(SHIPPED.read_bytes())
    monkeypatch.chdir(tmp_path)
    with process("-c", STAND_IN) as (running, _):
        running.send_signal(signal.SIGINT)
        _, log = running.communicate(timeout=60)
    assert running.returncode == 0 and "Traceback" not in log


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")
def test_large_images_are_decoded_one_at_a_time_and_their_memory_is_given_back(tmp_path, monkeypatch):
    """51 megapixels with transparency take 0.41 GB twice while they are decoded; eight clients send them at once."""
    (tmp_path / "params.yaml").write_bytes(SHIPPED.read_bytes())
    monkeypatch.chdir(tmp_path)
    content = io.BytesIO()
    Image.new("RGBA", (7200, 7150)).save(content, "PNG", compress_level=1)
    with process("-c", STAND_IN) as (running, port):
        server, peak = psutil.Process(running.pid), 0
        before = server.memory_info().rss
        with ThreadPoolExecutor(8) as clients:
            replies = [clients.submit(ask, port, "POST", "/predict", content.getvalue(), IMAGE) for _ in range(16)]
            while not all(reply.done() for reply in replies):
                peak = max(peak, server.memory_info().rss)
                time.sleep(0.02)
        assert {reply.result()[0] for reply in replies} == {200}
        time.sleep(2)
        assert peak - before < 1e9
        assert server.memory_info().rss - before < 0.2e9
