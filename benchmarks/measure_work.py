"""Timings of inference, each function in a process of its own, in a folder that scratch.world made."""

import contextlib
import http.client
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from flowers.common import paths
from flowers.config import params
from flowers.data import images
from flowers.serving import models, results, stream
from flowers.training import subsets

IMAGE = {"Content-Type": "image/jpeg"}  # of any format: the server reads the content


def train(int8: str | None) -> dict[str, Any]:
    """Train a head for a few epochs; with `int8`, export the model to that folder, too."""
    from flowers.stages import train as stage

    settings = params.load()
    plain = settings.augmentation.model_copy(update={"views": 0})
    schedule = settings.train.model_copy(update={"epochs": 10})
    stage.run(settings.model, settings.head, plain, schedule)
    if int8:
        command = [sys.executable, "-m", "flowers", "export", "openvino-int8", int8, "--model", str(paths.MODEL)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return {}


def folder(model: str, count: int, repeats: int) -> dict[str, Any]:
    """Seconds from files to predictions, for `count` images."""
    chosen, files = models.load(Path(model)), _files(count)

    def predict() -> None:
        for batch in stream.batches(chosen, files, lambda file: file):
            assert not any(batch.errors)
            results.table(chosen.classes, batch.predicted, chosen.threshold)

    _warm(chosen, files)
    return {"photos": len(files), "seconds": [_seconds(predict) for _ in range(repeats)]}


def alone(model: str, count: int) -> dict[str, Any]:
    """Seconds of the network itself for decoded images, one at a time; and images a second in full batches."""
    chosen, files = models.load(Path(model)), _files(max(count, 4 * stream.BATCH))
    pixels = np.stack([images.load(file) for file in files])
    _warm(chosen, files)
    single = [_seconds(partial(chosen.predict, pixels[row][None])) for row in range(count)]
    whole = len(files) // stream.BATCH * stream.BATCH

    def in_batches() -> None:
        for start in range(0, whole, stream.BATCH):
            chosen.predict(pixels[start : start + stream.BATCH])

    return {"seconds": single, "batches": whole / median(_seconds(in_batches) for _ in range(3))}


def served(model: str, alone: int, requests: int, clients: int) -> dict[str, Any]:
    """A server from its start: seconds to the first prediction and of single requests, and the rate of many clients."""
    contents = [file.read_bytes() for file in _files(max(alone, requests))]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "flowers", "serve", "--model", model, "--port", str(port)]
    start = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = _first_prediction(server, port, contents[0])
        first = time.perf_counter() - start
        latency = [_seconds(partial(_request, connection, image)) for image in contents[:alone]]
        connection.close()
        rate, errors = _together(port, itertools.islice(itertools.cycle(contents), requests), requests, clients)
    finally:
        server.terminate()
        server.wait()
    return {"first": first, "latency": latency, "rate": rate, "errors": errors, "clients": clients}


def _first_prediction(server: subprocess.Popen[bytes], port: int, image: bytes) -> http.client.HTTPConnection:
    while server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.suppress(ConnectionError):
            _request(connection, image)
            return connection
        time.sleep(0.05)
    raise SystemExit("the server ended before its first prediction")


def _together(port: int, contents: Iterator[bytes], requests: int, clients: int) -> tuple[float, int]:
    lock, errors = threading.Lock(), []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                image = next(contents, None)
            if image is None:
                return
            try:
                _request(connection, image)
            except (OSError, http.client.HTTPException, ValueError) as error:
                errors.append(error)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return requests / (time.perf_counter() - start), len(errors)


def _request(connection: http.client.HTTPConnection, image: bytes) -> None:
    connection.request("POST", "/predict", image, IMAGE)
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise ValueError(response.status)


def _files(count: int) -> list[Path]:
    """That many images' files, the same ones again where there are too few."""
    found = [paths.IMAGES / path for path in subsets.read("train", "val", "test").table["path"]]
    return list(itertools.islice(itertools.cycle(found), count))


def _warm(model: stream.Model, files: list[Path]) -> None:
    pixels = np.stack([images.load(file) for file in files[: stream.BATCH]])
    for given in (pixels, pixels, pixels[:1], pixels[:1]):
        model.predict(given)


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
