"""The web page: its files, its errors, and how it works in a browser."""

import base64
import http.client
import io
import json
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from page_world import COLOURS, ByColour, image, not_explained, served
from PIL import Image

from flowers.model.predicted import Predicted, predicted
from flowers.serving.http import page

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def ask(url: str, path: str, body: bytes | None = None, method: str | None = None, headers=None) -> SimpleNamespace:
    """A response of the server; the path is sent as it is written."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(
            method or ("GET" if body is None else "POST"), path, body, headers or {"Content-Type": "image/jpeg"}
        )
        response = connection.getresponse()
        content = response.read()
        return SimpleNamespace(status=response.status, headers=response.headers, content=content)
    finally:
        connection.close()


def line(response: SimpleNamespace) -> str:
    """The line of an error; asserts that the response holds nothing else."""
    content = json.loads(response.content)
    assert list(content) == ["error"]
    assert "\n" not in content["error"]
    return content["error"]


def colour(jpeg: bytes) -> str:
    """The class whose colour an image has."""
    mean = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).mean(axis=(0, 1))
    return min(COLOURS, key=lambda name: np.linalg.norm(mean - COLOURS[name]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images of four classes, eight each, and the table of a split with two test images per class."""
    build = tmp_path_factory.mktemp("page") / "build"
    rows = ["path,label,subset"]
    for name in ("NA", "irises", "roses", "sunflowers"):
        (build / "images" / name).mkdir(parents=True)
        for number in range(8):
            (build / "images" / name / f"{number}.jpg").write_bytes(image(name, size=(64 + number, 64)))
            rows.append(f"{name}/{number}.jpg,{name},{'test' if number in (3, 5) else 'train'}")
    (build / "split.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return build / "images"


@pytest.fixture(scope="module")
def url(folder):
    with served(examples=folder) as url:
        yield url


def test_the_page_may_load_nothing_from_elsewhere(url):
    response = ask(url, "/")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/html")
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert set(policy["img-src"].split()) == {"'self'", "blob:", "data:"}
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_every_file_of_the_page_comes_from_its_own_server(url):
    text = ask(url, "/").content.decode()
    named = re.findall(r'(?:src|href)="([^"]+)"', text)
    files = [name for name in named if not name.startswith("data:")]
    assert files == ["page/page.css", "page/server.js", "page/page.js", "openapi.json"]
    kinds = ("text/css", "text/javascript", "text/javascript", "application/json")
    for name, kind in zip(files, kinds, strict=True):
        response = ask(url, f"/{name}")
        assert response.status == 200
        assert response.headers["Content-Type"].startswith(kind)
        text += response.content.decode()
    assert set(re.findall(r"(?:https?:)?//[\w.-]+\.[\w/]+", text)) == {"http://www.w3.org/2000/svg"}


def test_the_page_has_the_classes_and_the_threshold_as_text(url):
    text = ask(url, "/").content.decode()
    assert "roses, leaves, irises, NA, &lt;b&gt;café, sunflowers" in text
    assert 'data-threshold="0.6000"' in text
    assert "{{" not in text


def test_the_page_of_a_model_without_threshold_has_none():
    model = ByColour()
    model.threshold = None
    assert 'data-threshold=""' in page.index(model)


@pytest.mark.parametrize(
    "path",
    [
        *("/page/../page.py", "/page/%2e%2e/page.py", "/page/..%2fpage.py", "/page/index.html"),
        *("/page//etc/passwd", "/page/%2fetc%2fpasswd", "/page/page.js%00.css", "/examples/..%2f..%2fsplit.csv"),
        *("/examples/-1.jpg", "/examples/8.jpg", "/examples/0.png", "/examples/roses%2f0.jpg"),
    ],
)
def test_no_other_file_is_served(url, path):
    assert ask(url, path).status == 404


def test_examples_are_test_images_of_every_class(url, folder):
    listed = json.loads(ask(url, "/examples").content)
    assert [row["label"] for row in listed] == ["NA", "NA", "irises", "irises", "roses", "roses"] + ["sunflowers"] * 2
    for row, number in zip(listed, (3, 5) * 4, strict=True):
        response = ask(url, f"/{row['url']}")
        assert response.status == 200
        assert response.headers["Content-Type"] == "image/jpeg"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.content == (folder / row["label"] / f"{number}.jpg").read_bytes()


def test_without_a_split_examples_are_any_ten_images_that_a_browser_shows(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            (tmp_path / "images" / name / f"{number}.png").write_bytes(b"")
        (tmp_path / "images" / name / "0.tiff").write_bytes(b"")
    chosen = page.choose(tmp_path / "images")
    assert [(file.parent.name, file.name) for file in chosen] == [
        *(("a", f"{number}.png") for number in range(4)),
        *(("b", f"{number}.png") for number in range(3)),
        *(("c", f"{number}.png") for number in range(3)),
    ]


def test_examples_of_many_classes_are_spread_over_them(tmp_path):
    for number in range(102):
        (tmp_path / "images" / f"{number:03d}").mkdir(parents=True)
        (tmp_path / "images" / f"{number:03d}" / "x.JPG").write_bytes(b"")
    labels = [int(file.parent.name) for file in page.choose(tmp_path / "images")]
    assert len(set(labels)) == 10
    assert min(np.diff(labels)) >= 10


def test_a_deleted_example_is_404_without_its_path(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "0.png").write_bytes(image("roses", "PNG"))
    with served(examples=tmp_path / "images") as url:
        (tmp_path / "images" / "a" / "0.png").unlink()
        response = ask(url, "/examples/0.jpg")
    assert response.status == 404
    assert "cannot be read" in line(response)
    assert str(tmp_path) not in line(response)


def test_without_a_folder_there_are_no_examples():
    with served() as url:
        assert json.loads(ask(url, "/examples").content) == []


@pytest.mark.parametrize("label", ["leaves", "<b>café"])
def test_an_explanation_is_of_the_class_in_the_query(url, label):
    response = ask(url, f"/explain?label={quote(label)}", image("roses", "PNG"))
    assert response.status == 200
    assert response.headers["Content-Type"] == "image/jpeg"
    assert colour(response.content) == label


def test_an_explanation_without_a_class_is_of_the_best_one(url):
    assert colour(ask(url, "/explain", image("irises")).content) == "irises"


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/explain", b"hello", 400, "not an image"),
        ("/explain", image("roses")[:400], 400, "truncated"),
        ("/explain?label=weeds", image("roses"), 404, "weeds"),
        ("/explain?label=" + "a%0A" * 200, image("roses"), 404, "no class"),
    ],
)
def test_an_explanation_that_cannot_be_made_is_an_error_in_a_line(url, path, body, status, reason):
    response = ask(url, path, body)
    assert response.status == status
    assert reason in line(response)
    assert len(line(response)) < 250


