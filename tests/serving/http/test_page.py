"""The page for people: what it serves, what it refuses, and how it works in a browser."""

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
from page_world import COLOURS, ByColour, photo, refused, served
from PIL import Image

from flowers.serving.http import page

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def ask(url: str, path: str, body: bytes | None = None, method: str | None = None, headers=None) -> SimpleNamespace:
    """An answer of the server; the path is sent as it is written."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(
            method or ("GET" if body is None else "POST"), path, body, headers or {"Content-Type": "image/jpeg"}
        )
        answer = connection.getresponse()
        content = answer.read()
        return SimpleNamespace(status=answer.status, headers=answer.headers, content=content)
    finally:
        connection.close()


def line(answer: SimpleNamespace) -> str:
    """The line of an error, which is all that its answer holds."""
    told = json.loads(answer.content)
    assert list(told) == ["error"]
    assert "\n" not in told["error"]
    return told["error"]


def colour(jpeg: bytes) -> str:
    """The class whose colour a picture has."""
    mean = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).mean(axis=(0, 1))
    return min(COLOURS, key=lambda name: np.linalg.norm(mean - COLOURS[name]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Photos of four classes, eight each, and the table of a split that calls two of each class test photos."""
    build = tmp_path_factory.mktemp("page") / "build"
    rows = ["path,label,subset"]
    for name in ("NA", "irises", "roses", "sunflowers"):
        (build / "images" / name).mkdir(parents=True)
        for number in range(8):
            (build / "images" / name / f"{number}.jpg").write_bytes(photo(name, size=(64 + number, 64)))
            rows.append(f"{name}/{number}.jpg,{name},{'test' if number in (3, 5) else 'train'}")
    (build / "split.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return build / "images"


@pytest.fixture(scope="module")
def url(folder):
    with served(examples=folder) as url:
        yield url


def test_the_page_may_load_nothing_from_elsewhere(url):
    answer = ask(url, "/")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert set(policy["img-src"].split()) == {"'self'", "blob:", "data:"}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_all_that_the_page_names_is_there_and_its_own(url):
    text = ask(url, "/").content.decode()
    named = re.findall(r'(?:src|href)="([^"]+)"', text)
    assets = [name for name in named if not name.startswith("data:")]
    assert assets == ["page/page.css", "page/page.js"]
    for name, kind in zip(assets, ("text/css", "text/javascript"), strict=True):
        answer = ask(url, f"/{name}")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(kind)
        text += answer.content.decode()
    assert set(re.findall(r"(?:https?:)?//[\w.-]+\.[\w/]+", text)) == {"http://www.w3.org/2000/svg"}


def test_the_page_names_the_classes_and_the_threshold_as_text(url):
    text = ask(url, "/").content.decode()
    assert "roses, leaves, irises, NA, &lt;b&gt;café, sunflowers" in text
    assert 'data-threshold="0.6000"' in text
    assert "{{" not in text


def test_without_a_threshold_the_page_has_none():
    model = ByColour()
    model.threshold = None
    assert 'data-threshold=""' in page.index(model)


@pytest.mark.parametrize(
    "path",
    [
        *("/page/../page.py", "/page/%2e%2e/page.py", "/page/..%2fpage.py", "/page/..%2f..%2fimages.py"),
        *("/page/index.html", "/page//etc/passwd", "/page/%2fetc%2fpasswd", "/page/page.js%00.css", "/page/"),
        *("/examples/..%2f..%2fsplit.csv", "/examples/../../split.csv", "/examples/-1.jpg", "/examples/8.jpg"),
        *("/examples/0.png", "/examples/0", "/examples/roses%2f0.jpg", "/examples/00.jpg"),
    ],
)
def test_no_other_file_is_served(url, path):
    assert ask(url, path).status == 404


def test_examples_are_test_photos_of_every_class(url, folder):
    listed = json.loads(ask(url, "/examples").content)
    assert [row["label"] for row in listed] == ["NA", "NA", "irises", "irises", "roses", "roses"] + ["sunflowers"] * 2
    for row, number in zip(listed, (3, 5) * 4, strict=True):
        answer = ask(url, f"/{row['url']}")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.content == (folder / row["label"] / f"{number}.jpg").read_bytes()


def test_without_a_split_examples_are_any_ten_photos_that_a_browser_shows(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            (tmp_path / "images" / name / f"{number}.png").write_bytes(b"")
        (tmp_path / "images" / name / "0.tiff").write_bytes(b"")
    chosen = page.choose(tmp_path / "images")
    assert [(example.label, example.file.name) for example in chosen] == [
        *(("a", f"{number}.png") for number in range(4)),
        *(("b", f"{number}.png") for number in range(3)),
        *(("c", f"{number}.png") for number in range(3)),
    ]


def test_of_many_classes_examples_show_ten_from_first_to_last(tmp_path):
    for number in range(102):
        (tmp_path / "images" / f"{number:03d}").mkdir(parents=True)
        (tmp_path / "images" / f"{number:03d}" / "x.JPG").write_bytes(b"")
    labels = [int(example.label) for example in page.choose(tmp_path / "images")]
    assert len(set(labels)) == 10
    assert min(np.diff(labels)) >= 10


def test_an_example_that_has_gone_is_told_in_a_line(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "0.png").write_bytes(photo("roses", "PNG"))
    with served(examples=tmp_path / "images") as url:
        (tmp_path / "images" / "a" / "0.png").unlink()
        answer = ask(url, "/examples/0.jpg")
    assert answer.status == 404
    assert "cannot be read" in line(answer)
    assert str(tmp_path) not in line(answer)


def test_without_a_folder_there_are_no_examples():
    with served() as url:
        assert json.loads(ask(url, "/examples").content) == []


@pytest.mark.parametrize("label", COLOURS)
def test_an_explanation_is_of_the_class_that_is_named(url, label):
    answer = ask(url, f"/explain?label={quote(label)}", photo("roses", "PNG"))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert colour(answer.content) == label


def test_an_explanation_without_a_name_is_of_the_best_class(url):
    assert colour(ask(url, "/explain", photo("irises")).content) == "irises"


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/explain", b"hello", 400, "not an image"),
        ("/explain", b"", 400, "empty"),
        ("/explain", photo("roses")[:400], 400, "truncated"),
        ("/explain", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400, "not an image"),
        ("/explain?label=weeds", photo("roses"), 404, "weeds"),
        ("/explain?label=" + "a%0A" * 200, photo("roses"), 404, "no class"),
    ],
)
def test_what_cannot_be_explained_is_told_in_a_line(url, path, body, status, reason):
    answer = ask(url, path, body)
    assert answer.status == status
    assert reason in line(answer)
    assert len(line(answer)) < 250


