"""The page without a server: its files, and its predictions in a browser."""

import base64
import functools
import http.server
import io
import json
import shutil
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
from export_world import CLASSES, Small, given
from PIL import Image

from flowers.common.errors import UserError
from flowers.data import images
from flowers.serving import models
from flowers.serving.export import web_page

SIZE = 64


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A static host; `asked` are the requests that it got."""

    asked: list[str]

    def log_message(self, *_) -> None: ...

    def send_response(self, *arguments) -> None:
        self.asked.append(self.requestline)
        super().send_response(*arguments)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The page of a small network, in a folder of a host."""
    pytest.importorskip("ai_edge_litert")
    folder = tmp_path_factory.mktemp("host") / "some" / "flowers"
    folder.mkdir(parents=True)
    try:
        web_page.require()
    except UserError as error:
        pytest.skip(f"LiteRT.js: {error}")
    web_page.write(given(Small(threshold=0.4, size=SIZE), "web"), folder)
    return folder


@pytest.fixture
def hosted(site):
    """The page's address, and the requests for it; a function that stops the host."""
    asked: list[str] = []
    handler = type("Handler", (Quiet,), {"asked": asked})
    root = site.parents[1]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=root))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    yield f"http://127.0.0.1:{server.server_address[1]}/some/flowers/", asked, stop
    if thread.is_alive():
        stop()


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make extras")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    with driver.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


def photos() -> list[bytes]:
    """Ten photos of many sizes, as JPEG and PNG, one of them turned by its EXIF and one transparent."""
    random, found = np.random.default_rng(5), []
    for number in range(10):
        width, height = random.integers(40, 400, 2)
        colour = np.roll([0, 90, 199], number) * random.uniform(0.3, 1, 3)
        noise = random.integers(0, 56, (height // 8 + 1, width // 8 + 1, 3))
        picture = Image.fromarray((colour + noise).astype(np.uint8)).resize((int(width), int(height)))
        if number == 1:
            picture.putalpha(90)
        stream, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = 6
        if number % 2:
            picture.save(stream, "PNG")
        else:
            picture.save(stream, "JPEG", quality=95, exif=exif if number == 2 else b"")
        found.append(stream.getvalue())
    return found


PREDICT = """async (content) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  return await predictor.predict(new Blob([bytes]));
}"""
PIXELS = """async ([content, size]) => {
  const { pixels } = await import("./page/pixels.js");
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  return Array.from(await pixels(new Blob([bytes]), size));
}"""


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.slow
def test_ten_photos_get_the_label_that_predict_gives_and_go_nowhere(browser, site, hosted):
    address, asked, _ = hosted
    model = models.load(site)  # the folder is a model, too
    tab = browser.new_page()
    complaints: list[str] = []
    hosts: set[str] = set()
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    tab.goto(address)
    expected = model.probabilities(np.stack([images.load(photo, images.View(size=SIZE)) for photo in photos()]))
    assert len(set(expected.argmax(axis=1))) > 1
    for photo, row in zip(photos(), expected, strict=True):
        found = tab.evaluate(PREDICT, text(photo))
        assert found["label"] == CLASSES[int(row.argmax())]
        assert found["probability"] == pytest.approx(float(row.max()), abs=0.02)
        assert found["unsure"] == bool(row.max() < 0.4)
        assert [one["label"] for one in found["best"]] == [CLASSES[number] for number in np.argsort(-row)]
    assert complaints == []
    assert hosts - {""} == {urlsplit(address).netloc}
    assert {line.split()[0] for line in asked} == {"GET"}
    tab.close()


@pytest.mark.slow
def test_the_page_works_offline_after_the_first_visit(browser, hosted):
    address, _, stop = hosted
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(address)
    tab.evaluate("navigator.serviceWorker.ready.then(() => true)")
    before = tab.evaluate(PREDICT, text(photos()[0]))
    stop()
    tab.goto(address)
    tab.set_input_files("#file", {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photos()[0]})
    tab.wait_for_function(
        "label => document.querySelector('#label strong')?.textContent === label", arg=before["label"]
    )
    assert tab.locator("#best li").count() == 3
    assert tab.is_visible("#original") and tab.is_hidden("#overlay") and tab.is_disabled("#best button >> nth=0")
    assert "does not leave this device" in tab.inner_text("header")
    assert CLASSES[1] in tab.locator("footer p >> nth=0").text_content()
    tab.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
    tab.wait_for_selector("#error:not([hidden])")
    assert tab.inner_text("#error") == "notes.txt: this browser cannot read this kind of photo"
    context.close()


@pytest.mark.slow
def test_the_browser_makes_the_pixels_that_training_makes(browser, hosted):
    tab = browser.new_page()
    tab.goto(hosted[0])
    for number, photo in enumerate(photos()):
        wanted = images.load(photo, images.View(size=SIZE)).astype(int)
        found = np.reshape(tab.evaluate(PIXELS, [text(photo), SIZE]), (SIZE, SIZE, 3))
        if number % 2:  # PNG: there is one way to decode it; transparency may be rounded
            assert np.abs(found - wanted).max() <= (1 if number == 1 else 0)
        else:  # browsers spread the colours of a JPEG over the pixels in ways of their own
            assert np.abs(found - wanted).mean() < 3
    tab.close()


@pytest.mark.slow
def test_the_page_names_no_other_host_and_its_classes_as_they_are(site):
    about = json.loads((site / "model.json").read_text(encoding="utf-8"))
    assert about == {"classes": CLASSES, "size": SIZE, "threshold": 0.4}
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "{{" not in page and "connect-src 'self'" in page and "<b>&" not in page
    worker = (site / "worker.js").read_text(encoding="utf-8")
    assert "{{" not in worker
    named = json.loads(worker.partition("FILES = ")[2].partition(";")[0])
    assert {"./", "model.tflite", "runtime/litert.js", "page/local.js"} <= {*named}
    assert all((site / name).exists() for name in named)