def test_an_explanation_of_another_content_type_is_415(url):
    response = ask(url, "/explain", image("roses"), headers={"Content-Type": "text/plain"})
    assert response.status == 415 and "/explain" in line(response)


def test_an_explanation_of_an_exported_network_is_409():
    with served(explain=not_explained) as url:
        response = ask(url, "/explain", image("roses"))
    assert response.status == 409
    assert line(response) == "an exported network cannot be explained"


class Gate:
    """An explanation that waits until it may end, and counts how many are made at the same time."""

    def __init__(self) -> None:
        self.may_end, self.begun = threading.Event(), threading.Event()
        self.most = self.now = self.made = 0

    def __call__(self, model, pixels: np.ndarray, number: int) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.set()
        assert self.may_end.wait(20)
        self.now, self.made = self.now - 1, self.made + 1
        return image("roses")


def test_opening_the_page_starts_a_first_explanation():
    gate = Gate()
    with served(explain=gate) as url:
        assert ask(url, "/health").status == 200 and not gate.begun.is_set()
        assert ask(url, "/").status == 200
        assert gate.begun.wait(20)
        assert ask(url, "/").status == 200  # meanwhile
        gate.may_end.set()
    assert gate.made == 1


def test_the_explanations_of_clients_that_hang_up_are_not_made():
    gate = Gate()
    with served(explain=gate) as url, ThreadPoolExecutor(1) as client:
        clients = [http.client.HTTPConnection(urlsplit(url).netloc, timeout=20) for _ in range(8)]
        for each in clients:
            each.request("POST", "/explain", image("roses"), {"Content-Type": "image/jpeg"})
        assert gate.begun.wait(20)
        for each in clients[1:]:
            each.close()
        deadline = time.monotonic() + 20
        while (late := client.submit(ask, url, "/explain", image("roses"))) in wait([late], timeout=0.5).done:
            assert late.result().status == 503 and time.monotonic() < deadline
        gate.may_end.set()
        assert late.result().status == 200
        assert clients[0].getresponse().read() == image("roses")
        clients[0].close()
    assert gate.made < 8


def test_explanations_are_made_one_at_a_time_and_too_many_are_503():
    gate = Gate()
    with served(explain=gate) as url, ThreadPoolExecutor(20) as clients:
        responses = [clients.submit(ask, url, "/explain", image("roses")) for _ in range(20)]
        refusals = []
        while len(refusals) < 12:  # 8 wait for the gate
            time.sleep(0.01)
            refusals = [response for response in responses if response.done()]
        gate.may_end.set()
        found = [response.result() for response in responses]
        assert ask(url, "/explain", image("roses")).status == 200  # there is room again
    assert sorted(response.status for response in found) == [200] * 8 + [503] * 12
    refusal = refusals[0].result()
    assert "try again" in line(refusal)
    assert int(refusal.headers["Retry-After"]) > 0
    assert gate.most == 1