def test_what_says_that_it_is_no_photo_is_not_explained(url):
    answer = ask(url, "/explain", photo("roses"), headers={"Content-Type": "text/plain"})
    assert answer.status == 415 and "/explain" in line(answer)


def test_a_network_that_cannot_be_explained_says_so():
    with served(explain=refused) as url:
        answer = ask(url, "/explain", photo("roses"))
    assert answer.status == 409
    assert line(answer) == "an exported network cannot be explained"


class Gate:
    """An explanation that waits until it may end, and notes how many are made at the same time."""

    def __init__(self) -> None:
        self.may_end, self.begun = threading.Event(), threading.Event()
        self.most = self.now = self.made = 0

    def __call__(self, model, pixels: np.ndarray, number: int) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.set()
        assert self.may_end.wait(20)
        self.now, self.made = self.now - 1, self.made + 1
        return photo("roses")


def test_the_first_explanation_is_made_when_the_page_is_opened_before_anybody_asks_for_one():
    gate = Gate()
    with served(explain=gate) as url:
        assert ask(url, "/ping").status == 200 and not gate.begun.is_set()
        assert ask(url, "/").status == 200
        assert gate.begun.wait(20)
        assert ask(url, "/").status == 200  # the server answers meanwhile
        gate.may_end.set()
    assert gate.made == 1


def test_explanations_that_nobody_waits_for_give_their_places_back():
    gate = Gate()
    with served(explain=gate) as url, ThreadPoolExecutor(1) as client:
        clients = [http.client.HTTPConnection(urlsplit(url).netloc, timeout=20) for _ in range(8)]
        for each in clients:
            each.request("POST", "/explain", photo("roses"), {"Content-Type": "image/jpeg"})
        assert gate.begun.wait(20)
        for each in clients[1:]:
            each.close()
        deadline = time.monotonic() + 20
        while (late := client.submit(ask, url, "/explain", photo("roses"))) in wait([late], timeout=0.5).done:
            assert late.result().status == 503 and time.monotonic() < deadline
        gate.may_end.set()
        assert late.result().status == 200 and clients[0].getresponse().status == 200
    assert gate.made < 8


