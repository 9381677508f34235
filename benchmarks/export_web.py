"""The page of `flowers export web` in headless Chromium: seconds to the first answer and for each photo, and agreement.

    cd CHECKOUT && python PATH/benchmarks/export_web.py SITE [--photos 10]

The photos are test images of the checkout, as many of each class. Predictions are compared with those of the same
network outside of the browser on the pixels of training; pixels are compared with those of training.
"""

import argparse
import base64
import functools
import http.server
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scratch

from flowers.data import images
from flowers.serving import models
from flowers.serving.export import run
from flowers.training import subsets

RESULT = scratch.ROOT / "benchmarks" / "results" / "export_web.json"
ASK = """async ([content, size]) => {
  const { pixels } = await import("./page/pixels.js");
  const blob = new Blob([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))]);
  const start = performance.now();
  const found = await predictor.predict(blob);
  const seconds = (performance.now() - start) / 1000;
  return { ...found, seconds, pixels: Array.from(await pixels(blob, size)) };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--photos", type=int, default=10)
    options = parser.parse_args()
    model = models.load(options.site)
    chosen = run.spread(subsets.read("test"), model.size)[: options.photos]
    contents = [images.read(item.path) for item in chosen]
    pixels = [images.load(content, images.View(size=model.size)) for content in contents]
    expected = model.predict(np.stack(pixels)).probabilities
    with hosted(options.site) as address, page(address) as (tab, opened):
        answers = [tab.evaluate(ASK, [base64.b64encode(content).decode(), model.size]) for content in contents]
        first = time.perf_counter() - opened
    apart = [np.abs(np.reshape(found["pixels"], one.shape) - one) for found, one in zip(answers, pixels, strict=True)]
    labels = [model.classes[number] for number in expected.argmax(axis=1)]
    seconds = [found["seconds"] for found in answers]
    row: dict[str, Any] = {
        "size": model.size,
        "photos": len(chosen),
        "other_labels": sum(found["label"] != label for found, label in zip(answers, labels, strict=True)),
        "largest_difference": max(
            abs(found["probability"] - float(row.max())) for found, row in zip(answers, expected, strict=True)
        ),
        "pixels_mean_difference": float(np.mean([one.mean() for one in apart])),
        "pixels_largest_mean_difference": float(max(one.mean() for one in apart)),
        "seconds_loading_and_first": seconds[0],
        "seconds_median": float(np.median(seconds[1:])),
        "seconds_longest": max(seconds[1:]),
        "seconds_all": first,
        "megabytes": sum(file.stat().st_size for file in options.site.rglob("*") if file.is_file()) / 1e6,
        "machine": scratch.machine(),
    }
    print(json.dumps(row, indent=1))
    RESULT.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """The address of a static host of the folder, without any special header."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def page(address: str) -> Iterator[tuple[Any, float]]:
    """The page in Chromium, and when it was opened."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.set_default_timeout(60_000)
        opened = time.perf_counter()
        tab.goto(address)
        yield tab, opened
        browser.close()


if __name__ == "__main__":
    main()