DESKTOP = {"viewport": {"width": 1200, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}

DROP = """([name, type, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], name, { type }));
  const at = document.getElementById("images");
  for (const kind of ["dragover", "drop"])
    at.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: dropped }));
}"""

PASTE = """([name, type, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const pasted = new DataTransfer();
  pasted.items.add(new File([bytes], name, { type }));
  document.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, clipboardData: pasted }));
}"""


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make extras")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


class Visit:
    """The page in a browser, with the hosts of its requests and the lines of its console."""

    def __init__(self, browser, url: str, **options) -> None:
        self.tab = browser.new_context(reduced_motion="reduce", **options).new_page()
        self.tab.set_default_timeout(10_000)
        self.hosts, self.complaints = set(), []
        self.tab.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.goto(url)

    def give(self, script: str, name: str, content: bytes, kind: str = "image/jpeg") -> None:
        self.tab.evaluate(script, [name, kind, base64.b64encode(content).decode()])

    def prediction(self, label: str) -> list[tuple[str, str]]:
        """The names and probabilities of the bars, once they are for this label."""
        self.tab.wait_for_function("label => document.querySelector('#label strong')?.textContent === label", arg=label)
        rows = self.tab.locator("#best li")
        return list(zip(rows.locator(".name").all_inner_texts(), rows.locator(".value").all_inner_texts(), strict=True))

    def explained(self, label: str) -> str:
        """The class whose colour the overlay has, once it is there for this label."""
        self.tab.wait_for_function(
            "label => document.getElementById('reason').textContent === `Regions that support ${label}`", arg=label
        )
        return self.painted("overlay")

    def painted(self, image: str) -> str:
        """The class whose colour an image on the page has."""
        pixel = self.tab.evaluate(PIXEL, image)
        return min(COLOURS, key=lambda name: np.linalg.norm(np.subtract(pixel, COLOURS[name])))

    def error(self) -> str:
        """The error, once it is on the page."""
        self.tab.wait_for_selector("#error:not([hidden])")
        return self.tab.inner_text("#error")


PIXEL = """async (id) => {
  const image = document.getElementById(id);
  await image.decode();
  const context = new OffscreenCanvas(1, 1).getContext("2d");
  context.drawImage(image, 0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}"""


WIDTHS = """() => [...document.querySelectorAll(".bar")].map(
  (bar) => bar.firstChild.getBoundingClientRect().width / bar.getBoundingClientRect().width
)"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_photos_are_dropped_pasted_chosen_and_explained(browser, url, size):
    visit = Visit(browser, url, **size)
    visit.give(DROP, "a.jpg", image("irises"))
    bars = visit.prediction("irises")
    assert len(bars) == 5
    assert bars[0][0] == "irises"
    shares = [float(value.strip("<>\u00a0%")) for _, value in bars]
    assert shares == sorted(shares, reverse=True)
    widths = visit.tab.evaluate(WIDTHS)
    assert [100 * width for width in widths] == pytest.approx(shares, abs=1)
    assert visit.tab.is_hidden("#low")
    assert visit.painted("original") == visit.explained("irises") == "irises"

    visit.tab.click("#best button:has-text('NA')")
    assert visit.explained("NA") == "NA"

    visit.tab.click("#strip button >> nth=7")
    visit.prediction("sunflowers")
    assert visit.explained("sunflowers") == "sunflowers"
    assert visit.tab.inner_text("#caption") == "labelled sunflowers"

    if size is PHONE:  # the images lie on each other there
        assert (visit.tab.is_visible("#original"), visit.tab.is_visible("#overlay")) == (True, False)
        visit.tab.check("#switch")
        assert (visit.tab.is_visible("#original"), visit.tab.is_visible("#overlay")) == (False, True)
    else:
        assert (visit.tab.is_visible("#original"), visit.tab.is_visible("#overlay")) == (True, True)
    assert visit.tab.is_visible("text=Take a photo") == (size is PHONE)
    width = visit.tab.evaluate("document.documentElement.scrollWidth")
    assert width == size["viewport"]["width"]  # nothing to scroll sideways
    assert visit.complaints == []

    visit.tab.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
    assert visit.error().startswith("notes.txt: not an image of a known format")
    assert visit.tab.locator("#error").evaluate("it => it.getBoundingClientRect().top >= 0")
    assert visit.tab.locator("#best li").count() == 0
    assert visit.tab.is_hidden("#original")
    assert len(visit.complaints) == 1 and "400" in visit.complaints[0]  # Chromium's own line about the error

    visit.give(PASTE, "b.png", image("roses", "PNG"), "image/png")
    visit.prediction("roses")
    assert visit.tab.is_hidden("#error")
    assert visit.hosts - {""} == {urlsplit(url).netloc}  # blob: and data: have no host


@pytest.mark.slow
def test_a_large_photo_is_sent_small_and_upright_and_a_small_one_as_it_is(browser):
    top_red = Image.new("RGB", (3000, 2000), COLOURS["roses"])
    top_red.paste(COLOURS["leaves"], (1500, 0, 3000, 2000))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: what is left in the file is at the top
    large = io.BytesIO()
    top_red.save(large, "JPEG", exif=exif)
    sent: list[bytes] = []
    with served(sent=sent) as url:
        visit = Visit(browser, url, **PHONE)
        visit.give(DROP, "large.jpg", large.getvalue())
        visit.tab.wait_for_selector("#best li")
        visit.give(DROP, "small.jpg", image("irises"))
        visit.prediction("irises")
    small = Image.open(io.BytesIO(sent[0]))
    assert (small.format, small.size) == ("JPEG", (683, 1024))
    assert not small.getexif()
    assert small.getpixel((340, 100)) == pytest.approx(COLOURS["roses"], abs=6)
    assert small.getpixel((340, 900)) == pytest.approx(COLOURS["leaves"], abs=6)
    assert sent[1] == image("irises")


@pytest.mark.slow
def test_the_page_of_an_exported_network_has_no_overlays(browser, folder):
    with served(explain=not_explained, examples=folder) as url:
        visit = Visit(browser, url, **PHONE)
        visit.tab.click("#strip button >> nth=0")
        visit.prediction("NA")
        visit.tab.wait_for_selector("body.no-overlay")
        assert visit.tab.is_hidden("#switch") and visit.tab.is_hidden("#overlay")
        assert visit.tab.is_visible("#original")
        assert visit.tab.is_disabled("#best button >> nth=0")


@pytest.fixture
def telling(tmp_path) -> ByColour:
    """A model that finds leaves unknown, and most like irises, with an image of irises and of no other class."""

    class Telling(ByColour):
        def predict(self, images: np.ndarray) -> Predicted:
            probabilities = self.probabilities(images)
            known = probabilities.argmax(axis=1) != list(COLOURS).index("leaves")
            order = np.array([0, 1, 5, 2, 3, 4], np.float32)  # irises, then <b>café, then NA... from the end
            return predicted(probabilities, np.where(known[:, None], 9, order - 10), 0.0)

    model = Telling()
    model.examples = tmp_path
    (tmp_path / f"{list(COLOURS).index('irises')}.jpg").write_bytes(image("irises"))
    return model


def test_the_typical_image_of_a_class_is_served(telling):
    with served(model=telling) as url:
        found = ask(url, "/typical?label=irises")
        assert (found.status, found.headers["content-type"]) == (200, "image/jpeg") and colour(
            found.content
        ) == "irises"
        assert [ask(url, f"/typical?label={name}").status for name in ("roses", "lost", "../irises", "")] == [404] * 4
        assert ask(url, "/typical").status == 400
        prediction = json.loads(ask(url, "/predict", image("leaves")).content)
        assert prediction["known"] is False and prediction["novelty"] > 0 and prediction["nearest"][0] == "irises"
    with served() as url:
        assert ask(url, "/typical?label=irises").status == 404


@pytest.mark.slow
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_an_unknown_photo_is_shown_with_the_nearest_classes(browser, telling, size):
    with served(model=telling) as url:
        visit = Visit(browser, url, **size)
        visit.give(DROP, "a.jpg", image("leaves"))
        visit.tab.wait_for_selector("#nearest img")
        assert visit.tab.inner_text("#label").strip() == "Not one of the flowers it knows"
        assert visit.tab.locator("#nearest li").all_inner_texts()[0] == "irises"
        assert visit.tab.is_visible("#foreign") and visit.tab.is_hidden("#low") and visit.tab.is_hidden("#best")
        assert visit.tab.evaluate("document.documentElement.scrollWidth") == size["viewport"]["width"]
        visit.give(DROP, "b.jpg", image("roses"))
        visit.prediction("roses")
        assert visit.tab.is_hidden("#foreign") and visit.tab.is_hidden("#nearest") and visit.tab.is_visible("#best")


@pytest.mark.slow
def test_low_confidence_and_a_stopped_server_are_shown(browser):
    model = ByColour()
    model.threshold = 1.0  # no prediction reaches it
    with served(model=model) as url:
        visit = Visit(browser, url, **DESKTOP)
        visit.give(DROP, "a.png", image("roses", "PNG", (1, 1)), "image/png")
        visit.prediction("roses")
        assert visit.tab.is_visible("#low")
        assert "Low confidence" in visit.tab.inner_text("#low")
    visit.give(DROP, "a.png", image("roses", "PNG"), "image/png")
    assert "no response from the server" in visit.error()