def test_explanations_are_made_one_at_a_time_and_too_many_are_refused():
    gate = Gate()
    with served(explain=gate) as url, ThreadPoolExecutor(20) as clients:
        answers = [clients.submit(ask, url, "/explain", photo("roses")) for _ in range(20)]
        refusals = []
        while len(refusals) < 12:  # 8 are waited for, and the gate is closed
            refusals = [answer for answer in answers if answer.done()]
        gate.may_end.set()
        found = [answer.result() for answer in answers]
        assert ask(url, "/explain", photo("roses")).status == 200  # there is room again
    assert sorted(answer.status for answer in found) == [200] * 8 + [503] * 12
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
  const at = document.getElementById("pictures");
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
    """The page in a browser: what is read on it, what it asked for, and what the console said."""

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

    def answer(self, label: str) -> list[tuple[str, str]]:
        """The names and probabilities of the bars, once they are of this label."""
        self.tab.wait_for_function("label => document.querySelector('#said strong')?.textContent === label", arg=label)
        rows = self.tab.locator("#best li")
        return list(zip(rows.locator(".name").all_inner_texts(), rows.locator(".value").all_inner_texts(), strict=True))

    def explained(self, label: str) -> str:
        """The class of which the overlay has the colour, once it is there for this label."""
        self.tab.wait_for_function(
            "label => document.getElementById('reason').textContent === `What speaks for ${label}`", arg=label
        )
        return self.painted("why")

    def painted(self, image: str) -> str:
        """The class of which a picture on the page has the colour."""
        pixel = self.tab.evaluate(PIXEL, image)
        return min(COLOURS, key=lambda name: np.linalg.norm(np.subtract(pixel, COLOURS[name])))

    def error(self) -> str:
        """The error, once it stands on the page."""
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
def test_a_person_asks_about_photos(browser, url, size):
    visit = Visit(browser, url, **size)
    visit.give(DROP, "a.jpg", photo("irises"))
    bars = visit.answer("irises")
    assert len(bars) == 5
    assert bars[0][0] == "irises"
    shares = [float(value.strip("<>\u00a0%")) for _, value in bars]
    assert shares == sorted(shares, reverse=True)
    widths = visit.tab.evaluate(WIDTHS)
    assert [100 * width for width in widths] == pytest.approx(shares, abs=1)
    assert visit.tab.is_hidden("#unsure")
    assert visit.painted("seen") == visit.explained("irises") == "irises"

    visit.tab.click("#best button:has-text('NA')")
    assert visit.explained("NA") == "NA"

    visit.tab.click("#strip button >> nth=7")
    visit.answer("sunflowers")
    assert visit.explained("sunflowers") == "sunflowers"
    assert visit.tab.inner_text("#caption") == "labelled sunflowers"

    if size is PHONE:  # one picture lies on the other there
        assert (visit.tab.is_visible("#seen"), visit.tab.is_visible("#why")) == (True, False)
        visit.tab.check("#switch")
        assert (visit.tab.is_visible("#seen"), visit.tab.is_visible("#why")) == (False, True)
    else:
        assert (visit.tab.is_visible("#seen"), visit.tab.is_visible("#why")) == (True, True)
    assert visit.tab.is_visible("text=Take a photo") == (size is PHONE)
    width = visit.tab.evaluate("document.documentElement.scrollWidth")
    assert width == size["viewport"]["width"]  # nothing to scroll sideways
    assert visit.complaints == []

    visit.tab.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
    assert visit.error().startswith("notes.txt: not an image of a known format")
    assert visit.tab.locator("#error").evaluate("it => it.getBoundingClientRect().top >= 0")
    assert visit.tab.locator("#best li").count() == 0
    assert visit.tab.is_hidden("#seen")
    assert len(visit.complaints) == 1 and "400" in visit.complaints[0]  # Chromium's own line about the answer

    visit.give(PASTE, "b.png", photo("roses", "PNG"), "image/png")
    visit.answer("roses")
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
        visit.give(DROP, "small.jpg", photo("irises"))
        visit.answer("irises")
    small = Image.open(io.BytesIO(sent[0]))
    assert (small.format, small.size) == ("JPEG", (683, 1024))
    assert not small.getexif()
    assert small.getpixel((340, 100)) == pytest.approx(COLOURS["roses"], abs=6)
    assert small.getpixel((340, 900)) == pytest.approx(COLOURS["leaves"], abs=6)
    assert sent[1] == photo("irises")


@pytest.mark.slow
def test_without_explanations_the_page_does_without_their_place(browser, folder):
    with served(explain=refused, examples=folder) as url:
        visit = Visit(browser, url, **PHONE)
        visit.tab.click("#strip button >> nth=0")
        visit.answer("NA")
        visit.tab.wait_for_selector("body.no-why")
        assert visit.tab.is_hidden("#switch") and visit.tab.is_hidden("#why")
        assert visit.tab.is_visible("#seen")
        assert visit.tab.is_disabled("#best button >> nth=0")


@pytest.mark.slow
def test_an_unsure_answer_and_a_dead_server_are_told(browser):
    model = ByColour()
    model.threshold = 1.0  # no answer is as sure
    with served(model=model) as url:
        visit = Visit(browser, url, **DESKTOP)
        visit.give(DROP, "a.png", photo("roses", "PNG", (1, 1)), "image/png")
        visit.answer("roses")
        assert visit.tab.is_visible("#unsure")
        assert "Unsure" in visit.tab.inner_text("#unsure")
    visit.give(DROP, "a.png", photo("roses", "PNG"), "image/png")
    assert "does not answer" in visit.error()
